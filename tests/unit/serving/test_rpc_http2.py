"""HTTP/2 connections without a network: what they refuse, what they keep, and when they end."""

from __future__ import annotations

import asyncio
import dataclasses
import struct
import time
from typing import Any

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving import eviction
from modelship_serving.rpc.frames import malformed
from modelship_serving.rpc.hpack import encode, encode_indexed
from modelship_serving.rpc.http2 import Connection, Connections
from modelship_serving.settings import Settings
from tests import raw_http2 as raw

SECOND = 1_000_000_000
MIB = 1 << 20
OK = encode([("grpc-status", "0")])
CLOSED, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, REFUSED, CALM = 5, 1, 3, 7, 11


class Transport:
    """A socket whose client reads only when it is told to."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.unread = 0
        self.state = "open"
        self.reading = True

    def get_extra_info(self, name: str) -> Any:
        return self if name == "socket" else None

    def getsockopt(self, *_what: int) -> bytes:
        raise OSError("there is no network")

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.unread

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.state = "closing"

    def abort(self) -> None:
        self.state = "aborted"


@dataclasses.dataclass
class Application:
    """Answers each call with *size* bytes, or not at all; says what it was told."""

    size: int | None = 5
    told: list[str] = dataclasses.field(default_factory=list)
    waiting: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)
    heads: int = 0

    def head(self, fields: list[tuple[str, str]]) -> dict[str, str]:
        self.heads += 1
        return dict(fields) or {"x": "too large"}

    def begin(self, connection: Any, stream: Any) -> None:
        if "x-api-key" in stream.head:
            connection.admitted = True
        elif connection._all.guarded and not stream.head[":path"].endswith("ServerLive"):
            connection.refuse(stream, OK)

    def check(self, _connection: Any, _stream: Any) -> None:
        self.told.append("check")

    def complete(self, connection: Any, stream: Any, body: bytes) -> None:
        self.told.append(f"{stream.head.get('x', 'complete')} {len(body)}")
        if self.size is None:
            self.waiting.append((connection, stream))
        else:
            connection.answer(stream, None, bytes(self.size), OK)

    def late(self, connection: Any, stream: Any) -> None:
        self.told.append("late")
        connection.refuse(stream, OK)

    def left(self, _stream: Any) -> None:
        self.told.append("left")


class Bench:
    """The connections of a worker."""

    def __init__(self, size: int | None = 5, **settings: Any) -> None:
        self.app = Application(size)
        self.rejected: list[str] = []
        block = (b"\x88", b"\x88", b"\x88")  # :status 200
        self.all = Connections(self.app, Settings(**settings), lambda _n: None, self.rejected.append, block)

    def connect(self, greet: bytes = raw.PREFACE + raw.frame(raw.SETTINGS)) -> Peer:
        peer = Peer(self.all())
        peer.connection.connection_made(peer.transport)  # type: ignore[arg-type]
        peer.received()
        if greet:
            peer.send(greet)
            peer.received()
        return peer


class Peer:
    """A client of one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.transport = Transport()

    def send(self, *frames: bytes) -> list[tuple[int, int, int, bytes]]:
        """Send, and return what came back: kind, flags, stream and payload of each frame."""
        self.connection.data_received(b"".join(frames))
        return self.received()

    def received(self) -> list[tuple[int, int, int, bytes]]:
        data, self.transport.written = b"".join(self.transport.written), []
        found, place = [], 0
        while place < len(data):
            size = int.from_bytes(data[place : place + 3], "big")
            kind, flags, stream = struct.unpack_from(">BBI", data, place + 3)
            found.append((kind, flags, stream, data[place + 9 : place + 9 + size]))
            place += 9 + size
        return found

    def lose(self) -> None:
        self.connection.connection_lost(None)


def opened(stream: int, flags: int = raw.END_HEADERS, **more: str) -> bytes:
    return raw.frame(raw.HEADERS, flags, stream, raw.block("ModelInfer", **more))


def data(stream: int, size: int, end: bool = False) -> bytes:
    frames = [raw.frame(raw.DATA, 0, stream, bytes(min(16384, size - at))) for at in range(0, size, 16384)]
    return b"".join(frames) + (raw.frame(raw.DATA, raw.END_STREAM, stream) if end else b"")


def setting(key: int, value: int) -> bytes:
    return struct.pack(">HI", key, value)


def kinds(found: list[tuple[int, int, int, bytes]]) -> list[int]:
    return [kind for kind, *_ in found]


def codes(found: list[tuple[int, int, int, bytes]], kind: int) -> list[tuple[int, int]]:
    """Stream and error code of each reset, or last stream and error code of each farewell."""
    return [
        (struct.unpack(">II", payload[:8]) if kind == raw.GOAWAY else (stream, int.from_bytes(payload, "big")))
        for one, _flags, stream, payload in found
        if one == kind
    ]


# --- what they keep ---


def test_what_all_connections_keep_is_bounded():
    bench = Bench(max_body_bytes=8 * MIB)  # 64 MiB may be held
    peers = [bench.connect() for _ in range(10)]
    for peer in peers:
        peer.send(opened(1), data(1, 7 * MIB))
    assert bench.app.told.count("late") == 1, "the tenth: nine times seven is 63"
    assert bench.all.held < bench.all.most_held
    assert kinds(peers[0].send(data(1, 100, end=True))) == [raw.HEADERS, raw.DATA, raw.HEADERS]
    peers[9].send(opened(3), data(3, 6 * MIB))
    assert bench.app.told.count("late") == 1, "there is room again"
    for peer in peers[1:5]:
        peer.send(raw.frame(raw.RST_STREAM, 0, 1, b"\0\0\0\x08"))
    for peer in peers:
        peer.lose()
    assert bench.all.held == 0
    assert not bench.all.open


def test_a_message_counts_until_it_is_answered():
    bench = Bench(size=None)
    peer = bench.connect()
    peer.send(opened(1), data(1, MIB, end=True), opened(3), data(3, MIB, end=True))
    assert bench.app.told[-1] == f"complete {MIB}"
    assert bench.all.held > 2 * MIB
    for connection, stream in bench.app.waiting:
        connection.answer(stream, None, b"", OK)
    assert bench.all.held == 0


def test_small_calls_go_on_where_there_are_too_many_large_ones():
    bench = Bench()
    bench.all.held = bench.all.most_held
    peer = bench.connect()
    assert kinds(peer.send(opened(1), data(1, 100, end=True))) == [raw.HEADERS, raw.DATA, raw.HEADERS]
    bench.all.held = bench.all.most_open + 1
    assert codes(peer.send(opened(3)), raw.RST_STREAM) == [(3, REFUSED)]
    bench.all.held = 0
    assert kinds(peer.send(opened(5), data(5, 100, end=True))) == [raw.HEADERS, raw.DATA, raw.HEADERS]


def test_a_message_in_tiny_frames_takes_no_more_memory_than_it_has_bytes():
    bench = Bench(size=None)
    peer = bench.connect()
    peer.send(opened(1), raw.frame(raw.DATA, 0, 1, b"x") * 50_000)
    (stream,) = peer.connection.streams.values()
    assert stream.body == b"x" * 50_000
    assert stream.body.__sizeof__() < 100_000


def test_answers_that_are_not_taken_are_bounded_and_counted():
    bench = Bench(size=20 * MIB)
    peer = bench.connect(raw.PREFACE + raw.frame(raw.SETTINGS, 0, 0, setting(4, 0)))  # a window of nothing
    for stream in (1, 3, 5):
        assert codes(peer.send(opened(stream), data(stream, 10, end=True)), raw.RST_STREAM) == []
        assert bench.all.held > (stream // 2 + 1) * 20 * MIB
    assert codes(peer.send(opened(7), data(7, 10, end=True)), raw.RST_STREAM) == [(7, CALM)]
    peer.send(raw.frame(raw.WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big")))
    for stream in (1, 3, 5):
        found = peer.send(raw.frame(raw.WINDOW_UPDATE, 0, stream, (20 * MIB).to_bytes(4, "big")))
        assert sum(len(payload) for kind, _f, _s, payload in found if kind == raw.DATA) == 20 * MIB
    assert bench.all.held == 0


def test_nothing_is_written_to_a_client_that_does_not_read():
    bench = Bench(size=100_000)
    peer = bench.connect(
        raw.PREFACE
        + raw.frame(raw.SETTINGS, 0, 0, setting(4, 2**30) + setting(5, 2**20))
        + raw.frame(raw.WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big"))
    )
    assert kinds(peer.send(opened(1), data(1, 10, end=True))) == [raw.HEADERS, raw.DATA, raw.HEADERS]
    peer.connection.pause_writing()
    for stream in (3, 5):
        assert kinds(peer.send(opened(stream), data(stream, 10, end=True))) == [raw.HEADERS]
    assert bench.all.held > 200_000
    peer.connection.resume_writing()
    found = peer.received()
    assert [(kind, stream) for kind, _f, stream, _p in found] == [
        (kind, stream) for stream in (3, 5) for kind in (raw.DATA, raw.HEADERS)
    ]
    assert bench.all.held == 0
    assert peer.transport.reading


def test_few_headers_are_kept_decoded_and_none_that_are_large():
    bench = Bench()
    peer = bench.connect()
    end = raw.END_HEADERS | raw.END_STREAM
    for stream in range(1, 401, 2):
        peer.send(opened(stream, end, x=str(stream % 10)))
    assert bench.app.heads == 5
    for stream in range(401, 801, 2):
        peer.send(opened(stream, end, x=str(stream)))
        assert len(peer.connection._heads) <= 16
    peer.connection._heads.clear()
    peer.send(opened(801, end, x="y" * 5000))
    assert not peer.connection._heads


def test_a_block_means_what_the_table_says_now():
    """The same bytes are other fields once the peer's table has changed, be it by fields that are too large."""
    bench = Bench()
    peer = bench.connect()
    base = raw.block("ModelInfer")

    def put(value: bytes) -> bytes:
        return base + b"\x40\x01x" + bytes([len(value)]) + value

    again, end = base + b"\xbe", raw.END_HEADERS | raw.END_STREAM
    peer.send(
        *(raw.frame(raw.HEADERS, end, stream, block) for stream, block in ((1, put(b"a")), (3, again), (5, again)))
    )
    assert bench.app.told == ["a 0"] * 3
    large = b"\x40\x01y\x7f\xb9\x16" + b"z" * 3000 + b"\xbe" * 6
    peer.send(raw.frame(raw.HEADERS, end, 7, base + large))
    assert bench.app.told[-1] == "too large 0"
    peer.send(raw.frame(raw.HEADERS, end, 9, again))
    assert bench.app.told[-1] == "complete 0", "it is y that comes first now"
    peer.send(opened(11), raw.frame(raw.HEADERS, end, 11, b"\x40\x01x\x01c"))
    peer.send(raw.frame(raw.HEADERS, end, 13, again))
    assert bench.app.told[-1] == "c 0"


# --- what they refuse ---


def test_no_window_grows_beyond_what_it_may_by_settings():
    bench = Bench(size=None)
    peer = bench.connect()
    peer.send(opened(1), raw.frame(raw.WINDOW_UPDATE, 0, 1, (2**31 - 1 - 65535).to_bytes(4, "big")))
    assert codes(peer.send(raw.frame(raw.SETTINGS, 0, 0, setting(4, 65535))), raw.GOAWAY) == []
    assert codes(peer.send(raw.frame(raw.SETTINGS, 0, 0, setting(4, 65536))), raw.GOAWAY) == [(1, FLOW_CONTROL_ERROR)]
    assert peer.transport.state == "closing"
    assert codes(bench.connect().send(raw.frame(raw.SETTINGS, 0, 0, setting(4, 2**31))), raw.GOAWAY) == [
        (0, FLOW_CONTROL_ERROR)
    ]


@pytest.mark.parametrize(("value", "code"), [(0, None), (1, None), (2, PROTOCOL_ERROR), (2**32 - 1, PROTOCOL_ERROR)])
def test_push_is_on_or_off(value: int, code: int | None):
    found = Bench().connect().send(raw.frame(raw.SETTINGS, 0, 0, setting(2, value)))
    assert codes(found, raw.GOAWAY) == ([] if code is None else [(0, code)])


def test_of_many_values_of_a_setting_the_last_counts(monkeypatch: pytest.MonkeyPatch):
    bench = Bench(size=None)
    peer = bench.connect()
    peer.send(*(opened(stream) for stream in range(1, 513, 2)))
    moved: list[int] = []
    move = Connection._move_windows
    monkeypatch.setattr(Connection, "_move_windows", lambda self, value: (moved.append(value), move(self, value))[1])
    peer.send(raw.frame(raw.SETTINGS, 0, 0, b"".join(setting(4, 1000 + number) for number in range(2730))))
    assert moved == [3729], "not 2730 times over 256 streams"
    assert {stream.window for stream in peer.connection.streams.values()} == {3729}


GOOD = [(":method", "POST"), (":scheme", "http"), (":path", "/"), ("te", "trailers"), ("x-y", "a b\t\xff")]


@pytest.mark.parametrize(
    "fields",
    [
        GOOD[1:],
        [*GOOD[:2], *GOOD[3:]],
        [GOOD[0], *GOOD[2:]],
        [*GOOD, (":authority", "x")],
        [GOOD[3], *GOOD[:3]],
        [GOOD[0], *GOOD],
        [(":status", "200"), *GOOD],
        [(":", "x"), *GOOD],
        [*GOOD, ("X-Y", "a")],
        [*GOOD, ("x y", "a")],
        [*GOOD, ("", "a")],
        [*GOOD, ("x-ü", "a")],
        [*GOOD, ("connection", "close")],
        [*GOOD, ("transfer-encoding", "chunked")],
        [*GOOD[:3], ("te", "gzip")],
        [*GOOD, ("x", "a\r\nb")],
        [*GOOD, ("x", "a\0")],
    ],
)
def test_malformed_fields_end_the_stream_not_the_connection(fields: list[tuple[str, str]]):
    assert not malformed(GOOD)
    assert not malformed([(":authority", "x"), *GOOD])
    bench = Bench()
    peer = bench.connect()
    for stream in (1, 3):
        head = raw.frame(raw.HEADERS, raw.END_HEADERS, stream, encode(fields))
        assert codes(peer.send(head, data(stream, 10)), raw.RST_STREAM) == [(stream, PROTOCOL_ERROR)]
    assert bench.all.held == 0
    assert kinds(peer.send(opened(5), data(5, 10, end=True))) == [raw.HEADERS, raw.DATA, raw.HEADERS]


@pytest.mark.parametrize(
    ("trailers", "right"), [([("x-y", "z")], True), ([(":path", "/")], False), ([("X-Y", "z")], False), ([], True)]
)
def test_trailers_of_a_request(trailers: list[tuple[str, str]], right: bool):
    bench = Bench()
    peer = bench.connect()
    end = raw.frame(raw.HEADERS, raw.END_HEADERS | raw.END_STREAM, 1, encode(trailers))
    found = peer.send(opened(1), data(1, 10), end)
    assert codes(found, raw.RST_STREAM) == ([] if right else [(1, PROTOCOL_ERROR)])
    assert bench.app.told == ["check", "complete 10" if right else "left"]
    assert bench.all.held == 0


# --- when they end ---


def test_a_connection_that_is_over_does_not_wait_for_a_client_that_does_not_read():
    bench = Bench()
    peer = bench.connect()
    peer.transport.unread = 1000
    peer.send(raw.frame(raw.PUSH_PROMISE))
    assert peer.transport.state == "closing"
    now = peer.connection._since
    peer.connection.check_time(now + SECOND)
    assert peer.transport.state == "closing"
    peer.connection.check_time(now + 3 * SECOND)
    assert peer.transport.state == "aborted"


def test_a_client_that_reads_is_waited_for_and_one_that_does_not_is_not():
    bench = Bench(idle_seconds=75)
    peer, now = bench.connect(), 0
    for second in range(0, 600, 30):
        now = peer.connection._since + second * SECOND
        peer.transport.unread = 100_000 - second
        peer.connection.check_time(now)
        assert peer.transport.state == "open", "slow, but it reads"
    peer.connection.check_time(now + 74 * SECOND)
    assert peer.transport.state == "open"
    peer.transport.unread += 5  # what is added to the rest is not read either
    peer.connection.check_time(now + 76 * SECOND)
    assert peer.transport.state == "aborted"


def test_requests_that_do_not_come_are_not_waited_for_while_nothing_is_read():
    bench = Bench(read_seconds=10)
    peer = bench.connect()
    peer.send(opened(1), data(1, 20_000))
    peer.transport.unread = 1000
    peer.connection.check_time(peer.connection._since + 11 * SECOND)
    assert bench.app.told[-1] == "late"


def test_where_all_places_are_taken_one_that_asks_nothing_keeps_its_own_no_longer_than_a_request_may_take():
    bench = Bench(max_connections=3, read_seconds=10, idle_seconds=75)
    silent, asking = bench.connect(), bench.connect()
    asking.send(opened(1), data(1, 10, end=True))

    def sweep(seconds: int) -> list[str]:
        for peer in (silent, asking):
            peer.connection.check_time(peer.connection._since + seconds * SECOND)
        return [peer.transport.state for peer in (silent, asking)]

    assert sweep(11) == ["open", "open"]
    third = bench.connect()
    assert sweep(11) == ["closing", "open"]
    silent.lose()
    third.lose()
    assert asking.transport.state == "open"
    assert bench.connect().transport.state == "open"


def test_of_the_connections_too_many_some_are_told_so_and_the_rest_is_cut():
    bench = Bench(max_connections=2)
    peers = [bench.connect(b"") for _ in range(2 + 256 + 5)]
    states = [peer.transport.state for peer in peers]
    assert states == ["open"] * 2 + ["closing"] * 256 + ["aborted"] * 5
    assert bench.rejected == ["connections"] * 261


def test_a_call_that_is_being_answered_is_given_up_with_its_connection():
    async def scene() -> None:
        bench = Bench(size=None)
        peer = bench.connect()
        peer.send(opened(1), data(1, 100_000, end=True))
        ((_connection, stream),) = bench.app.waiting
        stream.task = asyncio.get_running_loop().create_task(asyncio.sleep(60))
        peer.lose()
        await asyncio.sleep(0)
        assert stream.task.cancelled()
        assert bench.app.told[-1] == "left"
        assert bench.all.held == 0

    asyncio.run(scene())


# --- which gives way to others ---


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections have a short time to settle."""
    monkeypatch.setattr(eviction, "SETTLE_NS", 50_000_000)


def states(*peers: Peer) -> list[str]:
    return [peer.transport.state for peer in peers]


@pytest.mark.usefixtures("settled")
def test_idle_and_silent_connections_give_way_to_new_ones():
    bench = Bench(max_connections=3, idle_seconds=75)
    idle = bench.connect()
    idle.send(opened(1), data(1, 10, end=True))
    silent, half = bench.connect(), bench.connect()
    half.send(opened(1, 0)[:20])
    time.sleep(0.06)
    newcomers = []
    for gone in (silent, half, idle):
        newcomers.append(bench.connect())
        assert gone.transport.state == "closing"
        assert codes(gone.received(), raw.GOAWAY)[0][1] == 0, "NO_ERROR: its calls may be made again elsewhere"
    assert states(*newcomers) == ["open"] * 3
    assert bench.rejected == ["connections"] * 3


@pytest.mark.usefixtures("settled")
def test_connections_with_calls_at_work_do_not_give_way():
    bench = Bench(size=None, max_connections=1)
    peer = bench.connect()
    peer.send(opened(1), data(1, 10, end=True))
    time.sleep(0.06)
    late = bench.connect(b"")
    assert states(peer, late) == ["open", "closing"]


@pytest.mark.usefixtures("settled")
def test_a_client_that_takes_nothing_of_its_response_gives_way_after_a_time():
    bench = Bench(size=100, max_connections=1, read_seconds=0.2, idle_seconds=75)
    closed_window = raw.PREFACE + raw.frame(raw.SETTINGS, 0, 0, setting(4, 0))
    peer = bench.connect(closed_window)
    peer.send(opened(1), data(1, 10, end=True))
    time.sleep(0.06)
    assert bench.connect(b"").transport.state == "closing", "a slow client has a moment to take some"
    bench.all.sweep()
    time.sleep(0.2)
    peer.send(raw.frame(raw.WINDOW_UPDATE, 0, 1, (1).to_bytes(4, "big")))
    assert bench.connect(b"").transport.state == "closing", "it took some"
    bench.all.sweep()
    time.sleep(0.25)
    assert bench.connect(b"").transport.state == "open"
    assert peer.transport.state == "closing"


@pytest.mark.usefixtures("settled")
def test_refused_connections_give_way_to_a_client_with_credentials_whatever_they_send():
    bench = Bench(max_connections=3, api_keys="/etc/keys", idle_seconds=75)
    refused = [bench.connect() for _ in range(3)]
    for peer in refused:
        peer.send(opened(1), opened(3), data(3, 10))
    time.sleep(0.06)
    client = bench.connect()
    assert client.transport.state == "open"
    assert kinds(client.send(opened(1, x_api_key="k"), data(1, 10, end=True))) == [raw.HEADERS, raw.DATA, raw.HEADERS]
    for _ in range(3):
        bench.connect().send(opened(1))
        time.sleep(0.06)
    assert client.transport.state == "open", "it is between two calls, but the others have no credentials at all"
    assert bench.all.served == 3


@pytest.mark.usefixtures("settled")
def test_a_flood_of_new_connections_does_not_take_the_place_of_known_clients():
    bench = Bench(max_connections=20, api_keys="/etc/keys", idle_seconds=75)
    known = [bench.connect() for _ in range(20)]
    for peer in known:
        peer.send(opened(1, x_api_key="k"), data(1, 10, end=True))
    time.sleep(0.06)
    flood = [bench.connect(b"") for _ in range(30)]
    assert states(*known).count("open") == 15, "a quarter is for new ones"
    assert states(*flood).count("open") == 5
    for peer in [*known[:5], *flood]:
        if peer.transport.state == "closing":
            peer.lose()
    time.sleep(0.06)
    bench.all.sweep()
    assert bench.connect().transport.state == "open", "in place of one of the flood"
    assert states(*known).count("open") == 15


def test_new_connections_have_a_moment_to_show_credentials():
    bench = Bench(max_connections=2, api_keys="/etc/keys")
    peers = [bench.connect(), bench.connect()]
    late = bench.connect(b"")
    assert states(*peers, late) == ["open", "open", "closing"]


def test_connections_that_are_being_closed_take_no_place():
    bench = Bench(max_connections=2)
    peers = [bench.connect(), bench.connect()]
    late = [bench.connect(b"") for _ in range(3)]
    assert states(*late) == ["closing"] * 3
    assert (bench.all.served, bench.all.closing) == (2, 3)
    peers[0].lose()
    assert bench.connect().transport.state == "open"
    for peer in late:
        peer.lose()
    assert (bench.all.served, bench.all.closing) == (2, 0)


@pytest.mark.parametrize("sent", [opened(1, 0), opened(1)[:30], raw.frame(raw.PING, 0, 0, bytes(8))[:12]])
def test_a_header_that_does_not_come_whole_is_not_waited_for(sent: bytes):
    bench = Bench(read_seconds=10, idle_seconds=75)
    peer = bench.connect()
    peer.send(sent)
    peer.connection.check_time(peer.connection._since + 9 * SECOND)
    assert peer.transport.state == "open"
    peer.connection.check_time(peer.connection._partial_since + 11 * SECOND)
    assert peer.transport.state == "closing"


# --- what is counted ---


def test_header_lists_that_are_too_large_are_counted_and_end_the_connection():
    bench = Bench()
    peer = bench.connect()
    large = raw.block("ModelInfer") + encode_indexed([("y", "z" * 3000)]) + b"\xbe" * 6
    for stream in range(1, 11, 2):
        assert (
            codes(peer.send(raw.frame(raw.HEADERS, raw.END_HEADERS | raw.END_STREAM, stream, large)), raw.GOAWAY) == []
        )
        assert bench.app.told[-1] == "too large 0"
    found = peer.send(raw.frame(raw.HEADERS, raw.END_HEADERS | raw.END_STREAM, 11, large))
    assert [code for _last, code in codes(found, raw.GOAWAY)] == [CALM]


def test_a_header_list_far_too_large_ends_the_connection_at_once():
    peer = Bench().connect()
    found = peer.send(raw.frame(raw.HEADERS, raw.END_HEADERS, 1, raw.block("ModelInfer") + b"\x82" * 16000))
    assert codes(found, raw.GOAWAY) == [(0, CALM)]


def test_headers_of_streams_that_are_over_are_counted():
    peer = Bench().connect()
    end = raw.END_HEADERS | raw.END_STREAM
    peer.send(opened(1, end))
    found = peer.send(*(opened(1, end, x=str(number)) for number in range(1100)))
    assert [code for _last, code in codes(found, raw.GOAWAY)] == [CALM]


def test_data_of_streams_that_are_over_is_counted_where_there_is_none():
    peer = Bench().connect()
    peer.send(opened(1, raw.END_HEADERS | raw.END_STREAM))
    assert codes(peer.send(raw.frame(raw.DATA, 0, 1, b"x") * 2000), raw.GOAWAY) == [], "it was under way"
    found = peer.send(raw.frame(raw.DATA, 0, 1) * 2000)
    assert [code for _last, code in codes(found, raw.GOAWAY)] == [CALM]


def test_only_so_many_headers_are_decoded_for_a_client_without_credentials():
    bench = Bench(api_keys="/etc/keys")
    refused, known, probe = bench.connect(), bench.connect(), bench.connect()
    known.send(opened(1, x_api_key="k"), data(1, 10, end=True))
    ended = 0
    for stream in range(3, 3 + 2 * 100, 2):
        call = opened(stream, x=f"{stream:01000d}", x_api_key="k"), data(stream, 10, end=True)
        assert kinds(known.send(*call)) == [raw.HEADERS, raw.DATA, raw.HEADERS]
        assert codes(probe.send(opened(stream, raw.END_HEADERS | raw.END_STREAM)), raw.GOAWAY) == []
        if not ended and codes(refused.send(opened(stream, x=f"{stream:01000d}")), raw.GOAWAY):
            ended = stream
    assert 50 < ended // 2 < 66, "64 KiB"
    assert states(refused, known, probe) == ["closing", "open", "open"]


def public(stream: int, flags: int = raw.END_HEADERS, **more: str) -> bytes:
    """The header of a call that needs no credentials."""
    return raw.frame(raw.HEADERS, flags, stream, raw.block("ServerLive", **more))


def test_trailers_of_a_client_without_credentials_count_as_headers_do():
    bench = Bench(api_keys="/etc/keys")
    unknown, known = bench.connect(), bench.connect()
    known.send(opened(1, x_api_key="k"), data(1, 10, end=True))
    ended = 0
    for stream in range(3, 3 + 2 * 100, 2):
        trailers = raw.frame(raw.HEADERS, raw.END_HEADERS | raw.END_STREAM, stream, encode([("x", f"{stream:01000d}")]))
        assert kinds(known.send(opened(stream, x_api_key="k"), trailers)) == [raw.HEADERS, raw.DATA, raw.HEADERS]
        if not ended and codes(unknown.send(public(stream), trailers), raw.GOAWAY):
            ended = stream
    assert 50 < ended // 2 < 70, "64 KiB"


def test_calls_that_send_nothing_leave_room_for_those_of_other_clients():
    bench = Bench()
    for _ in range(40):
        peer = bench.connect()
        assert not codes(peer.send(*(opened(stream) for stream in range(1, 513, 2))), raw.RST_STREAM)
    assert kinds(bench.connect().send(opened(1), data(1, 16000, end=True))) == [raw.HEADERS, raw.DATA, raw.HEADERS]


def test_clients_without_credentials_have_few_calls_open():
    bench = Bench(api_keys="/etc/keys")
    for _ in range(1000):
        found = bench.connect().send(*(public(stream) for stream in range(1, 513, 2)))
        assert len(codes(found, raw.RST_STREAM)) == 256 - 32
    known = bench.connect()
    found = known.send(*(opened(stream, x_api_key="k") for stream in range(1, 513, 2)))
    assert not codes(found, raw.RST_STREAM)
    assert kinds(known.send(data(1, 10, end=True))) == [raw.HEADERS, raw.DATA, raw.HEADERS]


def test_first_data_counts_as_it_comes():
    bench = Bench(size=None)
    peer = bench.connect()
    peer.send(opened(1))
    before = bench.all.held
    peer.send(data(1, 1000))
    assert bench.all.held == before + 1000
    peer.send(opened(3))
    bench.all.held = bench.all.most_open
    peer.send(raw.frame(raw.DATA, 0, 3, bytes(100)))
    assert bench.app.told[-1] == "late"
