# SPDX-License-Identifier: GPL-3.0-or-later
"""From a request to the bytes of its answer: routes, the gate, errors, counters, logs."""

from __future__ import annotations

import asyncio
import http
import time
import traceback
import typing as t
from collections.abc import Awaitable, Mapping

import msgspec

from . import metrics
from .context import Context
from .errors import KeysPendingError, RequestError
from .http import Handler, Request, Response

VERSION = "0.1.0"

_encode = msgspec.json.Encoder().encode


class Route(t.NamedTuple):
    """What answers at a path.

    :param endpoint: label of the metrics, by its place in :data:`.metrics.ENDPOINTS`.
    :param method: the one that is allowed; ``GET`` allows ``HEAD`` too.
    :param public: no credentials are asked for.
    """

    endpoint: int
    method: str
    handler: Handler
    public: bool = False


#: Statuses by reason, where the error gives none. 503 and 504 are missing: whoever raises one of those counts it, knowing why.
_REASONS = {
    400: "malformed",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method",
    408: "timeout",
    413: "too_large",
    414: "malformed",
    415: "media_type",
    417: "malformed",
    429: "rate_limited",
    431: "malformed",
    499: "client_left",
    500: "internal",
    501: "malformed",
    505: "malformed",
}
_QUIET = frozenset({metrics.HEALTH, metrics.METRICS})
#: Shortest time between two warnings of refused requests: a flood of these must not become one of logs.
_WARN_NS = 1_000_000_000


class App:
    """Answers requests; one object per worker.

    :param routes: of the features, by path.
    """

    def __init__(self, context: Context, routes: Mapping[str, Route]) -> None:
        #: ``time.monotonic()`` of the last request other than probes and scrapes.
        self.last_request = 0.0
        self._context = context
        self._row = context.row
        self._log = context.log
        self._gate = context.gate if context.gate.enabled else None
        self._release = context.models.default.release
        self._routes = {**routes, **self._own_routes()}
        self._prefixes: dict[tuple[int, str], bytes] = {}
        self._common = b""
        self._warned = 0
        self._not_warned = 0
        self.tick()

    @property
    def in_flight(self) -> int:
        """Requests being handled by this worker now."""
        return self._row.in_flight

    @property
    def draining(self) -> bool:
        """Whether the server is going; clients are then told to make their next request elsewhere."""
        return self._context.draining

    def drain(self) -> None:
        """Say from now on that the server is going."""
        self._context.draining = True

    def tick(self) -> None:
        """Renew what goes with time; to be called every second."""
        date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
        self._common = f"date: {date}\r\nmodelship-release: {self._release.digest}\r\nx-request-id: ".encode()

    def _own_routes(self) -> dict[str, Route]:
        def live(_request: Request) -> Response:
            return Response(b'{"live":true}')

        def ready(_request: Request) -> Response:
            return Response(b'{"ready":true}')

        def scrape(_request: Request) -> Response:
            text = self._context.counters.text(self._release.name, self._release.digest, self._release.format)
            return Response(text, 200, "text/plain; version=0.0.4; charset=utf-8")

        return {
            "/metrics": Route(metrics.METRICS, "GET", scrape, public=True),
            _LIVE: Route(metrics.HEALTH, "GET", live, public=True),
            "/v2/health/ready": Route(metrics.HEALTH, "GET", ready, public=True),
        }

    # --- what connections call ---

    def begin(self) -> None:
        """Count a request in, once its head is there."""
        self._row.begin()

    def admit(self, request: Request) -> Route | RequestError | None:
        """Decide by the headers alone whether the body is to be read.

        Returns the route; or the error to respond with; or ``None`` where that takes time, so that :meth:`answer` does it.
        """
        try:
            return self._admitted(request)
        except KeysPendingError:
            return None
        except RequestError as error:
            return error

    def answer(self, request: Request, route: Route | None = None) -> bytes | Awaitable[bytes]:
        """Answer a complete request; with a *route* it was admitted already."""
        try:
            if route is None:
                route = self._admitted(request)
            result = route.handler(request)
            if isinstance(result, Response):
                return self._finish(request, route.endpoint, result)
            return self._later(request, route, result)
        except KeysPendingError as pending:
            return self._admit_later(request, pending)
        except RequestError as error:
            return self._failed(request, route or self._routes.get(request.path), error)
        except Exception as exc:  # noqa: BLE001 - a client must never see a stack trace, nor a worker die of one request
            return self._failed(request, route, exc)

    def refuse(self, request: Request, error: RequestError) -> bytes:
        """Answer a request with an error that was found before a handler was asked."""
        return self._failed(request, self._routes.get(request.path), error)

    def left(self, request: Request, route: Route | None = None) -> None:
        """Count a request out whose client went away."""
        route = route or self._routes.get(request.path)
        self._row.rejected("client_left")
        self._count(request, route.endpoint if route else metrics.OTHER, 499)

    # --- steps ---

    def _admitted(self, request: Request) -> Route:
        route = self._routes.get(request.path) or self._find(request.path)
        if request.method != route.method and (request.method != "HEAD" or route.method != "GET"):
            message = f"{request.method[:40]} is not allowed for {request.path[:200]}, use {route.method}"
            raise RequestError(405, message, ("allow", "GET, HEAD" if route.method == "GET" else route.method))
        if self._gate is not None and not route.public:
            self._gate.admit(request.headers, request.certificate)
            request.admitted = True
        if self._context.draining and route.endpoint == metrics.HEALTH and request.path != _LIVE:
            self._row.rejected("draining")
            raise RequestError(503, "draining: this server is shutting down")
        return route

    def _find(self, path: str) -> Route:
        """Find the route of a path that is not in the table as it stands."""
        route = self._routes.get(path.rstrip("/"))
        if route is not None:
            return route
        parts = path.split("/")
        if path.startswith("/v2/models/") and len(parts) > 3 and parts[3] != self._release.name:
            raise RequestError(404, f"model '{parts[3][:80]}': not served here, only '{self._release.name}'")
        versions = self._context.models.versions
        if len(parts) > 5 and parts[4] == "versions" and parts[5] not in versions:
            raise RequestError(404, f"version '{parts[5][:80]}': not served here, only '{', '.join(versions)}'")
        raise RequestError(404, f"path '{path[:200]}': not found")

    async def _admit_later(self, request: Request, pending: KeysPendingError) -> bytes:
        """Answer once the gate has fetched what it needs to decide."""
        route = None
        try:
            await self._context.gate.admit_later(request.headers, request.certificate, pending)
            request.admitted = True
            route = self._routes.get(request.path) or self._find(request.path)
            result = route.handler(request)
        except Exception as exc:  # noqa: BLE001 - as in answer()
            return self._failed(request, route, exc)
        if isinstance(result, Response):
            return self._finish(request, route.endpoint, result)
        return await self._later(request, route, result)

    async def _later(self, request: Request, route: Route, result: Awaitable[Response]) -> bytes:
        timer = asyncio.timeout_at(request.deadline)
        try:
            async with timer:
                response = await result
            return self._finish(request, route.endpoint, response)
        except Exception as exc:  # noqa: BLE001 - as in answer()
            if isinstance(exc, TimeoutError) and timer.expired():
                self._row.rejected("deadline")
                exc = RequestError(504, "deadline: the answer was not ready in time")
            return self._failed(request, route, exc)

    def _failed(self, request: Request, route: Route | None, error: Exception) -> bytes:
        if not isinstance(error, RequestError):
            lines = "".join(traceback.format_exception(error))
            self._log.error(
                "internal error", error=repr(error), traceback=lines, path=request.path, request_id=request.id
            )
            error = RequestError(500, "internal error")
        status = error.status
        if reason := error.reason or _REASONS.get(status):
            self._row.rejected(reason)
        headers = () if error.header is None else (error.header,)
        if status >= 500 and not self._context.draining:
            self._warn(request, status, error.message)
        response = Response(_encode({"error": error.message}), status, headers=headers)
        return self._finish(request, route.endpoint if route else metrics.OTHER, response)

    def _warn(self, request: Request, status: int, message: str) -> None:
        now = time.monotonic_ns()
        if now - self._warned < _WARN_NS:
            self._not_warned += 1
            return
        more = {"not_logged": self._not_warned} if self._not_warned else {}
        self._warned, self._not_warned = now, 0
        self._log.warning(
            "request failed", status=status, error=message, path=request.path, request_id=request.id, **more
        )

    def _finish(self, request: Request, endpoint: int, response: Response) -> bytes:
        """Count a request out and return its answer's bytes."""
        if self._context.draining:
            request.connection = "close"
        status, body = response.status, response.body
        more = b""
        common = self._common
        if response.headers or request.connection or request.trace:
            more, common = self._further(request, response)
        key = (status, response.content_type)
        prefix = self._prefixes.get(key) or self._prefix(key)
        length = len(body)
        if request.method == "HEAD" or status == 304:
            body = b""  # both have the length of what a GET would get (RFC 9110, section 8.6)
        data = b"%b%b%b\r\ncontent-length: %d\r\n%b\r\n%b" % (
            prefix, common, request.id.encode(), length, more, body,
        )  # fmt: skip
        self._count(request, endpoint, status)
        return data

    def _further(self, request: Request, response: Response) -> tuple[bytes, bytes]:
        headers = [*response.headers, *request.trace]
        if request.connection:
            headers.append(("connection", request.connection))
        common = self._common
        if any(name == "modelship-release" for name, _value in response.headers):
            common = common[: common.index(b"modelship-release")] + b"x-request-id: "
        text = "".join(f"{name}: {_one_line(value)}\r\n" for name, value in headers)
        return text.encode("latin-1", "replace"), common

    def _prefix(self, key: tuple[int, str]) -> bytes:
        status, kind = key
        try:
            phrase = http.HTTPStatus(status).phrase
        except ValueError:
            phrase = "Error"
        lines = f"HTTP/1.1 {status} {phrase}\r\n" + (f"content-type: {_one_line(kind)}\r\n" if kind else "")
        if len(self._prefixes) < 256:
            self._prefixes[key] = lines.encode("latin-1", "replace")
        return lines.encode("latin-1", "replace")

    def _count(self, request: Request, endpoint: int, status: int) -> None:
        now = time.monotonic_ns()
        elapsed = now - request.started
        self._row.end(endpoint, status, elapsed)
        if endpoint not in _QUIET:
            self.last_request = now / 1e9
        if self._log.debugging:
            trace = {"trace_id": request.trace_id} if request.trace_id else {}
            self._log.debug(
                "request",
                method=request.method,
                path=request.path,
                status=status,
                client=request.peer,
                request_id=request.id,
                ms=elapsed / 1e6,
                **trace,
            )


_LIVE = "/v2/health/live"


def _one_line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")
