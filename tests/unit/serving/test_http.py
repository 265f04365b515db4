"""HTTP/1.1: what is understood, and what is refused."""

from __future__ import annotations

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving.errors import RequestError
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
