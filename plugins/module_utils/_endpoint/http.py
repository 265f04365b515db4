# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A keep-alive HTTP client over the standard library, for one endpoint."""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
import ssl
import typing as t
import urllib.parse

from .._core.errors import ModelshipError
from .._http import tls
from .._http.connection import Connection
from .._http.errors import Advice, ProxyRefusedError, explain, is_closed, is_permanent
from .._http.origin import parse_origin
from .._http.proxy import find_proxy

#: More than any answer to a golden sample; an endless answer is cut here instead of filling the memory.
MAX_ANSWER_BYTES = 64 << 20


_ADVICE = Advice(
    certificate="give ca_path",
    client_certificate="check client_cert and client_key",
    plain="should the URL begin with http://?",
)


class UnreachableError(ModelshipError):
    """The endpoint did not respond at all (refused, timed out, broke off)."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One HTTP answer: ``status``, ``headers`` (lower-case names) and the ``body``."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> t.Any:
        """Return the decoded body.

        :raises ModelshipError: it is no JSON (HTML, cut off, empty); the message shows how it begins.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as exc:
            raise ModelshipError(
                f"answered {self.status} with something that is not JSON: {self.beginning()}", kind="endpoint"
            ) from exc

    def beginning(self) -> str:
        """The first characters of the body, on one line."""
        text = " ".join(self.body[:300].decode("utf-8", "replace").split())
        return f"'{text[:120]}'" if text else "an empty body"


class Client:
    """Requests to one base URL over one connection that is kept open. Redirects are returned, not followed.

    :param url: ``http://host:port[/prefix]`` or ``https://…``.
    :param timeout: seconds for connecting and for each read.
    :param ca_path: PEM file of the certificate authorities to trust instead of the system's.
    :param validate_certs: ``False`` trusts any certificate.
    :param client_cert: PEM file of the certificate to show, with its key unless *client_key* names another file.
    :param use_proxy: connect through the proxy of the environment, if there is one for *url*.
    :raises ModelshipError: *url* is not an HTTP URL, a header cannot be sent, or a file or the proxy cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 10.0,
        headers: t.Mapping[str, str] | None = None,
        ca_path: str | None = None,
        validate_certs: bool = True,
        client_cert: str | None = None,
        client_key: str | None = None,
        use_proxy: bool = False,
    ) -> None:
        self.url = url.rstrip("/")
        try:
            parts = urllib.parse.urlsplit(self.url)
            origin = parse_origin(self.url)
        except ValueError as exc:
            raise ModelshipError(f"'{url}' is not an HTTP URL: {exc}") from exc
        if parts.username is not None:
            raise ModelshipError(
                f"the URL of {origin.authority} holds credentials: give them as api_key, bearer or headers"
            )
        self._prefix = urllib.parse.quote(parts.path, safe="/%!$&'()*+,;=:@~-._")
        self._headers = {"accept": "application/json", **(headers or {})}
        for name, value in self._headers.items():
            _check_header(name, value)
        self._timeout = timeout
        secure = origin.scheme == "https"
        self._connection = Connection(
            origin,
            timeout=timeout,
            context=_context(ca_path, validate_certs, client_cert, client_key) if secure else None,
            proxy=find_proxy("", *origin) if use_proxy else None,
        )
        self._used = False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._used = False

    def request(self, method: str, path: str, body: t.Any = None, headers: t.Mapping[str, str] | None = None) -> Answer:
        """Send one request; *body* is sent as JSON, or as it is where it is ``bytes``, with these *headers* besides.

        A kept connection that the server has closed meanwhile is opened once more, as HTTP clients do.

        :raises UnreachableError: no complete response came.
        :raises ModelshipError: a proxy does not accept its credentials.
        """
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {**self._headers, **(headers or {})}
        if data is not None:
            sent.setdefault("content-type", "application/json")
        kept = self._used
        try:
            try:
                return self._once(method, path, data, sent)
            except OSError as exc:
                self.close()
                if not (kept and is_closed(exc)):
                    raise
                return self._once(method, path, data, sent)
        except (OSError, http.client.HTTPException, ProxyRefusedError, ValueError) as exc:
            self.close()
            raise self._unreachable(path, exc) from exc

    def _once(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        response = self._connection.ask(method, self._prefix + path, data, headers)
        content = response.read(MAX_ANSWER_BYTES + 1)
        if len(content) > MAX_ANSWER_BYTES:
            raise ValueError(f"the response is longer than {MAX_ANSWER_BYTES} bytes")
        if response.length:  # a bounded read returns what came, without a complaint
            raise http.client.IncompleteRead(content, response.length)
        self._used = not response.will_close
        if response.will_close:
            self.close()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)

    def _unreachable(self, path: str, exc: Exception) -> ModelshipError:
        proxy = self._connection.proxy
        if isinstance(exc, ProxyRefusedError) and proxy:
            text = f"the proxy {proxy.authority} did not connect to {self.url}: {exc}"
            # waiting does not help against a missing password
            return (
                ModelshipError(text, kind="proxy") if is_permanent(exc) else UnreachableError(text, kind="unreachable")
            )
        host = proxy.host if proxy and not isinstance(exc, ssl.SSLError) else self._connection.origin.host
        through = f" through the proxy {proxy.authority}" if proxy else ""
        why = explain(exc, host, self._timeout, _ADVICE)
        what = "did not respond completely" if isinstance(exc, http.client.IncompleteRead) else "is unreachable"
        return UnreachableError(f"{self.url}{path} {what}{through}: {why}", kind="unreachable")


def _check_header(name: str, value: str) -> None:
    """Check that a header can be sent; the message does not hold its value, which may be a secret.

    :raises ModelshipError: it cannot.
    """
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ModelshipError(f"'{name}' is not the name of a header")
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f]|[^\x00-\xff]", value):
        raise ModelshipError(
            f"the value of the header {name} cannot be sent: it must be one line without control characters, in Latin-1; a "
            "secret that was read from a file may end with a line break"
        )


def _context(
    ca_path: str | None, validate_certs: bool, client_cert: str | None, client_key: str | None
) -> ssl.SSLContext:
    try:
        context = tls.client_context(verify=validate_certs, authority=tls.read_authority(ca_path) if ca_path else None)
    except (OSError, ValueError) as exc:
        raise ModelshipError(f"cannot use ca_path {ca_path}: {getattr(exc, 'strerror', None) or exc}") from exc
    if client_cert:
        try:
            tls.load_client_certificate(context, client_cert, client_key)
        except (OSError, ValueError) as exc:
            files = f"{client_cert} with client_key {client_key}" if client_key else client_cert
            raise ModelshipError(
                f"cannot use client_cert {files}: {getattr(exc, 'strerror', None) or exc}; give PEM files of a "
                "certificate and its key, which is not encrypted"
            ) from exc
    return context
