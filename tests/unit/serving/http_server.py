"""A server over real sockets whose routes are simple, for tests of connections."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving import metrics
from modelship_serving.app import App, Route
from modelship_serving.connections import Connections
from modelship_serving.context import Context
from modelship_serving.http import Request, Response
from modelship_serving.listener import Acceptor, bind
from modelship_serving.logs import Log
from modelship_serving.metrics import Counters
from modelship_serving.security.tls import server_context
from modelship_serving.settings import Settings

#: Bytes of an answer that fits into no kernel's buffers.
HUGE = 16_000_000


@dataclasses.dataclass
class Release:
    name: str = "tiny"
    digest: str = "sha256:" + "a" * 64
    format: str = "onnx"


@dataclasses.dataclass
class _Model:
    release: Release


class _Models:
    default = _Model(Release())
    versions = ("aaaaaaaaaaaa",)


@dataclasses.dataclass
class Running:
    port: int
    context: Context
    app: App
    connections: Connections
    #: What the slow route waits for.
    gate: asyncio.Event

    async def open(self, **options: Any) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port, **options))

    async def open_slow(self, tls: ssl.SSLContext | None = None) -> Client:
        """A client whose kernel reads hardly more than it does itself."""
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        name = "localhost" if tls else None
        return Client(*await asyncio.open_connection(sock=connection, ssl=tls, server_hostname=name, limit=65536))

    async def ask(self, data: bytes) -> bytes:
        """Send *data*, say no more, and return everything that comes back."""
        client = await self.open()
        client.writer.write(data)
        return await client.rest()

    def count(self, line: str) -> float:
        text = self.context.counters.text("tiny", "sha256:a", "onnx").decode()
        return next((float(x.rsplit(" ", 1)[1]) for x in text.splitlines() if x.startswith(line)), 0.0)


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        lines = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:-2])
        return int(lines[0].split()[1]), headers, await self.reader.readexactly(int(headers.get("content-length", 0)))

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        return await asyncio.wait_for(self.reader.read(), 10)

    async def slowly(self, seconds: float) -> int:
        """Read to the end, over so many seconds if it is a :data:`HUGE` answer; return the number of bytes."""
        began, got = time.monotonic(), 0
        while part := await asyncio.wait_for(self.reader.read(65536), 10):
            got += len(part)
            await asyncio.sleep(began + seconds * got / HUGE - time.monotonic())
        return got


@contextlib.asynccontextmanager
async def running(**settings: Any) -> AsyncIterator[Running]:
    counters = Counters(1)
    context = Context(Settings(**settings), _Models(), counters, counters.row(0), Log("error"))  # type: ignore[arg-type]
    gate = asyncio.Event()

    async def wait(_request: Request) -> Response:
        await gate.wait()
        return Response(b"waited")

    def fail(_request: Request) -> Response:
        raise ZeroDivisionError("a secret")

    routes = {
        "/echo": Route(metrics.PREDICT, "POST", lambda request: Response(request.body or b"nothing")),
        "/get": Route(metrics.METADATA, "GET", lambda _request: Response(b"got", headers=(("a", "b\r\nc: d"),))),
        "/large": Route(metrics.OTHER, "GET", lambda _request: Response(b"x" * 4_000_000)),
        "/huge": Route(metrics.OTHER, "GET", lambda _request: Response(bytes(HUGE))),
        "/wait": Route(metrics.INFER, "POST", wait),
        "/fail": Route(metrics.OTHER, "GET", fail),
    }
    app = App(context, routes)
    connections = Connections(app, context.settings, context.row.connections, context.row.rejected)
    listener = bind("127.0.0.1", 0)
    tls = server_context(context.settings)
    read = context.settings.read_seconds
    acceptor = Acceptor(listener, connections, tls, 16, read, context.log, closing_seconds=3600)
    acceptor.start()
    sweeping = asyncio.create_task(_sweep(connections))
    try:
        yield Running(listener.getsockname()[1], context, app, connections, gate)
        assert context.row.in_flight == 0
    finally:
        sweeping.cancel()
        acceptor.close()
        for connection in list(connections.open):
            connection._transport.abort()


async def _sweep(connections: Connections) -> None:
    while True:
        await asyncio.sleep(0.02)
        connections.sweep()


def over_sockets(**settings: Any) -> Callable[[Callable[[Running], Awaitable[None]]], Callable[[], None]]:
    """Run a test with a server."""

    def wrap(test: Callable[[Running], Awaitable[None]]) -> Callable[[], None]:
        async def run() -> None:
            async with running(**settings) as server:
                await test(server)

        def wrapped() -> None:
            asyncio.run(run())

        wrapped.__name__ = test.__name__
        return wrapped

    return wrap


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
