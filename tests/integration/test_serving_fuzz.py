"""Nonsense by the thousand, the same in every run: on the parsers of bodies, on HTTP/1.1 and on HTTP/2.

Whatever comes, nothing is answered with 500, no trace gets out, nothing hangs, and the server goes on answering. More
rounds by ``MODELSHIP_FUZZ_ROUNDS`` (1 by default), another start by ``MODELSHIP_FUZZ_SEED``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import random
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import raw_http2 as raw
from tests.integration.tiny import GREEN, Server, free_port, nested, served, tiny_release

pytestmark = pytest.mark.integration

ROUNDS = int(os.environ.get("MODELSHIP_FUZZ_ROUNDS", "1"))
SEED = os.environ.get("MODELSHIP_FUZZ_SEED", "1")
PIXELS = struct.pack("<4f", *GREEN)
#: What bytes are replaced by, besides others by chance: what has a meaning somewhere.
SPICE = (
    *(
        b"\x00",
        b"\xff",
        b"\x7f",
        b"\x80",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b":",
        b",",
        b'"',
        b"\\",
        b"[",
        b"]",
        b"{",
        b"}",
    ),
    *(b"-1", b"0", b"1e999", b"NaN", b"null", b"true", b'"x"', b"9" * 40, b"[[[[[[[[", b"%00", b"%2e%2e", b"\xc3\x28"),
    *(
        b"\x00" * 9,
        b"\xff" * 9,
        b"content-length: 5\r\n",
        b"transfer-encoding: chunked\r\n",
        b"\xed\xa0\x80",
        b"a" * 3000,
    ),
)


@dataclasses.dataclass
class Guarded(Server):
    """The server that all of this is thrown at."""

    rpc_port: int = 0


def mangled(chance: random.Random, data: bytes) -> bytes:
    """*data* with a few bytes changed, dropped, doubled or put in."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        place = chance.randrange(len(found) + 1)
        size = chance.choice((0, 0, 1, 1, 2, 5, 40))
        what = chance.randrange(4)
        if what == 0:
            found[place : place + size] = chance.choice(SPICE)
        elif what == 1:
            found[place : place + size] = chance.randbytes(size)
        elif what == 2:
            found[place:place] = found[place : place + chance.randrange(60)]
        else:
            del found[place : place + size]
    if chance.random() < 0.1:
        del found[chance.randrange(len(found) + 1) :]
    return bytes(found)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    release = tiny_release(tmp_path_factory.mktemp("release"))
    env = {
        "MODELSHIP_GRPC_PORT": str(free_port()),
        "MODELSHIP_MAX_BODY_BYTES": "20000",
        "MODELSHIP_READ_SECONDS": "2",
        "MODELSHIP_EXPLAIN": "true",
    }
    with served(release, **env) as found:
        running = Guarded(**vars(found), rpc_port=int(env["MODELSHIP_GRPC_PORT"]))
        yield running
        assert running.process.poll() is None, "the server died"
        codes = {key for key in running.counts("modelship_requests_total") if re.search(r'code="5\d\d"', key)}
        assert {key for key in codes if not re.search(r'code="(501|505)"', key)} == set()
        assert running.counts("modelship_in_flight") == {"modelship_in_flight": 0}
        assert running.stop() == 0
        levels = {event["level"] for event in running.log()}
        assert "error" not in levels
        assert "Traceback" not in running.stderr.read_text()


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{SEED} {request.node.name}")  # noqa: S311 - the same in every run


def alive(server: Guarded) -> None:
    answer = server.call("POST", "/predict", {"image": GREEN})
    assert (answer.status, answer.json["label"]) == (200, "green")
    with raw.Client(server.rpc_port) as client:
        assert client.call("ServerReady").data == raw.message(b"\x08\x01")


def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\x00\x00\xff\x00\x0a\x00")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def v2(**more: object) -> bytes:
    tensor = {"name": "image", "datatype": "FP32", "shape": [1, 2, 2, 1], **more}
    return json.dumps({"id": "7", "inputs": [tensor], "outputs": [{"name": "probabilities"}]}).encode()


_BINARY = v2(parameters={"binary_data_size": 16})
BODIES: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "predict": ("/predict", json.dumps({"image": nested(GREEN)}).encode(), {}),
    "instances": ("/predict", json.dumps({"instances": [GREEN, {"image": GREEN}]}).encode(), {}),
    "picture": ("/predict", png(), {"content-type": "image/png"}),
    "gzip": ("/predict", zlib.compress(json.dumps({"image": GREEN}).encode()), {"content-encoding": "deflate"}),
    "v2": ("/v2/models/tiny/infer", v2(data=GREEN), {}),
    "v2 binary": (
        "/v2/models/tiny/infer",
        _BINARY + PIXELS,
        {"inference-header-content-length": str(len(_BINARY)), "content-type": "application/octet-stream"},
    ),
    "explain": ("/explain", json.dumps({"image": GREEN}).encode(), {}),
}


@pytest.mark.parametrize("kind", BODIES)
def test_bodies(server: Guarded, chance: random.Random, kind: str):
    path, body, headers = BODIES[kind]
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    statuses: dict[int, int] = {}
    for _ in range(300 * ROUNDS):
        given = {"content-type": "application/json", **headers}
        if "inference-header-content-length" in given and chance.random() < 0.2:
            given["inference-header-content-length"] = str(chance.choice((0, 1, -1, 10**20, len(_BINARY) + 1)))
        connection.request("POST", path, mangled(chance, body), given)
        response = connection.getresponse()
        text = response.read()
        statuses[response.status] = statuses.get(response.status, 0) + 1
        assert response.status in (200, 400, 404, 405, 413, 415), (response.status, text)
        if response.status >= 400:
            error = json.loads(text)
            assert list(error) == ["error"]
            assert "Traceback" not in error["error"]
            assert "\n" not in error["error"]
    connection.close()
    assert sum(statuses.values()) - statuses.get(200, 0) > 100 * ROUNDS, statuses
    alive(server)


def request_of(body: bytes) -> bytes:
    head = "POST /predict?a=%20b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    return f"{head}X-Request-Id: abc\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(body: bytes) -> bytes:
    head = b"POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"%x;a=b\r\n%b\r\n%x\r\n%b\r\n0\r\ntrailer: 1\r\n\r\n" % (5, body[:5], len(body) - 5, body[5:])


def said(port: int, pieces: list[bytes]) -> bytes:
    """Send, say that nothing more comes, and return what the server says until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        found = b""
        # A server that has had enough may close before it has read all.
        with contextlib.suppress(OSError):
            for piece in pieces:
                client.sendall(piece)
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while chunk := client.recv(65536):
                found += chunk
        return found


def in_pieces(chance: random.Random, data: bytes) -> list[bytes]:
    if chance.random() < 0.8:
        return [data]
    places = sorted(chance.randrange(len(data) + 1) for _ in range(3))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def test_http(server: Guarded, chance: random.Random):
    body = json.dumps({"image": GREEN}).encode()
    seeds = [
        request_of(body),
        chunked(body),
        request_of(body) * 3,
        b"GET /v2/health/ready HTTP/1.1\r\nhost: x\r\n\r\n" * 2,
        b"HEAD /metrics HTTP/1.0\r\n\r\n",
        request_of(body).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n", 1),
    ]
    seen: dict[bytes, int] = {}
    for _ in range(1500 * ROUNDS):
        data = mangled(chance, chance.choice(seeds)) if chance.random() < 0.95 else chance.randbytes(200)
        answer = said(server.port, in_pieces(chance, data))
        for status in re.findall(rb"HTTP/1\.1 (\d+) ", answer):
            seen[status] = seen.get(status, 0) + 1
            assert status[:1] in b"124" or status in (b"304", b"501", b"505"), (data, answer)
        assert b"Traceback" not in answer
    assert {b"200", b"400"} <= set(seen), seen
    alive(server)


def infer_message() -> bytes:
    """A ``ModelInferRequest`` as tritonclient would send it."""
    tensor = b"\x0a\x05image\x12\x04FP32\x1a\x04\x01\x02\x02\x01"
    return b"\x0a\x04tiny\x2a" + bytes([len(tensor)]) + tensor + b"\x3a\x10" + PIXELS


def typed_message() -> bytes:
    tensor = b"\x0a\x05image\x12\x04FP32\x1a\x04\x01\x02\x02\x01\x2a\x12\x32\x10" + PIXELS
    return b"\x0a\x04tiny\x2a" + bytes([len(tensor)]) + tensor + b"\x32\x0f\x0a\x0dprobabilities"


def test_grpc_messages(server: Guarded, chance: random.Random):
    seen: dict[int, int] = {}
    with raw.Client(server.rpc_port) as client:
        for _ in range(1500 * ROUNDS):
            data = mangled(chance, chance.choice((infer_message(), typed_message())))
            reply = client.call("ModelInfer", data)
            seen[reply.status] = seen.get(reply.status, 0) + 1
            assert reply.status in (0, 3, 5, 8), (data, reply)
            assert "Traceback" not in reply.headers.get("grpc-message", "")
    assert {0, 3, 5} <= set(seen), seen
    alive(server)


def conversation() -> list[bytes]:
    """What an ordinary client sends, frame by frame."""
    body = raw.message(infer_message())
    return [
        raw.frame(
            raw.SETTINGS, 0, 0, b"\x00\x03" + (100).to_bytes(4, "big") + b"\x00\x04" + (65535).to_bytes(4, "big")
        ),
        raw.frame(raw.WINDOW_UPDATE, 0, 0, (1 << 20).to_bytes(4, "big")),
        raw.frame(raw.HEADERS, raw.END_HEADERS, 1, raw.block("ModelInfer", x_request_id="a")),
        raw.frame(raw.DATA, raw.END_STREAM, 1, body),
        raw.frame(raw.PING, 0, 0, b"12345678"),
        raw.frame(raw.HEADERS, 0, 3, raw.block("ModelInfer")[:20]),
        raw.frame(raw.CONTINUATION, raw.END_HEADERS, 3, raw.block("ModelInfer")[20:]),
        raw.frame(raw.DATA, 0, 3, body[:20]),
        raw.frame(raw.PRIORITY, 0, 3, b"\x00\x00\x00\x00\x10"),
        raw.frame(raw.DATA, raw.END_STREAM, 3, body[20:]),
        raw.frame(raw.HEADERS, raw.END_HEADERS, 5, raw.block("ServerLive")),
        raw.frame(raw.RST_STREAM, 0, 5, (8).to_bytes(4, "big")),
        raw.frame(raw.HEADERS, raw.END_HEADERS, 7, raw.block("ServerLive", grpc_timeout="1S")),
        raw.frame(raw.DATA, raw.END_STREAM, 7, raw.message(b"")),
    ]


def _bytes_mangled(chance: random.Random, frames: list[bytes]) -> bytes:
    return mangled(chance, b"".join(frames))


def _frames_mixed_up(chance: random.Random, frames: list[bytes]) -> bytes:
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(frames))
        what = chance.randrange(4)
        if what == 0:
            del frames[place]
        elif what == 1:
            frames.insert(chance.randrange(len(frames) + 1), frames[place])
        elif what == 2:
            other = chance.randrange(len(frames))
            frames[place], frames[other] = frames[other], frames[place]
        else:
            payload = chance.randbytes(chance.choice((0, 1, 4, 5, 6, 8, 30)))
            kind, flags, stream = chance.randrange(12), chance.choice((0, 1, 4, 5, 8, 0x2D, 255)), chance.randrange(9)
            frames.insert(place, raw.frame(kind, flags, stream, payload))
        if not frames:
            break
    return b"".join(frames)


def _heads_mangled(chance: random.Random, frames: list[bytes]) -> bytes:
    place = chance.choice((2, 5, 6, 10, 12))
    old = frames[place]
    payload = mangled(chance, old[9:])[:16384]
    frames[place] = raw.frame(old[3], old[4], int.from_bytes(old[5:9], "big"), payload)
    return b"".join(frames)


@pytest.mark.parametrize("mangle", [_bytes_mangled, _frames_mixed_up, _heads_mangled])
def test_http2(server: Guarded, chance: random.Random, mangle: Callable[[random.Random, list[bytes]], bytes]):
    answered = ended = 0
    for _ in range(500 * ROUNDS):
        data = raw.PREFACE + mangle(chance, conversation())
        if chance.random() < 0.05:
            data = mangled(chance, data)
        answer = said(server.rpc_port, in_pieces(chance, data))
        assert b"Traceback" not in answer
        assert b"internal error" not in answer, data
        # A frame's kind is its fourth byte: data of answers, and the farewells that name an error.
        answered += b"tiny" in answer
        ended += re.search(rb"\x07\x00\x00\x00\x00\x00....\x00\x00\x00[\x01-\x0d]", answer, re.DOTALL) is not None
    assert answered > 50 * ROUNDS
    assert ended > 10 * ROUNDS
    alive(server)


def test_floods_over_http2_end_the_connection(server: Guarded):
    """Frames that ask for nothing, without end: the connection goes, the server stays."""
    floods = {
        "settings": raw.frame(raw.SETTINGS),
        "pings": raw.frame(raw.PING, 0, 0, b"12345678"),
        "priorities": raw.frame(raw.PRIORITY, 0, 1, b"\x00\x00\x00\x00\x10"),
        "continuations": raw.frame(raw.CONTINUATION, 0, 1, b""),
        "empty data": raw.frame(raw.DATA, 0, 1, b""),
    }
    for name, each in floods.items():
        start = b""
        if name in ("continuations", "empty data"):
            flags = raw.END_HEADERS if name == "empty data" else 0
            start = raw.frame(raw.HEADERS, flags, 1, raw.block("ServerLive"))
        opening = raw.PREFACE + raw.frame(raw.SETTINGS) + start
        answer = said(server.rpc_port, [opening + each * 5000])
        assert b"\x00\x00\x00\x0b" in answer, name  # ENHANCE_YOUR_CALM
    resets = b"".join(
        raw.frame(raw.HEADERS, raw.END_HEADERS, stream, raw.block("ModelInfer"))
        + raw.frame(raw.RST_STREAM, 0, stream, b"\x00\x00\x00\x08")
        for stream in range(1, 2001, 2)
    )
    answer = said(server.rpc_port, [raw.PREFACE + raw.frame(raw.SETTINGS) + resets])
    assert b"\x00\x00\x00\x0b" in answer
    alive(server)


def test_memory_is_given_back(server: Guarded, chance: random.Random, tmp_path: Path):
    """Requests that are never finished are not kept."""

    def resident() -> int:
        return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * 4096

    before = resident()
    for _ in range(200):
        with contextlib.suppress(ConnectionError):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
                client.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 20000\r\n\r\n" + bytes(19000))
            with raw.Client(server.rpc_port) as half:
                half.send(raw.frame(raw.HEADERS, raw.END_HEADERS, 1, raw.block("ModelInfer")))
                half.send(raw.frame(raw.DATA, 0, 1, b"\x00\x00\x00\x4a\x38" + bytes(16000)))
    alive(server)
    assert resident() - before < 20 * 2**20
