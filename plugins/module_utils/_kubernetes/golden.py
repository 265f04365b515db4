# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Golden answers asked of every pod, through the API server's proxy: no route into the pod network is needed."""

from __future__ import annotations

import json
import typing as t

from .._core.errors import ModelshipError
from .._core.progress import Progress
from .._deployment.declaration import Declaration, Verification
from .._endpoint.credentials import Credentials
from .._endpoint.golden import load_release
from .._endpoint.http import Answer, Client, UnreachableError
from .._endpoint.verify import Request, failure_text, verify
from .client import Api
from .objects import Object
from .serving import Replicas, proxy_path


class PodClient(Client):
    """Requests to the serving port of *pod* through ``…/pods/NAME:PORT/proxy`` of the API server.

    :param credentials: an API key or a token for the pod.
    :param spec: see :func:`.serving.proxy_path`.
    :raises ModelshipError: there is a client certificate, which the API server does not show to a pod, or the credentials
        would be sent to another machine without TLS.
    """

    def __init__(self, api: Api, pod: Object, credentials: Credentials, spec: Object | None = None) -> None:
        self.url = f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"
        if credentials.client_cert:
            raise ModelshipError(
                "verify.client_cert is refused for target kubernetes: the API server shows no certificate to a pod; "
                "leave out verify, and use endpoint_verify on the Service's own address"
            )
        if credentials.forwarded_headers and not api.access.is_loopback:
            api.access.check_confidential("the credentials of option verify")
        self._api = api
        self._path = proxy_path(pod, spec)
        self._headers = {"accept": "application/json", **credentials.forwarded_headers}

    def close(self) -> None:
        """Nothing to close: the connection is the API's."""

    def request(self, method: str, path: str, body: t.Any = None, headers: t.Mapping[str, str] | None = None) -> Answer:
        """Send one request; see :meth:`.http.Client.request`.

        :raises UnreachableError: the API server cannot reach the pod.
        :raises ModelshipError: the API server does not let this user through.
        """
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {"content-type": "application/json"} if data is not None else {}
        sent = {**self._headers, **kind, **(headers or {})}
        answer = Answer(*self._api.raw(method, self._path + path, body=data, headers=sent))
        if said := _status(answer):
            if answer.status in (401, 403):
                raise ModelshipError(
                    f"{self.url} cannot be asked for golden answers: {said}; allow the verbs get and create on pods/proxy, "
                    "or leave out verify",
                    kind="kubernetes",
                )
            raise UnreachableError(f"{self.url}{path} does not answer: {said}", kind="unreachable")
        return answer


def demand(
    api: Api, replicas: Replicas, declaration: Declaration, verification: Verification, progress: Progress
) -> None:
    """Ask each serving pod of *replicas* for the golden answers.

    :raises ModelshipError: one cannot be asked, serves another release, or (kind ``golden``) answers otherwise.
    """
    request = Request(
        golden=load_release(verification.release),
        protocol=verification.protocol,
        requests=0,
        ready_path=declaration.health.path,
        wait_s=min(10.0, declaration.health.start_deadline),
    )
    for pod in replicas.serving:
        verdict = verify(PodClient(api, pod, verification.credentials, replicas.spec), request, progress)
        if not verdict["ok"]:
            raise ModelshipError(failure_text(verdict), kind="golden", verdict=verdict)


def _status(answer: Answer) -> str | None:
    """Return the API server's own message, where it answered in the pod's place."""
    if answer.status < 400:
        return None
    try:
        status = json.loads(answer.body)
    except ValueError:
        return None
    if isinstance(status, dict) and status.get("kind") == "Status" and status.get("apiVersion") == "v1":
        return str(status.get("message") or status.get("reason") or answer.status)
    return None
