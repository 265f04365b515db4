# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module C(endpoint_verify): its argument spec, and what it does with the parameters."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from .._core.content import parse_digest
from .._core.errors import ModelshipError
from .._core.files import exists
from .._core.runner import Context, Outcome
from .._core.values import texts
from .credentials import OPTIONS as CREDENTIALS
from .credentials import credentials_of
from .golden import Golden, load_golden, load_release
from .http import Client, UnreachableError
from .verify import OtherReleaseError, Request, failure_text, verify

OPTIONS: dict[str, t.Any] = {
    "url": {"type": "str", "required": True},
    "release": {"type": "path"},
    "golden": {"type": "path"},
    "name": {"type": "str"},
    "protocol": {"type": "str", "choices": ["v2", "predict"], "default": "v2"},
    "samples": {"type": "int"},
    "requests": {"type": "int", "default": 50},
    "latency_p99_ms": {"type": "float"},
    "gates": {"type": "dict"},
    "expect_release": {"type": "str"},
    "ready_path": {"type": "str", "default": "/v2/health/ready"},
    "wait": {"type": "float", "default": 30.0},
    "timeout": {"type": "float", "default": 10.0},
    "headers": {"type": "dict", "default": {}},
    **CREDENTIALS,
    "ca_path": {"type": "path", "aliases": ["ca"]},
    "validate_certs": {"type": "bool", "default": True},
    "use_proxy": {"type": "bool", "default": True},
}
_MOST_REQUESTS = 10_000


def examine(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Verify the endpoint; ``verdict`` and ``verified`` as the module documents them.

    :raises ModelshipError: it is not verified; the message has the table of what differed.
    """
    if context.check and (missing := _missing(parameters)):
        return _not_yet(f"{missing} does not exist yet: the endpoint would be verified with it")
    request = request_of(parameters)
    if context.check:
        request = dataclasses.replace(request, wait_s=0.0)
    credentials = credentials_of(parameters)
    client = Client(
        parameters["url"],
        timeout=parameters["timeout"],
        headers={**texts(parameters["headers"], "headers"), **credentials.headers},
        ca_path=parameters["ca_path"],
        validate_certs=parameters["validate_certs"],
        client_cert=credentials.client_cert,
        client_key=credentials.client_key,
        use_proxy=parameters["use_proxy"],
    )
    with contextlib.closing(client):
        try:
            verdict = verify(client, request, context.progress)
        except (UnreachableError, OtherReleaseError) as exc:
            if context.check:
                return _not_yet(f"{exc.message}: it would be verified once it serves what is to be deployed")
            exc.details.setdefault("verified", False)
            raise
    if not verdict["ok"]:
        raise ModelshipError(failure_text(verdict), kind="verify", verdict=verdict, verified=False)
    return Outcome(changed=False, result={"verdict": verdict, "verified": True}, message=_summary(verdict))


def request_of(parameters: t.Mapping[str, t.Any]) -> Request:
    """Make a request of the module's parameters.

    :raises ModelshipError: a value cannot be right, or the release or golden set cannot be read.
    """
    golden: Golden | None = None
    if parameters["release"]:
        golden = load_release(parameters["release"])
    elif parameters["golden"]:
        golden = load_golden(parameters["golden"])
    if not 0 <= parameters["requests"] <= _MOST_REQUESTS:
        raise ModelshipError(f"requests {parameters['requests']} is refused: it must be 0 to {_MOST_REQUESTS}")
    if parameters["samples"] is not None and parameters["samples"] < 1:
        raise ModelshipError(f"samples {parameters['samples']} is refused: it must be at least 1")
    expected = parameters["expect_release"]
    if expected:
        parse_digest(expected)
    limit = parameters["latency_p99_ms"]
    if limit is None:
        limit = (parameters["gates"] or {}).get("latency_p99_ms")
    try:
        limit = None if limit is None else float(limit)
    except (TypeError, ValueError) as exc:
        raise ModelshipError(f"gate latency_p99_ms '{limit}' is no number of milliseconds") from exc
    return Request(
        golden=golden,
        protocol=parameters["protocol"],
        name=parameters["name"],
        samples=parameters["samples"],
        requests=parameters["requests"],
        latency_p99_ms=limit,
        expect_release=expected,
        ready_path=parameters["ready_path"],
        wait_s=parameters["wait"],
    )


def _missing(parameters: t.Mapping[str, t.Any]) -> str | None:
    for option in ("release", "golden"):
        path = parameters[option]
        if path and not exists(path):
            return str(path)
    return None


def _not_yet(why: str) -> Outcome:
    return Outcome(changed=False, result={"verdict": None, "verified": None}, message=f"not verified: {why}")


def _summary(verdict: t.Mapping[str, t.Any]) -> str:
    samples, latency = verdict["samples"], verdict["latency_ms"]
    parts = [f"{samples['checked']} golden samples agree"] if samples["checked"] else ["ready"]
    if latency:
        parts.append(
            f"latency p50 {latency['p50']:g} ms, p99 {latency['p99']:g} ms over {latency['requests']} requests"
        )
    return f"{verdict['url']} is verified: " + "; ".join(parts)
