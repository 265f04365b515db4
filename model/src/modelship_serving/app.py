# SPDX-License-Identifier: GPL-3.0-or-later
"""The HTTP side: routes, bodies, errors, counters. Speaks RSGI (https://github.com/emmett-framework/granian)."""

from __future__ import annotations

import time
import traceback
import typing as t
from collections.abc import Awaitable, Callable

import msgspec

from . import metrics
from .errors import RequestError
from .http import Handler
from .logs import Log
from .metrics import Counters, Row
from .model import Model
from .settings import Settings
from .simple import Simple
from .v2 import V2

VERSION = "0.1.0"

_encode = msgspec.json.Encoder().encode
Headers = list[tuple[str, str]]
#: endpoint label, methods allowed, and what answers: given the request's scope and body source, returns the body.
_Route = tuple[int, str, Callable[[t.Any, t.Any], Awaitable[bytes]]]


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


#: Media types of a JSON body; the second is what ``curl -d`` sends when told nothing.
_JSON_TYPES = frozenset({"application/json", "application/x-www-form-urlencoded", ""})


class App:
    """Answers requests for one model; one object per worker."""

    def __init__(self, model: Model, settings: Settings, counters: Counters, row: Row, log: Log) -> None:
        self.draining = False
        #: ``time.monotonic()`` of the last request other than probes and scrapes.
        self.last_request = 0.0
        self._row = row
        self._counters = counters
        self._log = log
        self._limit = settings.max_body_bytes
        self._release = model.release
        self._simple = Simple(model)
        self._v2 = V2(model, VERSION)
        self._headers: Headers = [("content-type", "application/json"), ("modelship-release", model.release.digest)]
        self._routes = self._table()

    @property
    def in_flight(self) -> int:
        """Requests being handled by this worker now."""
        return self._row.in_flight

    def _table(self) -> dict[str, _Route]:
        async def predict(scope: t.Any, proto: t.Any) -> bytes:
            return await self._simple.predict(await self._body(scope, proto))

        async def infer(scope: t.Any, proto: t.Any) -> bytes:
            return await self._v2.infer(await self._body(scope, proto))

        def constant(body: bytes) -> Callable[[t.Any, t.Any], Awaitable[bytes]]:
            async def answer(_scope: t.Any, _proto: t.Any) -> bytes:
                return body

            return answer

        async def ready(_scope: t.Any, _proto: t.Any) -> bytes:
            if self.draining:
                raise RequestError(503, "draining: this server is shutting down")
            return b'{"ready":true}'

        async def scrape(_scope: t.Any, _proto: t.Any) -> bytes:
            return self._counters.text(self._release.name, self._release.digest, self._release.format)

        routes: dict[str, _Route] = {
            "/predict": (metrics.PREDICT, "POST", predict),
            "/metrics": (metrics.METRICS, "GET", scrape),
            "/v2": (metrics.METADATA, "GET", constant(self._v2.server_metadata)),
            "/v2/health/live": (metrics.HEALTH, "GET", constant(b'{"live":true}')),
            "/v2/health/ready": (metrics.HEALTH, "GET", ready),
        }
        name = f"/v2/models/{self._release.name}"
        for model in (name, f"{name}/versions/{self._release.version}"):
            routes[model] = (metrics.METADATA, "GET", constant(self._v2.model_metadata))
            routes[f"{model}/ready"] = (metrics.HEALTH, "GET", ready)
            routes[f"{model}/infer"] = (metrics.INFER, "POST", infer)
        return routes

    async def handle(self, scope: t.Any, proto: t.Any) -> None:
        """Answer one request (the RSGI entry point)."""
        started = time.perf_counter_ns()
        row = self._row
        row.begin()
        endpoint, status, headers = metrics.OTHER, 200, self._headers
        try:
            route = self._routes.get(scope.path)
            if route is None:
                route = self._route(scope.path)
            endpoint, allowed, answer = route
            method = scope.method
            if method != allowed:
                _check_method(method, allowed, scope.path)
            body = await answer(scope, proto)
            if endpoint == metrics.METRICS:
                headers = [("content-type", "text/plain; version=0.0.4; charset=utf-8"), headers[1]]
        except RequestError as exc:
            status = exc.status
            if exc.header is not None:
                headers = [*headers, exc.header]
            body = _encode({"error": exc.message})
        except Exception as exc:  # noqa: BLE001 - a client must never see a stack trace, nor a worker die of one request
            status = 500
            body = b'{"error":"internal error"}'
            self._log.error("internal error", error=repr(exc), traceback=traceback.format_exc(), path=scope.path)
        if self.draining:
            # Tells clients that keep connections open to make their next request elsewhere.
            headers = [*headers, ("connection", "close")]
        try:
            proto.response_bytes(status, headers, body)
        except Exception:  # noqa: BLE001 - the client left; nobody is there to be told
            status = 499
        elapsed = time.perf_counter_ns() - started
        row.end(endpoint, status, elapsed)
        if endpoint not in (metrics.HEALTH, metrics.METRICS):
            self.last_request = time.monotonic()
        if self._log.debugging:
            self._log.debug(
                "request", method=scope.method, path=scope.path, status=status, client=scope.client, ms=elapsed / 1e6
            )

    def _route(self, path: str) -> _Route:
        """Find the route of a path that is not in the table as it stands."""
        route = self._routes.get(path.rstrip("/"))
        if route is not None:
            return route
        parts = path.split("/")
        if path.startswith("/v2/models/") and len(parts) > 3 and parts[3] != self._release.name:
            raise RequestError(404, f"model '{parts[3][:80]}': not served here, only '{self._release.name}'")
        if len(parts) > 5 and parts[4] == "versions" and parts[5] != self._release.version:
            raise RequestError(404, f"version '{parts[5][:80]}': not served here, only '{self._release.version}'")
        raise RequestError(404, f"path '{path[:200]}': not found")

    async def _body(self, scope: t.Any, proto: t.Any) -> bytes:
        """Read a JSON body.

        :raises RequestError: 413, larger than the limit (found before it is read where its length is declared);
            415, declared to be something other than JSON; 499, the client left.
        """
        header = scope.headers.get
        kind = header("content-type")
        if kind != "application/json" and kind is not None:
            self._check_type(kind)
        if header("content-encoding", "identity") != "identity":
            raise RequestError(415, f"content-encoding '{header('content-encoding')[:80]}': send the body as it is")
        length = header("content-length")
        if length is not None and (not length.isdigit() or int(length) > self._limit):
            raise RequestError(413, f"body: {length[:20]} bytes, at most {self._limit} are accepted")
        chunks, size = [], 0
        try:
            if length is not None:
                return t.cast(bytes, await proto())
            async for chunk in proto:
                size += len(chunk)
                if size > self._limit:
                    break
                chunks.append(chunk)
        except Exception:  # noqa: BLE001 - the server's own types for a connection that is gone
            raise RequestError(499, "body: the client left before it was complete") from None
        if size > self._limit:
            raise RequestError(413, f"body: more than {self._limit} bytes")
        return b"".join(chunks)

    def _check_type(self, kind: str) -> None:
        media = kind.partition(";")[0].strip().lower()
        if media not in _JSON_TYPES and not media.endswith("+json"):
            raise RequestError(415, f"content-type '{kind[:80]}': expected application/json")


def _check_method(method: str, allowed: str, path: str) -> None:
    if method != "HEAD" or allowed != "GET":
        message = f"{method[:40]} is not allowed for {path[:200]}, use {allowed}"
        raise RequestError(405, message, ("allow", allowed))
