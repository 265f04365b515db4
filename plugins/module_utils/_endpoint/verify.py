# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifying an endpoint: is it ready, does it serve the right release, give the golden answers, fast enough?"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
import typing as t

from .._core.errors import ModelshipError
from .._core.progress import Progress
from .._http.retry import retry_after
from . import golden as goldens
from .golden import Call, Golden, Mismatch
from .http import Answer, Client, UnreachableError

RELEASE_HEADER = "modelship-release"
#: Mismatches shown in an error message; the verdict has them all.
_ROWS = 16
_SETTLE_S = 0.2
#: How long a request is sent again that the endpoint's rate limit refuses.
_MOST_PATIENCE_S = 60.0


@dataclasses.dataclass(frozen=True)
class Request:
    """What to verify.

    :param protocol: ``v2`` or ``predict``.
    :param name: the model's name in V2 paths; by default the golden set's.
    :param samples: how many golden samples are asked for, ``None`` for all.
    :param requests: how many requests measure the latency; 0 measures none.
    :param latency_p99_ms: gate, or ``None``.
    :param expect_release: digest that every answer must carry, or ``None``.
    :param ready_path: the path that answers 200 when the endpoint is ready; empty asks none.
    :param wait_s: how long to wait for the endpoint to be ready.
    """

    golden: Golden | None = None
    protocol: str = "v2"
    name: str | None = None
    samples: int | None = None
    requests: int = 50
    latency_p99_ms: float | None = None
    expect_release: str | None = None
    ready_path: str = "/v2/health/ready"
    wait_s: float = 30.0


class OtherReleaseError(ModelshipError):
    """Another release than the expected one is being served."""


def wait_ready(client: Client, request: Request, progress: Progress) -> Answer:
    """Wait until the endpoint is ready; return its answer.

    :raises UnreachableError: it was not ready within ``request.wait_s`` seconds.
    """
    deadline = time.monotonic() + request.wait_s
    path = request.ready_path or "/"
    while True:
        try:
            answer = client.request("GET", path)
        except UnreachableError as exc:
            reason = exc.message
        else:
            if not request.ready_path or 200 <= answer.status < 300:
                return answer
            reason = f"{client.url}{path} is not ready: it answered {answer.status} with {answer.beginning()}"
        left = deadline - time.monotonic()
        if left <= 0:
            raise UnreachableError(f"{reason}; waited {request.wait_s:g} s", kind="unreachable")
        progress.live(f"waiting for the endpoint, {left:.0f} s left: {reason}", at_most_every=1.0)
        time.sleep(min(_SETTLE_S, left))


def verify(client: Client, request: Request, progress: Progress) -> dict[str, t.Any]:
    """Ask the endpoint and judge its answers; it only reads.

    Returns the verdict: ``ok``, ``url``, ``protocol``, ``release`` (as the answers say, or ``None``), ``samples``
    (``checked``, ``failed``, ``max_abs_difference``), ``differences`` (list of :class:`.golden.Mismatch` as dicts),
    ``latency_ms`` (``p50``, ``p90``, ``p99``, ``requests``; or ``None``), ``gates`` and ``failures`` (one line each).

    :raises UnreachableError: not ready in time, or the connection broke while asking.
    :raises OtherReleaseError: another release than ``request.expect_release`` is served.
    """
    ready = wait_ready(client, request, progress)
    served = ready.headers.get(RELEASE_HEADER)
    expected = request.expect_release or (request.golden.release if request.golden else None)
    _check_release(client.url, expected, served)
    mismatches: list[Mismatch] = []
    worst, checked = 0.0, 0
    calls = [Call("GET", request.ready_path or "/")]
    if request.golden is not None:
        calls = list(_golden_calls(client, request, request.golden))
        for sample, call in enumerate(calls):
            answer = _ask(client, call)[0]
            served = answer.headers.get(RELEASE_HEADER, served)
            _check_release(client.url, expected, served)
            if answer.status == 413:
                raise ModelshipError(_too_large(client.url, call, answer), kind="endpoint")
            found, difference = goldens.compare(request.golden, sample, answer, request.protocol)
            mismatches += found
            worst = max(worst, difference)
            checked += 1
        failed = len({item.sample for item in mismatches})
        progress.step(f"golden answers: {checked - failed} of {checked} agree")
    if request.expect_release and served is None:
        raise OtherReleaseError(
            f"{client.url} does not say which release it serves (no {RELEASE_HEADER} header): expected "
            f"{request.expect_release}",
            kind="release",
        )
    latency = _latency(client, calls, request.requests, progress)
    gates, failures = _judge(request, latency)
    if mismatches:
        count = len({item.sample for item in mismatches})
        failures.insert(0, f"{count} of {checked} golden samples were answered differently")
    return {
        "ok": not failures,
        "url": client.url,
        "protocol": request.protocol,
        "release": served,
        "samples": {
            "checked": checked,
            "failed": len({item.sample for item in mismatches}),
            "max_abs_difference": worst if math.isfinite(worst) else None,
        },
        "differences": [dataclasses.asdict(item) for item in mismatches],
        "latency_ms": latency,
        "gates": gates,
        "failures": failures,
    }


def failure_text(verdict: t.Mapping[str, t.Any]) -> str:
    """Return what a person reads when a verdict is not ok: the failures, a table of what differed, and one of the gates."""
    lines = [f"{verdict['url']} is not verified: " + "; ".join(verdict["failures"])]
    rows = verdict["differences"]
    if rows:
        cells = [("sample", "output", "expected", "got", "max abs difference", "why")]
        for row in rows[:_ROWS]:
            difference = row["max_abs_difference"]
            shown = "-" if difference is None else f"{difference:.4g}"
            cells.append((str(row["sample"]), row["output"], row["expected"], row["got"][:160], shown, row["reason"]))
        lines += _aligned(cells)
        if len(rows) > _ROWS:
            lines.append(f"… and {len(rows) - _ROWS} more")
    if gates := verdict.get("gates"):
        judged = [
            (gate["name"], f"at most {gate['limit']:g}", f"{gate['value']:g}", "passed" if gate["ok"] else "failed")
            for gate in gates
        ]
        lines += _aligned([("gate", "limit", "value", "verdict"), *judged])
    return "\n".join(lines)


def _aligned(rows: t.Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def percentile(values: t.Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of *values* (at least one)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def _golden_calls(client: Client, request: Request, golden: Golden) -> t.Iterator[Call]:
    name = request.name or golden.name
    datatypes = golden.datatypes
    binary = False
    if request.protocol == "v2":
        if not name:
            raise ModelshipError("protocol v2 needs the model's name: give 'name' or 'release'")
        if not datatypes:
            datatypes = _described(client, name)
        binary = goldens.wants_binary(golden) and _knows_binary(client)
    count = len(golden.inputs) if request.samples is None else min(request.samples, len(golden.inputs))
    for sample in range(count):
        yield goldens.call_for(golden, sample, request.protocol, name or "", datatypes, binary=binary)


def _knows_binary(client: Client) -> bool:
    """Whether the endpoint's server metadata has V2's binary tensor data extension."""
    answer = _ask(client, Call("GET", "/v2"))[0]
    try:
        return answer.status == 200 and "binary_tensor_data" in answer.json()["extensions"]
    except (ModelshipError, KeyError, TypeError):
        return False


def _too_large(url: str, call: Call, answer: Answer) -> str:
    return (
        f"{url}{call.path} refuses a golden sample of {len(call.body or b'')} bytes as too large (413, {answer.beginning()}): "
        "raise the limit on request bodies, which is MODELSHIP_MAX_BODY_BYTES in the deployment's environment and a setting "
        "of the proxy or ingress in front of it, such as nginx.ingress.kubernetes.io/proxy-body-size"
    )


def _ask(client: Client, call: Call) -> tuple[Answer, float]:
    """Send one request; return its answer and the seconds it took. A rate limit is waited for, as the endpoint says.

    :raises ModelshipError: the endpoint wants credentials, or its rate limit lets nothing through.
    """
    deadline = time.monotonic() + _MOST_PATIENCE_S
    while True:
        start = time.perf_counter()
        answer = client.request(call.method, call.path, call.body, call.headers)
        took = time.perf_counter() - start
        if answer.status in (401, 403):
            raise ModelshipError(
                f"{client.url}{call.path} refuses with {answer.status}, {answer.beginning()}: it is protected, give what it "
                "asks for by api_key, bearer or client_cert",
                kind="endpoint",
            )
        if answer.status != 429:
            return answer, took
        if time.monotonic() > deadline:
            raise ModelshipError(
                f"{client.url}{call.path} still answers 429 after {_MOST_PATIENCE_S:g} s: its rate limit is too low to verify it",
                kind="endpoint",
            )
        asked = retry_after(answer.headers)
        time.sleep(1.0 if asked is None else min(asked, 10.0))


def _described(client: Client, name: str) -> dict[str, str]:
    """Ask the endpoint for its inputs' data types (V2 model metadata)."""
    answer = _ask(client, Call("GET", goldens.model_path(name)))[0]
    where = f"{client.url}/v2/models/{name}"
    if answer.status != 200:
        raise ModelshipError(f"{where} answered {answer.status}: is '{name}' the model's name?", kind="endpoint")
    try:
        return {str(item["name"]): str(item["datatype"]) for item in answer.json()["inputs"]}
    except ModelshipError as exc:
        raise ModelshipError(f"{where} {exc.message}", kind="endpoint") from exc
    except (KeyError, TypeError) as exc:
        raise ModelshipError(f"{where} is no V2 model metadata: {answer.beginning()}", kind="endpoint") from exc


def _check_release(url: str, expected: str | None, served: str | None) -> None:
    if expected and served is not None and served != expected:
        raise OtherReleaseError(f"{url} serves release {served}, not {expected}", kind="release", served=served)


def _latency(client: Client, calls: list[Call], requests: int, progress: Progress) -> dict[str, t.Any] | None:
    if requests <= 0:
        return None
    took = []
    for call in itertools.islice(itertools.cycle(calls), requests):
        took.append(_ask(client, call)[1] * 1000)
        progress.live(f"measuring the latency: {len(took)} of {requests}", at_most_every=0.5)
    return {
        **{f"p{percent}": round(percentile(took, percent), 3) for percent in (50, 90, 99)},
        "requests": requests,
    }


def _judge(request: Request, latency: dict[str, t.Any] | None) -> tuple[list[dict[str, t.Any]], list[str]]:
    limit = request.latency_p99_ms
    if limit is None:
        return [], []
    if latency is None:
        raise ModelshipError("the gate latency_p99_ms needs requests of at least 1")
    ok = latency["p99"] <= limit
    gates = [{"name": "latency_p99_ms", "limit": limit, "value": latency["p99"], "ok": ok}]
    return gates, [] if ok else [f"latency p99 is {latency['p99']:g} ms, the gate is {limit:g} ms"]
