"""HTTP/1.1: what is understood, what is refused, and how connections behave over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving import metrics
from modelship_serving.app import App, Route
from modelship_serving.connections import Connections
from modelship_serving.context import Context
from modelship_serving.errors import RequestError
from modelship_serving.http import Request, Response
from modelship_serving.logs import Log
from modelship_serving.metrics import Counters
from modelship_serving.settings import Settings
from modelship_serving.wire import CHUNKED, Chunks, Head

HOST = b"host: x\r\n"


def head(line: bytes = b"GET / HTTP/1.1", fields: bytes = HOST) -> Head:
    return Head(line + b"\r\n" + fields + b"\r\n")


def test_a_head_is_taken_apart():
    found = head(b"POST /a%20b%C3%A9?x=%31 HTTP/1.1", HOST + b"Accept: a\r\naccept:  b \r\nContent-Length: 12\r\n")
    assert (found.method, found.path, found.query, found.length) == ("POST", "/a bé", "x=%31", 12)
    assert found.headers == {"host": "x", "accept": "a, b", "content-length": "12"}
    assert head(b"GET http://example.org/v2?a HTTP/1.1").path == "/v2"
    assert head(b"GET http://example.org HTTP/1.1").path == "/"
    assert head(fields=HOST + b"Transfer-Encoding: Chunked\r\n").length == CHUNKED


@pytest.mark.parametrize(
    ("line", "fields", "connection"),
    [
        (b"GET / HTTP/1.1", HOST, ""),
        (b"GET / HTTP/1.1", HOST + b"connection: Close\r\n", "close"),
        (b"GET / HTTP/1.1", HOST + b"connection: keep-alive\r\nconnection: x, close\r\n", "close"),
        (b"GET / HTTP/1.1", HOST + b"connection: closed\r\n", ""),
        (b"GET / HTTP/1.0", b"", "close"),
        (b"GET / HTTP/1.0", b"connection: keep-alive\r\n", "keep-alive"),
    ],
)
def test_whether_the_connection_stays_open(line: bytes, fields: bytes, connection: str):
    assert head(line, fields).connection == connection


def test_ids_and_traces_are_passed_on_only_if_well_formed():
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    given = head(fields=HOST + f"x-request-id: a-1\r\ntraceparent: {parent}\r\ntracestate: v=1\r\n".encode())
    assert (given.id, given.trace_id) == ("a-1", parent[3:35])
    assert given.trace == (("traceparent", parent), ("tracestate", "v=1"))
    bad = head(fields=HOST + b"x-request-id: " + b"a" * 129 + b"\r\ntraceparent: 00-zz\r\ntracestate: v=1\r\n")
    assert (bad.id, bad.trace, bad.trace_id) == ("", (), "")


REFUSED = [
    (b"GET / HTTP/1.1", HOST + b"content-length: 1\r\ncontent-length: 1\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"content-length: 1\r\ncontent-length: 2\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"content-length: 1, 1\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"content-length: +1\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"content-length: 0x1\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"content-length: -1\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"content-length: \xb2\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"content-length:\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"content-length: 1\r\ntransfer-encoding: chunked\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"transfer-encoding: chunked, chunked\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"transfer-encoding: xchunked\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"transfer-encoding: gzip, chunked\r\n", 501),
    (b"GET / HTTP/1.1", HOST + b"transfer-encoding: \x0bchunked\r\n", 400),
    (b"GET / HTTP/1.0", HOST + b"transfer-encoding: chunked\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"content-length : 1\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b" content-length: 1\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"a: b\r\n c: d\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"a: b\0c\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"a: b\nc: d\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"a: b\rc: d\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b": b\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"a\r\n", 400),
    (b"GET / HTTP/1.1", b"", 400),
    (b"GET / HTTP/1.1", HOST + HOST, 400),
    (b"GET / HTTP/1.1", HOST + b"a: b\r\n" * 101, 431),
    (b"GET / HTTP/1.1", HOST + b"expect: a-miracle\r\n", 417),
    (b"GET / HTTP/1.1", HOST + b"modelship-timeout-ms: soon\r\n", 400),
    (b"GET  / HTTP/1.1", HOST, 400),
    (b"GET / HTTP/1.1 ", HOST, 400),
    (b"GET /a b HTTP/1.1", HOST, 400),
    (b"GET /\0 HTTP/1.1", HOST, 400),
    (b"GET /%00 HTTP/1.1", HOST, 400),
    (b"GET /%0d%0a HTTP/1.1", HOST, 400),
    (b"GET /%zz HTTP/1.1", HOST, 400),
    (b"GET /%ff HTTP/1.1", HOST, 400),
    (b"GET /a#b HTTP/1.1", HOST, 400),
    (b"GET a HTTP/1.1", HOST, 400),
    (b"CONNECT a:443 HTTP/1.1", HOST, 400),
    (b"GET /", HOST, 400),
    (b"GET / http/1.1", HOST, 400),
    (b"GET / HTTP/1.10", HOST, 400),
    (b"GET / HTTP/2.0", HOST, 505),
    (b"BREW / HTTP/1.1", HOST, 501),
    (b"get / HTTP/1.1", HOST, 501),
    (b"GET /" + b"a" * 8192 + b" HTTP/1.1", HOST, 414),
]


@pytest.mark.parametrize(("line", "fields", "status"), REFUSED)
def test_what_can_be_read_in_two_ways_is_refused(line: bytes, fields: bytes, status: int):
    with pytest.raises(RequestError) as caught:
        head(line, fields)
    assert caught.value.status == status


BODY = b"5;a=b\r\nhello\r\nB \r\n, the world\r\n0\r\nx: y\r\n\r\nGET "


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100])
def test_chunks_are_put_together_however_they_come(step: int):
    chunks = Chunks(100)
    parts = [BODY[place : place + step] for place in range(0, len(BODY), step)]
    while not chunks.feed(parts.pop(0)):
        pass
    assert bytes(chunks.body) == b"hello, the world"
    assert chunks.rest + b"".join(parts) == b"GET "


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"g\r\n", 400),
        (b"\r\n", 400),
        (b"-1\r\n", 400),
        (b"0x1\r\n", 400),
        (b"1\nx\r\n", 400),
        (b"1\r\nxy", 400),
        (b"1\r\nx\r\r", 400),
        (b"f" * 16 + b"\r\n", 400),
        (b"fffffff\r\n", 413),
        (b"41\r\n", 413),
        (b"40\r\n" + b"x" * 64 + b"\r\n1\r\n", 413),
        (b"1;" + b"a" * 5000, 400),
        (b"0\r\nno trailer\r\n", 400),
        (b"0\r\ncontent-length : 4\r\n", 400),
    ],
)
def test_broken_chunks(data: bytes, status: int):
    with pytest.raises(RequestError) as caught:
        Chunks(64).feed(data)
    assert caught.value.status == status


def test_chunks_that_are_nearly_all_framing_are_refused():
    chunks = Chunks(1 << 20)
    with pytest.raises(RequestError, match="too small"):
        for _ in range(100):
            chunks.feed(b"1\r\nx\r\n" * 1000)


# --- over sockets ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Release:
    name: str = "tiny"
    digest: str = "sha256:" + "a" * 64
    format: str = "onnx"


@dataclasses.dataclass
class _Model:
    release: _Release


class _Models:
    default = _Model(_Release())
    versions = ("aaaaaaaaaaaa",)


@dataclasses.dataclass
class Running:
    port: int
    context: Context
    app: App
    connections: Connections
    #: What the slow route waits for.
    gate: asyncio.Event

    async def open(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))

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
        "/wait": Route(metrics.INFER, "POST", wait),
        "/fail": Route(metrics.OTHER, "GET", fail),
    }
    app = App(context, routes)
    connections = Connections(app, context.settings, context.row.connections, context.row.rejected)
    server = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0)
    sweeping = asyncio.create_task(_sweep(connections))
    try:
        yield Running(server.sockets[0].getsockname()[1], context, app, connections, gate)
        assert context.row.in_flight == 0
    finally:
        sweeping.cancel()
        server.close()
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


@over_sockets()
async def test_requests_one_after_the_other_on_one_connection(server: Running):
    client = await server.open()
    for body in (b"a", b"a", b"bc", b""):
        client.writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        status, headers, received = await client.answer()
        assert (status, received) == (200, body or b"nothing")
        assert headers["modelship-release"] == _Release.digest
    assert server.count('modelship_requests_total{endpoint="predict",code="200"}') == 4
    assert server.count("modelship_connections") == 1


@over_sockets()
async def test_requests_sent_ahead_are_answered_in_order(server: Running):
    client = await server.open()
    plain = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n%b"
    chunked = b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n%b\r\n0\r\n\r\n"
    wait = b"POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
    client.writer.write(b"\r\n" + plain % b"1" + chunked % b"2" + wait + plain % b"3" + chunked % b"4")
    for expected in (b"1", b"2"):
        assert (await client.answer())[2] == expected
    server.gate.set()
    for expected in (b"waited", b"3", b"4"):
        assert (await client.answer())[2] == expected


@over_sockets()
async def test_very_many_requests_sent_ahead(server: Running):
    client = await server.open()
    count = 3000
    client.writer.write(
        b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" * count
    )
    for _ in range(count):
        assert (await client.answer())[2] == b"x"


@over_sockets()
async def test_a_request_that_comes_byte_by_byte(server: Running):
    client = await server.open()
    for byte in b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc":
        client.writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert (await client.answer())[2] == b"abc"


@over_sockets()
async def test_head_has_no_body_and_says_how_long_it_would_be(server: Running):
    answer = await server.ask(b"HEAD /get HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\ncontent-length: 3\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@over_sockets()
async def test_old_clients(server: Running):
    answer = await server.ask(b"GET /get HTTP/1.0\r\n\r\n")
    assert b"\r\nconnection: close\r\n" in answer
    client = await server.open()
    for _ in range(2):
        client.writer.write(b"GET /get HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        assert (await client.answer())[1]["connection"] == "keep-alive"


@over_sockets()
async def test_no_header_can_be_smuggled_into_an_answer(server: Running):
    client = await server.open()
    client.writer.write(b"GET /get HTTP/1.1\r\nhost: x\r\n\r\n")
    _status, headers, _body = await client.answer()
    assert headers["a"] == "b  c: d"
    assert "c" not in headers


@over_sockets()
async def test_ids_are_given_back_or_made(server: Running):
    client = await server.open()
    parent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    client.writer.write(b"GET /get HTTP/1.1\r\nhost: x\r\nx-request-id: my id\r\n\r\n")
    client.writer.write(b"GET /get HTTP/1.1\r\nhost: x\r\nx-request-id: my-id\r\ntraceparent: " + parent + b"\r\n\r\n")
    client.writer.write(b"GET /get HTTP/1.1\r\nhost: x\r\n\r\n")
    answers = [(await client.answer())[1] for _ in range(3)]
    assert answers[1]["x-request-id"] == "my-id"
    assert answers[1]["traceparent"] == parent.decode()
    assert len({answer["x-request-id"] for answer in answers}) == 3
    assert "traceparent" not in answers[2]


@over_sockets()
async def test_errors(server: Running):
    for request, status in (
        (b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"GET /echo HTTP/1.1\r\nhost: x\r\n\r\n", 405),
        (b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", 404),
        (b"PATCH /get HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab", 405),
        (b"GET /fail HTTP/1.1\r\nhost: x\r\n\r\n", 500),
    ):
        client = await server.open()
        client.writer.write(request)
        found, _headers, body = await client.answer()
        assert found == status
        assert b"secret" not in body
        # Known where it ends, so the connection goes on.
        client.writer.write(b"GET /get HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.answer())[2] == b"got"
    assert server.count('modelship_rejected_total{reason="internal"}') == 1
    assert server.count('modelship_rejected_total{reason="method"}') == 2


@over_sockets()
async def test_what_is_broken_is_answered_and_the_connection_closed(server: Running):
    for data, status in (
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nhost: x\n\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /" + b"a" * 70000, 414),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 7000, 431),
        (b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
    ):
        answer = await server.ask(data + b"GET /get HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 %d " % status), (data[:40], answer[:80])
        assert answer.count(b"modelship-release") == 1, "nothing behind it is taken for a request"
    assert server.count('modelship_rejected_total{reason="malformed"}') == 8


@over_sockets(max_body_bytes=100_000)
async def test_a_body_over_the_limit_is_refused_before_it_is_there(server: Running):
    answer = await server.ask(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100001\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    chunk = b"c350\r\n" + b"x" * 50_000 + b"\r\n"
    for extra, status in ((b"0\r\n\r\n", 200), (b"1\r\n", 413)):
        client = await server.open()
        client.writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + 2 * chunk + extra)
        assert (await client.answer())[0] == status


@over_sockets()
async def test_a_client_that_still_sends_reads_its_refusal(server: Running):
    client = await server.open()
    client.writer.write(b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 8000000\r\n\r\n" + b"x" * 4_000_000)
    status, headers, _body = await client.answer()
    assert (status, headers["connection"]) == (404, "close")


@over_sockets()
async def test_large_bodies_at_once_do_not_take_all_memory(server: Running):
    server.connections.most_held = 1_000_000
    request = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 600000\r\n\r\n"
    first, second = await server.open(), await server.open()
    first.writer.write(request + b"x" * 599_999)
    await until(lambda: server.connections.held == 599_999)
    second.writer.write(request + b"x" * 600_000)
    status, headers, _body = await second.answer()
    assert (status, headers["retry-after"]) == (503, "1")
    first.writer.write(b"x")
    assert len((await first.answer())[2]) == 600_000
    await until(lambda: server.connections.held == 0)
    leaving = await server.open()
    leaving.writer.write(request + b"x" * 300_000)
    await until(lambda: server.connections.held == 300_000)
    leaving.writer.close()
    await until(lambda: server.connections.held == 0)


@over_sockets()
async def test_expect_continue(server: Running):
    client = await server.open()
    client.writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
    assert (await client.answer())[0] == 100
    client.writer.write(b"ok")
    assert (await client.answer())[2] == b"ok"
    client.writer.write(b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
    assert (await client.answer())[0] == 404
    assert await client.rest() == b""


@over_sockets(read_seconds=0.2, idle_seconds=30.0)
async def test_slow_clients_are_told_and_closed_and_hold_nobody_up(server: Running):
    slow = [await server.open() for _ in range(50)]
    for client in slow:
        client.writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\n")
    late = await server.open()
    late.writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nab")
    client = await server.open()
    client.writer.write(b"GET /get HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await client.answer())[0] == 200
    for each in (*slow, late):
        assert (await each.rest()).startswith(b"HTTP/1.1 408 ")
        each.writer.close()
    await until(lambda: len(server.connections.open) == 1)
    client.writer.write(b"GET /get HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await client.answer())[0] == 200


@over_sockets(idle_seconds=0.2)
async def test_idle_connections_are_closed_without_a_word(server: Running):
    assert await (await server.open()).rest() == b""


@over_sockets(max_connections=2)
async def test_more_connections_than_allowed_are_told_so(server: Running):
    first, second = await server.open(), await server.open()
    await until(lambda: len(server.connections.open) == 2)
    answer = await server.ask(b"GET /get HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after" in answer
    assert server.count('modelship_rejected_total{reason="connections"}') == 1
    first.writer.close()
    await until(lambda: len(server.connections.open) == 1)
    third = await server.open()
    for client in (second, third):
        client.writer.write(b"GET /get HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await client.answer())[0] == 200


@over_sockets(idle_seconds=0.5)
async def test_a_client_that_does_not_read_gets_no_more_answers_made(server: Running):
    client = await server.open()
    transport: Any = client.writer.transport
    transport.pause_reading()
    client.writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n" * 200)
    await until(lambda: server.count('modelship_requests_total{endpoint="other",code="200"}') >= 1)
    await asyncio.sleep(0.1)
    assert server.count('modelship_requests_total{endpoint="other",code="200"}') < 5
    await until(lambda: not server.connections.open)


@over_sockets()
async def test_a_slow_reader_gets_everything(server: Running):
    client = await server.open()
    client.writer.write(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n" * 5)
    for _ in range(5):
        assert len((await client.answer())[2]) == 4_000_000


@over_sockets(deadline_ms=100)
async def test_the_deadline(server: Running):
    client = await server.open()
    client.writer.write(b"POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
    assert (await client.answer())[0] == 504
    assert server.count('modelship_rejected_total{reason="deadline"}') == 1


@over_sockets()
async def test_a_sooner_deadline_of_the_client(server: Running):
    client = await server.open()
    client.writer.write(b"POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nmodelship-timeout-ms: 50\r\n\r\n")
    assert (await client.answer())[0] == 504


@over_sockets()
async def test_clients_that_leave_are_counted_and_their_work_is_given_up(server: Running):
    name = 'modelship_requests_total{endpoint="%s",code="499"}'
    for path, data, label in ((b"/wait", b"ab", "infer"), (b"/echo", b"a", "predict")):
        client = await server.open()
        client.writer.write(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n%b" % (path, data))
        await until(lambda: server.context.row.in_flight == 1)
        client.writer.close()
        await until(lambda label=label: server.count(name % label) == 1)
        assert server.context.row.in_flight == 0
    assert server.count('modelship_rejected_total{reason="client_left"}') == 2


@over_sockets()
async def test_draining(server: Running):
    client = await server.open()
    client.writer.write(b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await client.answer())[0] == 200
    server.app.drain()
    for path, status in ((b"/v2/health/ready", 503), (b"/v2/health/live", 200), (b"/get", 200)):
        answer = await server.ask(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nconnection: close\r\n" in answer
    server.connections.close_idle(0)
    assert await client.rest() == b""


class _Closed:
    enabled = True

    def admit(self, headers: Any, certificate: Any) -> str:  # noqa: ARG002
        if headers.get("x-api-key") != "k":
            raise RequestError(401, "credentials: none given", ("www-authenticate", "Bearer"))
        return "me"


@over_sockets()
async def test_the_gate_is_asked_once_and_before_a_large_body(server: Running):
    asked: list[str] = []

    class Counting(_Closed):
        def admit(self, headers: Any, certificate: Any) -> str:
            asked.append(headers.get("x-api-key", ""))
            return super().admit(headers, certificate)

    server.app._gate = Counting()
    client = await server.open()
    client.writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\n")
    status, headers, _body = await client.answer()
    assert (status, headers["www-authenticate"], asked) == (401, "Bearer", [""])
    client = await server.open()
    client.writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\ncontent-length: 90000\r\n\r\n")
    client.writer.write(b"x" * 90000)
    assert len((await client.answer())[2]) == 90000
    assert asked == ["", "k"]
    client.writer.write(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await client.answer())[0] == 200, "public"
