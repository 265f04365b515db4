"""Header compression: the RFC's own examples, and what must be refused."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from modelship_serving.rpc import hpack
from modelship_serving.rpc.hpack import Decoder, HpackError, ListSizeError, TooMuchError, encode, encode_indexed

GET = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
SECURE = [
    (":method", "GET"),
    (":scheme", "https"),
    (":path", "/index.html"),
    (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
]


@pytest.mark.parametrize(
    "blocks",
    [
        # RFC 7541, C.3 (plain strings) and C.4 (Huffman code): three requests over one connection.
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
    ],
)
def test_examples_of_the_rfc(blocks: list[str]):
    decoder = Decoder()
    assert decoder.decode(bytes.fromhex(blocks[0])) == GET
    assert decoder.decode(bytes.fromhex(blocks[1])) == [*GET, ("cache-control", "no-cache")]
    assert decoder.decode(bytes.fromhex(blocks[2])) == SECURE


def test_generation_changes_with_the_table_only():
    decoder = Decoder()
    decoder.decode(bytes.fromhex("828684410f7777772e6578616d706c652e636f6d"))
    before = decoder.generation
    assert before > 0
    assert decoder.decode(b"\x82\x86\x84\xbe") == GET
    assert decoder.generation == before


@pytest.mark.parametrize("length", [0, 1, 126, 127, 128, 254, 255, 4000])
def test_what_is_encoded_can_be_decoded(length: int):
    fields = [("name", "v" * length), ("n" * length or "n", "ü\xff")]
    decoder = Decoder()
    assert decoder.decode(encode(fields)) == fields
    assert decoder.generation == 0
    assert decoder.decode(encode_indexed([("a", "1"), ("b", "2")]) + b"\xbe\xbf") == [
        ("a", "1"),
        ("b", "2"),
        ("b", "2"),
        ("a", "1"),
    ]


def test_old_fields_leave_the_table():
    decoder = Decoder()
    for number in range(200):
        decoder.decode(encode_indexed([(f"name-{number:04}", "v" * 50)]))
    assert decoder.decode(b"\xbe") == [("name-0199", "v" * 50)]
    room = 4096 // (9 + 50 + 32)
    assert decoder.decode(bytes([0x80 | (61 + room)])) == [(f"name-{200 - room:04}", "v" * 50)]
    with pytest.raises(HpackError):
        decoder.decode(bytes([0x80 | (62 + room)]))
    decoder.decode(b"\x20")  # a table of no bytes
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe")


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xbe",  # nothing is in the table
        b"\x00\x05abc",  # cut off
        b"\x00\x81\x00\x00",  # padding that is not ones
        b"\x00\x82\xff\xff\x00",  # padding of more than seven bits
        b"\x00\x84\xff\xff\xff\xff\x00",  # the end symbol
        b"\x3f\xe2\x1f",  # a table larger than offered
        b"\x82\x20",  # a table size behind a field
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x0f",  # a number without end
    ],
)
def test_malformed_blocks_are_refused(block: bytes):
    with pytest.raises(HpackError):
        Decoder().decode(block)


def test_a_list_too_large_is_refused_and_the_table_stays_right():
    decoder = Decoder()
    block = encode_indexed([("bomb", "x" * 3000)]) + b"\xbe" * 6
    with pytest.raises(ListSizeError):
        decoder.decode(block)
    assert decoder.decode(b"\xbe") == [("bomb", "x" * 3000)]


@pytest.mark.parametrize(
    "block",
    [
        encode_indexed([("bomb", "x" * 3000)]) + b"\xbe" * 3000,
        b"\x82" * 16384,  # :method GET
        b"\x00\x00\x00" * 5461,  # empty fields
        b"\x40\x00\x00" * 5461,
    ],
)
def test_decoding_a_list_far_too_large_is_cut_off(block: bytes, monkeypatch: pytest.MonkeyPatch):
    read: list[int] = []
    original = hpack._integer
    monkeypatch.setattr(hpack, "_integer", lambda *given: (read.append(1), original(*given))[1])
    with pytest.raises(TooMuchError):
        Decoder().decode(block)
    assert len(read) < 4000, "32 bytes of each field count, so that there are at most 1024"


@pytest.mark.parametrize(("count", "right"), [(1, True), (2, True), (3, False), (16384, False)])
def test_a_block_changes_the_size_of_the_table_twice_at_most(count: int, right: bool):
    if right:
        assert Decoder().decode(b"\x20" * count + b"\x82") == [(":method", "GET")]
        return
    with pytest.raises(HpackError, match="table size"):
        Decoder().decode(b"\x20" * count + b"\x82")


def _bit_by_bit(raw: bytes) -> bytes:
    found, code = bytearray(), 1
    for byte in raw:
        for shift in range(7, -1, -1):
            code = code << 1 | (byte >> shift & 1)
            symbol = hpack._CODES.get(code)
            if symbol is not None:
                found.append(symbol)
                code = 1
    return bytes(found)


def _packed(text: bytes) -> bytes:
    codes = {symbol: bin(code)[3:] for code, symbol in hpack._CODES.items()}
    bits = "".join(codes[byte] for byte in text)
    bits += "1" * (-len(bits) % 8)
    return int(bits or "0", 2).to_bytes(len(bits) // 8, "big")


def test_every_text_comes_back_from_the_huffman_code():
    chance = random.Random(7)  # noqa: S311
    for size in (0, 1, 2, 3, 5, 8, 100, 1000):
        for alphabet in (bytes(range(256)), b"abcdefghijklmnopqrstuvwxyz-0123456789", b"0", b"\n\xff"):
            text = bytes(chance.choices(alphabet, k=size))
            packed = _packed(text)
            assert hpack._unpack(packed) == text == _bit_by_bit(packed)[:size]


def test_the_huffman_code_is_undone_by_bytes_not_by_bits():
    """Whoever has no credentials can send it: 16 KB of the shortest codes."""
    packed = _packed(b"0" * 26000)

    def least(work: Any) -> float:
        took = []
        for _ in range(5):
            began = time.thread_time()
            work(packed)
            took.append(time.thread_time() - began)
        return min(took)

    assert least(hpack._unpack) * 3 < least(_bit_by_bit)


def test_random_bytes_raise_nothing_else():
    chance = random.Random(20240611)  # noqa: S311
    for _ in range(5000):
        try:
            Decoder().decode(chance.randbytes(chance.randrange(60)))
        except (HpackError, ListSizeError, TooMuchError):
            pass
