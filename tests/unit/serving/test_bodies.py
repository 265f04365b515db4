from __future__ import annotations

import gzip
import random
import zlib

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving.bodies import compressed, content, form_file, query_value
from modelship_serving.errors import RequestError
from modelship_serving.http import Request, Response

TEXT = b"some text, " * 500


def request(body: bytes = b"", query: str = "", **headers: str) -> Request:
    return Request("POST", "/predict", query, {name.replace("_", "-"): text for name, text in headers.items()}, body)


def bare(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("X-GZIP", gzip.compress(TEXT, mtime=0)),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", bare(TEXT)),
        ("identity", TEXT),
        ("Identity", TEXT),
    ],
)
def test_bodies_are_decompressed(coding: str, body: bytes):
    assert content(request(body, content_encoding=coding), len(TEXT)) == TEXT


@pytest.mark.parametrize("sizes", [(1000, 4500), (0, 5500), (5500, 0), (1,) * 300 + (5200,), (0,) * 8191 + (5500,)])
def test_a_gzip_body_of_several_members_is_one_body(sizes: tuple[int, ...]):
    """RFC 1952, section 2.2: the members simply appear one after another."""
    body, place = b"", 0
    for size in sizes:
        body += gzip.compress(TEXT[place : place + size], mtime=0)
        place += size
    assert gzip.decompress(body) == TEXT, "as any other reader has it"
    assert content(request(body, content_encoding="gzip"), len(TEXT)) == TEXT
    with pytest.raises(RequestError) as caught:
        content(request(body, content_encoding="gzip"), len(TEXT) - 1)
    assert caught.value.status == 413


def test_large_members_are_read_piece_by_piece():
    noise = random.Random(3).randbytes(300_000)  # noqa: S311
    body = gzip.compress(noise[:100_001], mtime=0) + gzip.compress(noise[100_001:])
    assert content(request(body, content_encoding="gzip"), 300_000) == noise


@pytest.mark.parametrize(
    ("coding", "body", "limit", "status"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0) * 2, 2 * len(TEXT) - 1, 413),
        ("gzip", gzip.compress(TEXT, mtime=0) + gzip.compress(TEXT)[:-1], 99999, 400),
        ("gzip", gzip.compress(TEXT, mtime=0) + gzip.compress(TEXT) + b"x", 99999, 400),
        ("gzip", gzip.compress(TEXT, mtime=0) + zlib.compress(TEXT), 99999, 400),
        ("gzip", gzip.compress(b"", mtime=0) * 400_000, 99999, 400),
        ("gzip", gzip.compress(b"", mtime=0) + gzip.compress(b" " * 10_000_000), 99999, 413),
        ("deflate", zlib.compress(TEXT) * 2, 99999, 400),
        ("br", TEXT, 9999, 415),
        ("gzip, gzip", gzip.compress(TEXT, mtime=0), 9999, 415),
        ("gzip", TEXT, 9999, 400),
        ("gzip", b"", 9999, 400),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-1], 9999, 400),
        ("gzip", gzip.compress(TEXT, mtime=0) + b"x", 9999, 400),
        ("deflate", zlib.compress(TEXT)[:-1], 9999, 400),
        ("deflate", b"", 9999, 400),
        ("gzip", gzip.compress(TEXT, mtime=0), len(TEXT) - 1, 413),
        ("deflate", zlib.compress(b" " * 10_000_000), 9999, 413),
    ],
)
def test_damaged_and_swollen_bodies_are_refused(coding: str, body: bytes, limit: int, status: int):
    with pytest.raises(RequestError) as caught:
        content(request(body, content_encoding=coding), limit)
    assert caught.value.status == status


def test_whatever_comes_compressed_ends_in_bytes_or_a_refusal():
    generator = random.Random(0)  # noqa: S311
    good, statuses = gzip.compress(TEXT, mtime=0), set()
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(generator.randint(1, 4)):
            data[generator.randrange(len(data))] = generator.randrange(256)
        statuses.add(outcome(bytes(data), generator.choice(["gzip", "deflate"])))
    assert statuses <= {200, 400, 413}
    assert 400 in statuses


def outcome(body: bytes, coding: str) -> int:
    try:
        return 200 if len(content(request(body, content_encoding=coding), 9999)) <= 9999 else 500
    except RequestError as exc:
        return exc.status


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br", "gzip"),
        ("deflate", "deflate"),
        ("deflate;q=1, gzip;q=0.5", "deflate"),
        ("br", None),
        ("gzip;q=0", None),
        ("gzip;q=oops", None),
        ("identity, gzip;q=0.5", None),
        ("", None),
    ],
)
def test_answers_are_compressed_as_the_client_likes(accepted: str, coding: str | None):
    answer = compressed(request(accept_encoding=accepted), Response(TEXT, headers=[("a", "b")]))
    assert dict(answer.headers).get("content-encoding") == coding
    data = answer.body
    assert {"gzip": gzip.decompress, "deflate": zlib.decompress, None: bytes}[coding](data) == TEXT
    assert ("a", "b") in answer.headers
    assert compressed(request(accept_encoding=accepted), Response(b"short")).body == b"short"
    assert compressed(request(), Response(TEXT)).body == TEXT


def form(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(b"--b\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts) + b"--b--\r\n"


FILE = 'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png'
NOTE = 'content-disposition: form-data; name="note"'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n--",
        b"x--b",
        b"\r\n",
        b"\x89PNG\r\n\x1a\n\0\r\n\r\n",
        bytes(range(256)),
        b"\r\n--bc\r\n",
        b"\r\n--b--c\r\n\r\n--b-\r\n",
    ],
)
@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data; boundary=b",
        'multipart/form-data; charset=x; boundary="b"',
        'multipart/form-data; note="a; boundary=c, \\""; Boundary = "b"',
    ],
)
def test_the_file_of_a_form(kind: str, data: bytes):
    body = form((NOTE, b"hello"), (FILE, data), (NOTE, b""))
    assert form_file(request(content_type=kind), body) == ("image", data)


def test_a_quoted_parameter_may_hold_anything():
    head = 'content-disposition: form-data; filename="a; name=b.png"; name="the; \\"picture\\""'
    assert form_file(request(content_type='multipart/form-data; boundary="b"'), form((head, b"x"))) == (
        'the; "picture"',
        b"x",
    )
    body = form((FILE, b"x")).replace(b"--b", b"--a;b")
    assert form_file(request(content_type='multipart/form-data; boundary="a;b"'), body) == ("image", b"x")


def test_what_is_around_the_parts_does_not_matter():
    body = b"hello\r\n" + form((FILE, b"x")).replace(b"--b\r\n", b"--b \t\r\n") + b"and more\r\n--b\r\n"
    assert form_file(request(content_type="multipart/form-data; boundary=b"), body) == ("image", b"x")


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("multipart/form-data", form((FILE, b"x")), 400),
        ("multipart/form-data; boundary=", form((FILE, b"x")), 400),
        ("multipart/form-data; boundary=" + "b" * 71, form((FILE, b"x")), 400),
        ("multipart/form-data; boundary=c", form((FILE, b"x")), 400),
        ("multipart/form-data; boundary=b", form((FILE, b"x"))[:-6], 400),
        ("multipart/form-data; boundary=b", form(("x: y", b"x")), 400),
        ("multipart/form-data; boundary=b", form((NOTE, b"x")), 400),
        ("multipart/form-data; boundary=b", form((FILE, b"x"), (FILE, b"y")), 400),
        ("multipart/form-data; boundary=b", form(*[(NOTE, b"")] * 1000, (FILE, b"y")), 400),
        ("multipart/form-data; boundary=b", form((f"x: {'y' * 9000}\r\n{FILE}", b"y")), 400),
    ],
)
def test_forms_without_one_file_are_refused(kind: str, body: bytes, status: int):
    with pytest.raises(RequestError) as caught:
        form_file(request(content_type=kind), body)
    assert caught.value.status == status


def test_values_of_the_query():
    assert query_value(request(), "version") is None
    assert query_value(request(query="a=1"), "version") is None
    assert query_value(request(query="version=1&version=a%20b"), "version") == "a b"
    assert query_value(request(query="version"), "version") == ""
