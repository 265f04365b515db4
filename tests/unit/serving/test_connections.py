"""How connections behave over real sockets: what is answered, and in which order."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving.errors import RequestError

from .http_server import Release, Running, over_sockets, until


@over_sockets()
async def test_requests_one_after_the_other_on_one_connection(server: Running):
    client = await server.open()
    for body in (b"a", b"a", b"bc", b""):
        client.writer.write(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        status, headers, received = await client.answer()
        assert (status, received) == (200, body or b"nothing")
        assert headers["modelship-release"] == Release.digest
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
async def test_a_request_like_the_one_before_may_come_in_parts_before_a_shorter_one(server: Running):
    client = await server.open()
    long = b"POST /echo HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * 200 + b"\r\ncontent-length: 1\r\n\r\na"
    short = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n%b"
    client.writer.write(long)
    assert (await client.answer())[2] == b"a"
    client.writer.write(long[:150])
    await asyncio.sleep(0.05)
    client.writer.write(long[150:] + short % b"b" + short % b"c")
    for expected in (b"a", b"b", b"c"):
        status, _headers, body = await asyncio.wait_for(client.answer(), 5)
        assert (status, body) == (200, expected)


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
