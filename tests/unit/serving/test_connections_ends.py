"""How connections end: not before a client has read its answer, and soon where it wants none."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving import ends, eviction, http1, listener
from modelship_serving.errors import RequestError
from tests.certificates import Authority

from .http_server import HUGE, Client, Running, over_sockets, running, until

GET = b"GET /get HTTP/1.1\r\nhost: x\r\n\r\n"
WAIT = b"POST /wait HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"
LAST_HUGE = b"GET /huge HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "_LINGER", 0.2)
    monkeypatch.setattr(eviction, "SETTLE_NS", 200_000_000)
    monkeypatch.setattr(listener, "_HANDSHAKE_SECONDS", 0.2)


def secure(folder: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    """The settings of a server with TLS, and what its client needs."""
    authority = Authority(folder)
    certificate, key = authority.issue("server")
    context = ssl.create_default_context(cafile=str(authority.ca))
    return {"tls_cert": str(certificate), "tls_key": str(key)}, context


# --- slow readers ---


@over_sockets(idle_seconds=0.5)
async def test_a_slow_reader_gets_its_last_answer_whole(server: Running):
    client = await server.open_slow()
    client.writer.write(LAST_HUGE)
    assert await client.slowly(1.5) > HUGE
    old = await server.open_slow()
    old.writer.write(b"GET /huge HTTP/1.0\r\n\r\n")
    assert await old.slowly(1.5) > HUGE


@over_sockets(idle_seconds=0.5)
async def test_a_slow_reader_keeps_its_connection(server: Running):
    client = await server.open_slow()
    client.writer.write(LAST_HUGE.replace(b"close", b"x") + LAST_HUGE)
    assert await client.slowly(1) > 2 * HUGE


@over_sockets(idle_seconds=5)
async def test_a_reader_that_pauses_gets_its_answer_while_the_server_drains(server: Running):
    server.app.drain()
    client = await server.open_slow()
    client.writer.write(LAST_HUGE.replace(b"close", b"x"))
    await client.reader.readexactly(1000)
    await asyncio.sleep(0.6)
    assert await client.slowly(0.1) > HUGE - 1000


@over_sockets(idle_seconds=0.3)
async def test_a_client_that_reads_no_more_is_cut(server: Running):
    clients = [await server.open_slow() for _number in range(2)]
    for client, request in zip(clients, (LAST_HUGE, LAST_HUGE.replace(b"close", b"x")), strict=True):
        client.writer.write(request)
        await client.reader.readexactly(1000)
    await until(lambda: len(server.connections.open) == 2)
    began = time.monotonic()
    await until(lambda: not server.connections.open)
    assert 0.1 < time.monotonic() - began < 3


def test_a_slow_reader_gets_its_last_answer_whole_over_tls(tmp_path: Path):
    async def run() -> None:
        settings, tls = secure(tmp_path)
        async with running(**settings, idle_seconds=0.5) as server:
            client = await server.open_slow(tls)
            client.writer.write(LAST_HUGE)
            assert await client.slowly(1.5) > HUGE
            # One that answers the end with nothing is not waited for.
            silent = await server.open(ssl=tls, server_hostname="localhost")
            silent.writer.write(GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            await silent.answer()
            await until(lambda: not server.connections.open)

    asyncio.run(run())


# --- clients that send no more ---


@over_sockets()
async def test_whoever_sends_no_more_gets_the_answers_to_what_was_sent(server: Running):
    for version, interim in ((b"1.1", b"HTTP/1.1 100 Continue\r\n\r\n"), (b"1.0\r\nconnection: keep-alive", b"")):
        server.gate.clear()
        client = await server.open()
        client.writer.write((WAIT + GET).replace(b"1.1", version))
        client.writer.write_eof()
        await until(lambda: server.context.row.in_flight == 1)
        await asyncio.sleep(0.1)
        server.gate.set()
        answers = await client.rest()
        assert answers.startswith(interim + b"HTTP/1.1 200 OK\r\n")
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == 2
        assert answers.endswith(b"got")
        await until(lambda: not server.connections.open)
    assert server.count('modelship_rejected_total{reason="client_left"}') == 0


@over_sockets()
async def test_without_an_answer_to_come_the_end_of_a_client_is_that_of_its_connection(server: Running):
    for data in (b"", GET, GET[:-2], b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\na"):
        client = await server.open()
        client.writer.write(data)
        client.writer.write_eof()
        assert (await client.rest()).endswith(b"got") == (data == GET)
        await until(lambda: not server.connections.open)


@over_sockets()
async def test_whoever_is_gone_altogether_is_not_waited_for(server: Running):
    gone = socket.create_connection(("127.0.0.1", server.port))
    gone.sendall(WAIT)
    await until(lambda: server.context.row.in_flight == 1)
    gone.close()
    await until(lambda: server.context.row.in_flight == 0)
    assert server.count('modelship_rejected_total{reason="client_left"}') == 1


# --- all places taken ---


def leave_alone() -> None:
    """From now on all connections count as busy, however slow this machine is."""
    eviction.SETTLE_NS = 60_000_000_000  # until the fixture takes it back


async def answered_at_once(client: Client) -> bool:
    client.writer.write(GET)
    return (await asyncio.wait_for(client.answer(), 2))[0] == 200


@over_sockets(read_seconds=0.3, idle_seconds=30.0)
async def test_a_first_request_must_come_soon(server: Running):
    """A connection that has brought one may then wait."""
    client, silent, hardly = [await server.open() for _number in range(3)]
    assert await answered_at_once(client)
    hardly.writer.write(b"\r\n")
    for _step in range(5):
        await asyncio.sleep(0.1)
        if not hardly.reader.at_eof():
            hardly.writer.write(b"\r\n")
    assert await silent.rest() == b""
    with pytest.raises((AssertionError, ConnectionError)):
        assert await hardly.rest() == b""
    assert await answered_at_once(client)


@over_sockets(max_connections=20, read_seconds=30.0)
async def test_silent_connections_keep_nobody_out(server: Running):
    silent = [await server.open() for _number in range(20)]
    await until(lambda: len(server.connections.open) == 20)
    await asyncio.sleep(0.3)
    newcomers = [await server.open() for _number in range(20)]
    for client in newcomers:
        assert await answered_at_once(client)
    assert len(server.connections.open) == 20
    for each in silent:
        assert await each.rest() == b""
    # They themselves are left alone as long as they ask.
    leave_alone()
    assert (await server.ask(GET)).startswith(b"HTTP/1.1 503 ")
    for client in newcomers:
        assert await answered_at_once(client)
    assert server.count('modelship_rejected_total{reason="connections"}') == 21


@over_sockets(max_connections=4, read_seconds=30.0)
async def test_who_goes_first(server: Running):
    idle, silent, late, busy = [await server.open() for _number in range(4)]
    assert await answered_at_once(idle)
    late.writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\na")
    busy.writer.write(WAIT)
    await until(lambda: server.context.row.in_flight == 2)
    await asyncio.sleep(0.3)
    newcomers = [await server.open() for _number in range(3)]
    for client, gone in zip(newcomers, (silent, late, idle), strict=True):
        assert await answered_at_once(client)
        assert await gone.rest() == b""
    leave_alone()
    assert (await server.ask(GET)).startswith(b"HTTP/1.1 503 ")
    server.gate.set()
    assert (await busy.answer())[2] == b"waited"


@over_sockets(max_connections=20, read_seconds=30.0)
async def test_connections_that_dribble_keep_nobody_out(server: Running):
    slow = [await server.open() for _number in range(20)]
    for number, client in enumerate(slow):
        length = b"content-length: 900\r\n\r\n" if number % 2 else b""
        client.writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\n" + length)
    for _step in range(6):
        await asyncio.sleep(0.05)
        for client in slow:
            client.writer.write(b"a")
    newcomers = [await server.open() for _number in range(20)]
    for client in newcomers:
        assert await answered_at_once(client)
    assert server.context.row.in_flight == 0


@over_sockets(max_connections=3, read_seconds=0.6, idle_seconds=30.0)
async def test_clients_that_read_nothing_of_their_responses_keep_nobody_out_for_long(server: Running):
    whole, part, slow = [await server.open_slow() for _number in range(3)]
    whole.writer.write(LAST_HUGE.replace(b"close", b"x"))
    slow.writer.write(LAST_HUGE.replace(b"close", b"x") + LAST_HUGE)
    part.writer.write(LAST_HUGE.replace(b"close", b"x"))
    await part.reader.readexactly(1000)
    reading = asyncio.create_task(slow.slowly(3))
    await asyncio.sleep(0.4)
    assert (await server.ask(GET)).startswith(b"HTTP/1.1 503 "), "they have a moment to read"
    began = time.monotonic()
    while not await answered_at_once(await server.open()):
        assert time.monotonic() - began < 4, "until then the slow one reads"
        await asyncio.sleep(0.1)
    assert await reading > 2 * HUGE, "it read on all the time"


@over_sockets(max_connections=2, read_seconds=30.0)
async def test_those_that_are_turned_away_take_no_place(server: Running):
    leave_alone()
    first, second = await server.open(), await server.open()
    for client in (first, second):
        assert await answered_at_once(client)
    told = [await server.open() for _number in range(3)]
    for client in told:
        assert (await client.answer())[0] == 503
    first.writer.close()
    await until(lambda: len(server.connections.open) - server.connections.turned_away == 1)
    assert await answered_at_once(await server.open())
    await until(lambda: server.connections.turned_away == 0)


def test_handshakes_that_never_end_keep_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(listener, "_HANDSHAKES", 2)

    async def run() -> None:
        settings, tls = secure(tmp_path)
        async with running(**settings, max_connections=4, read_seconds=30.0) as server:
            silent = [await server.open() for _number in range(12)]
            await until(lambda: server.count('modelship_rejected_total{reason="connections"}') == 8)
            await asyncio.sleep(0.3)
            newcomers = [await server.open(ssl=tls, server_hostname="localhost") for _number in range(4)]
            for client in newcomers:
                assert await answered_at_once(client)
            for each in silent:
                assert await each.rest() == b""
            leave_alone()
            # All have their place: one more can make its handshake, and is told.
            last = await server.open(ssl=tls, server_hostname="localhost")
            assert (await last.answer())[0] == 503

    asyncio.run(run())


# --- without credentials ---


class Keyed:
    """Lets in whoever has the key."""

    enabled = True

    def admit(self, headers: Mapping[str, str], certificate: object) -> str:  # noqa: ARG002
        if headers.get("x-api-key") != "k":
            raise RequestError(401, "credentials: none given", ("www-authenticate", "Bearer"))
        return "me"


POST = b"POST /echo HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b"
KEY = b"x-api-key: k\r\n"


def guard(server: Running) -> None:
    server.app._gate = Keyed()


def peer_of(client: Client) -> str:
    address, port = client.writer.get_extra_info("sockname")
    return f"{address}:{port}"


async def with_a_key(client: Client) -> bool:
    client.writer.write(POST % (KEY, 1, b"a"))
    return (await client.answer())[0] == 200


@over_sockets(max_connections=8, read_seconds=30.0, api_keys="/etc/keys")
async def test_bodies_without_credentials_keep_no_client_with_credentials_out(server: Running):
    """However fast they come, and however short they are."""
    guard(server)
    slow = [await server.open() for _number in range(4)]
    for client in slow:
        client.writer.write(POST % (b"", 60_000, b"a"))
    await until(lambda: server.context.row.in_flight == 4)
    for _step in range(5):
        await asyncio.sleep(0.05)
        for client in slow:
            client.writer.write(b"a" * 1000)  # 20,000 bytes a second
    others = [await server.open() for _number in range(4)]
    for client in others:
        client.writer.write(POST % (b"", 60_000, b"a"))
        assert (await client.answer())[0] == 401, "connections run short: credentials are asked for first"
    for client in [await server.open() for _number in range(4)]:
        assert await with_a_key(client)
    assert server.context.row.in_flight == 0


@over_sockets(max_connections=100, api_keys="/etc/keys")
async def test_a_short_body_without_credentials_is_not_kept_and_the_connection_goes_on(server: Running):
    guard(server)
    client = await server.open()
    for body in (b"a" * 60_000, b"b" * 5):
        head = POST % (b"", len(body), b"")
        client.writer.write(head[:20])
        await asyncio.sleep(0.05)
        client.writer.write(head[20:])
        await asyncio.sleep(0.05)
        client.writer.write(body[:3])
        await asyncio.sleep(0.05)
        assert server.connections.held == 0
        client.writer.write(body[3:])
        assert (await client.answer())[0] == 401
    client.writer.write(POST % (b"", 3, b"a") + b"bc" + POST % (KEY, 1, b"x"))
    assert [(await client.answer())[0] for _ in range(2)] == [401, 200]
    assert server.count('modelship_rejected_total{reason="unauthenticated"}') == 3


@over_sockets(max_connections=4, read_seconds=30.0, api_keys="/etc/keys")
async def test_connections_without_credentials_go_first_whatever_they_ask(server: Running):
    guard(server)
    known, probing, refused, heads = [await server.open() for _number in range(4)]
    assert await with_a_key(known)
    await asyncio.sleep(0.3)
    for _step in range(3):
        probing.writer.write(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await probing.answer())[0] == 200
        refused.writer.write(GET)
        assert (await refused.answer())[0] == 401
        heads.writer.write(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10)
        await asyncio.sleep(0.01)
    newcomers = [await server.open() for _number in range(3)]
    for client in newcomers:
        assert await with_a_key(client)
    assert await with_a_key(known)
    for gone in (probing, refused, heads):
        assert await gone.rest() == b""


@over_sockets(max_connections=20, read_seconds=30.0, api_keys="/etc/keys")
async def test_a_flood_of_new_connections_does_not_take_the_place_of_known_clients(server: Running):
    guard(server)
    known = [await server.open() for _number in range(20)]
    for client in known:
        assert await with_a_key(client)
    await asyncio.sleep(0.3)
    eviction.SETTLE_NS = 60_000_000_000  # the flood is younger; until the fixture takes it back
    for client in known:
        server_side = next(each for each in server.connections.open if each._peer == peer_of(client))
        server_side._since -= 61_000_000_000  # idle, and not for too long
    flood = [await server.open() for _number in range(30)]
    await until(lambda: server.count('modelship_rejected_total{reason="connections"}') == 30)
    gone = sum([await client.reader.read(1) == b"" for client in known[:5]])
    assert gone == 5, "a quarter is for new ones"
    for client in known[5:]:
        assert await with_a_key(client)
    assert await with_a_key(flood[0])


@over_sockets(max_connections=2, read_seconds=30.0, idle_seconds=30.0, api_keys="/etc/keys")
async def test_whoever_does_not_read_its_rejection_keeps_nobody_out(server: Running):
    guard(server)
    lazy = [await server.open_slow() for _number in range(2)]
    for client in lazy:
        for _step in range(200):
            client.writer.write(b"GET /get HTTP/1.1\r\nhost: x\r\nx-request-id: %b\r\n\r\n" % (b"i" * 128) * 20)
    await asyncio.sleep(0.6)
    for _number in range(2):
        assert await with_a_key(await server.open())


@over_sockets()
async def test_headers_that_come_byte_by_byte_are_looked_at_once(server: Running):
    seen: list[int] = []
    original = http1.check_incomplete

    def check(data: bytes, start: int = 0) -> None:
        seen.append(len(data) - start)
        original(data, start)

    http1.check_incomplete = check  # type: ignore[attr-defined]
    try:
        client = await server.open()
        request = b"\r\nPOST /echo HTTP/1.1\r\nhost: x\r\na: %b\r\ncontent-length: 3\r\n\r\nabc" % (b"x" * 3000)
        for place in range(0, len(request), 10):
            client.writer.write(request[place : place + 10])
            await asyncio.sleep(0)
        assert (await client.answer())[2] == b"abc"
        assert sum(seen) <= len(request)
        client.writer.write(request)
        assert (await client.answer())[2] == b"abc"
    finally:
        http1.check_incomplete = original  # type: ignore[attr-defined]
