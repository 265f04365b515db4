# SPDX-License-Identifier: GPL-3.0-or-later
"""Header compression for HTTP/2 (RFC 7541): a full decoder, and an encoder that needs no state."""

from __future__ import annotations

from collections.abc import Iterable

#: Most bytes of the decoder's table, also as said to the peer; the protocol's own default.
TABLE_SIZE = 4096
#: Most bytes of a decoded header list, 32 for each field on top of its name and value (RFC 9113, section 6.5.2).
MAX_LIST = 16384
#: Decoding is cut off at this size: until there, a list that is too large is rejected by itself and the connection goes on.
_CUT_OFF = 2 * MAX_LIST
#: Changes of the table's size in a block (RFC 7541, section 4.2).
_MOST_RESIZES = 2

_STATIC = [
    tuple(line.split("=", 1))
    for line in [
        ":authority=",
        ":method=GET",
        ":method=POST",
        ":path=/",
        ":path=/index.html",
        ":scheme=http",
        ":scheme=https",
        ":status=200",
        ":status=204",
        ":status=206",
        ":status=304",
        ":status=400",
        ":status=404",
        ":status=500",
        "accept-charset=",
        "accept-encoding=gzip,deflate",
        "accept-language=",
        "accept-ranges=",
        "accept=",
        "access-control-allow-origin=",
        "age=",
        "allow=",
        "authorization=",
        "cache-control=",
        "content-disposition=",
        "content-encoding=",
        "content-language=",
        "content-length=",
        "content-location=",
        "content-range=",
        "content-type=",
        "cookie=",
        "date=",
        "etag=",
        "expect=",
        "expires=",
        "from=",
        "host=",
        "if-match=",
        "if-modified-since=",
        "if-none-match=",
        "if-range=",
        "if-unmodified-since=",
        "last-modified=",
        "link=",
        "location=",
        "max-forwards=",
        "proxy-authenticate=",
        "proxy-authorization=",
        "range=",
        "referer=",
        "refresh=",
        "retry-after=",
        "server=",
        "set-cookie=",
        "strict-transport-security=",
        "transfer-encoding=",
        "user-agent=",
        "vary=",
        "via=",
        "www-authenticate=",
    ]
]
#: Appendix A; its one value with a space in it cannot be written above.
_STATIC[15] = ("accept-encoding", "gzip, deflate")

# Appendix B is a canonical Huffman code: the bits of each symbol's code (A: 5, B: 6, ...) tell all of it.
_LENGTHS = [
    ord(letter) - 60
    for letter in (
        "ISXXXXXXXTZXXZXXXXXXXXZXXXXXXXXXBFFHIBDGFFDGDBBBAAABBBBBBBCDKBHFIBCCCCCCCCCCCCCCCCCCCCCCDCDIOIJBKABABABBBACCBBBABCBAABCCCC"
        "CKGJIXPRPPRRRSRSSSSSTSTTRSTSSSSQRSRSSTRQPRRSSQSRRTQRSSQQRQSRSSPRRRSRRSVVPORSRUVVVWWVTUOQVWWVWTQQVVXWWWPTPQRQQSRRUUTTVSVWVV"
        "WWWWWXWWWWWVZ"
    )
]
_EOS = 256
_CODES: dict[int, int] = {}  # a code with a 1 put in front, so that its length shows: symbol


def _fill() -> None:
    code, length = 0, 0
    for symbol in sorted(range(257), key=lambda symbol: (_LENGTHS[symbol], symbol)):
        code <<= _LENGTHS[symbol] - length
        length = _LENGTHS[symbol]
        _CODES[1 << length | code] = symbol
        code += 1


_fill()


class HpackError(Exception):
    """A header block that cannot be decoded; the connection is of no use any more (COMPRESSION_ERROR)."""


class ListSizeError(Exception):
    """A header block that was decoded and is too large to be served."""


class TooMuchError(Exception):
    """A header block whose decoding is cut off; the connection is of no use any more."""


class Decoder:
    """The state of one direction of a connection.

    :ivar generation: changes whenever the table does: until then equal blocks mean equal headers.
    """

    __slots__ = ("_limit", "_size", "_table", "generation")

    def __init__(self) -> None:
        self._table: list[tuple[str, str]] = []  # the newest first
        self._size = 0
        self._limit = TABLE_SIZE
        self.generation = 0

    def decode(self, block: bytes) -> list[tuple[str, str]]:
        """Return the fields of a whole header block.

        :raises HpackError: it is malformed.
        :raises ListSizeError: its fields are larger than :data:`MAX_LIST`; the decoder's state is right all the same.
        :raises TooMuchError: they are far larger.
        """
        fields: list[tuple[str, str]] = []
        place, end, size, resizes = 0, len(block), 0, 0
        while place < end:
            first = block[place]
            if first & 0x80:
                index, place = _integer(block, place, 7)
                field = self._field(index)
            elif first & 0xE0 == 0x20:
                limit, place = _integer(block, place, 5)
                resizes += 1
                if limit > TABLE_SIZE or size or resizes > _MOST_RESIZES:
                    raise HpackError("a table size that was not offered, not at the block's start, or one of many")
                self._limit = limit
                self._evict(0)
                self.generation += 1
                continue
            else:
                index, place = _integer(block, place, 6 if first & 0x40 else 4)
                if index:
                    name = self._field(index)[0]
                else:
                    name, place = _string(block, place)
                value, place = _string(block, place)
                field = (name, value)
                if first & 0x40:
                    self._insert(field)
            size += len(field[0]) + len(field[1]) + 32
            if size <= MAX_LIST:
                fields.append(field)
            elif size > _CUT_OFF:
                raise TooMuchError("a header list far too large")
        if size > MAX_LIST:
            raise ListSizeError
        return fields

    def _field(self, index: int) -> tuple[str, str]:
        if 0 < index <= 61:
            return _STATIC[index - 1]  # type: ignore[return-value]
        if not 61 < index <= 61 + len(self._table):
            raise HpackError("an index that is in no table")
        return self._table[index - 62]

    def _insert(self, field: tuple[str, str]) -> None:
        size = len(field[0]) + len(field[1]) + 32
        self._evict(size)
        if size <= self._limit:
            self._table.insert(0, field)
            self._size += size
        self.generation += 1

    def _evict(self, coming: int) -> None:
        while self._table and self._size + coming > self._limit:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + 32


def _integer(block: bytes, place: int, bits: int) -> tuple[int, int]:
    """Section 5.1; return the number and the place behind it."""
    full = (1 << bits) - 1
    if place >= len(block):
        raise HpackError("cut off")
    value = block[place] & full
    place += 1
    if value < full:
        return value, place
    for shift in range(0, 28, 7):
        if place >= len(block):
            raise HpackError("cut off")
        byte = block[place]
        place += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise HpackError("a number too large")


def _string(block: bytes, place: int) -> tuple[str, int]:
    """Section 5.2; bytes become characters one by one (Latin-1), so that nothing is lost."""
    if place >= len(block):
        raise HpackError("cut off")
    packed = block[place] & 0x80
    length, place = _integer(block, place, 7)
    end = place + length
    if end > len(block):
        raise HpackError("cut off")
    raw = block[place:end]
    return (_unpack(raw) if packed else raw).decode("latin-1"), end


def _unpack(raw: bytes) -> bytes:
    """Undo the Huffman code.

    A byte of the code leads from one state (the bits of a symbol's code that has begun, a 1 in front) to the next, and gives
    none, one or two symbols: a look into a dictionary, which is filled as bytes are seen.
    """
    found: list[bytes] = []
    add, steps = found.append, _STEPS
    state = 1
    for byte in raw:
        key = state << 8 | byte
        try:
            state, symbols = steps[key]
        except KeyError:
            steps[key] = state, symbols = _step(state, byte)
        add(symbols)
    # What is left must be the beginning of the end symbol: up to seven ones.
    padding = state.bit_length() - 1
    if padding > 7 or state != (1 << padding + 1) - 1:
        raise HpackError("a string with wrong padding")
    return b"".join(found)


#: By state and byte: the next state and the symbols. At most 256 states of 256 bytes each: those that a code can be in.
_STEPS: dict[int, tuple[int, bytes]] = {}


def _step(state: int, byte: int) -> tuple[int, bytes]:
    symbols = bytearray()
    for shift in range(7, -1, -1):
        state = state << 1 | (byte >> shift & 1)
        symbol = _CODES.get(state)
        if symbol is not None:
            if symbol == _EOS:
                raise HpackError("the end symbol within a string")
            symbols.append(symbol)
            state = 1
    return state, bytes(symbols)


def encode(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return fields as literals that go into no table, so that the block is right at any time."""
    parts: list[bytes] = []
    for name, value in fields:
        parts += (b"\x00", literal(name), literal(value))
    return b"".join(parts)


def encode_indexed(fields: Iterable[tuple[str, str]]) -> bytes:
    """Return fields as literals that go into the peer's table, the last one at index 62, the one before at 63, ..."""
    parts: list[bytes] = []
    for name, value in fields:
        parts += (b"\x40", literal(name), literal(value))
    return b"".join(parts)


def literal(text: str) -> bytes:
    """Return a name or a value as it stands in a block."""
    raw = text.encode("latin-1", "replace")
    length = len(raw)
    if length < 127:
        return bytes((length,)) + raw
    head, rest = bytearray((127,)), length - 127
    while rest >= 128:
        head.append(rest & 0x7F | 0x80)
        rest >>= 7
    head.append(rest)
    return bytes(head) + raw
