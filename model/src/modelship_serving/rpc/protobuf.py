# SPDX-License-Identifier: GPL-3.0-or-later
"""The wire format of protocol buffers (https://protobuf.dev/programming-guides/encoding), read and written by hand."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

import numpy as np

from ..errors import RequestError
from ..tensors import Array

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
#: Fields of one message, with those of the messages in it: each costs about a microsecond, and needs but two bytes.
MOST_FIELDS = 16384
#: Packed numbers are unpacked so many bytes at a time: it takes about 40 bytes of memory for each.
_CHUNK = 1 << 16


class Value(t.NamedTuple):
    """A field as it lies in the message: a number in *start*, or a stretch of bytes from *start* to *stop*."""

    field: int
    wire: int
    start: int
    stop: int


def malformed(what: str) -> RequestError:
    """Return the 400 for a message in which *what* is wrong."""
    return RequestError(400, f"message: {what} is not as protocol buffers are")


class Reader:
    """Goes over the fields of a message.

    :ivar data: the message.
    """

    __slots__ = ("_left", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = MOST_FIELDS

    def scan(self, place: int, end: int) -> Iterator[Value]:
        """Go over the fields between *place* and *end*.

        :raises RequestError: 400, malformed; 413, too many.
        """
        data = self.data
        while place < end:
            self._left -= 1
            if self._left < 0:
                raise RequestError(413, f"message: more than {MOST_FIELDS} fields: send packed or raw contents")
            tag = data[place]
            place += 1
            if tag >= 0x80:
                tag, place = varint(data, place - 1, end)
            field, wire = tag >> 3, tag & 7
            if not field:
                raise malformed("a field without a number")
            if wire == LENGTH:
                if place >= end:
                    raise malformed("a field that is cut off")
                length = data[place]
                place += 1
                if length >= 0x80:
                    length, place = varint(data, place - 1, end)
                stop = place + length
                if stop > end:
                    raise malformed("a field that is cut off")
                yield Value(field, wire, place, stop)
                place = stop
            elif wire == VARINT:
                value, place = varint(data, place, end)
                yield Value(field, wire, value, 0)
            elif wire in (FIXED32, FIXED64):
                stop = place + (4 if wire == FIXED32 else 8)
                if stop > end:
                    raise malformed("a field that is cut off")
                yield Value(field, wire, place, stop)
                place = stop
            else:
                raise malformed(f"wire type {wire}")

    def text(self, value: Value) -> str:
        """Return a string.

        :raises RequestError: 400, it is none.
        """
        if value.wire != LENGTH:
            raise malformed("a string")
        try:
            return self.data[value.start : value.stop].decode()
        except UnicodeDecodeError:
            raise malformed("a string that is not UTF-8") from None


def varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    """Return the number that begins at *place*, and the place behind it.

    :raises RequestError: 400, malformed.
    """
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            raise malformed("a number that is cut off")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise malformed("a number of more than 64 bits")


def signed(value: int) -> int:
    """Return what a number of 64 bits means in two's complement."""
    return value - (1 << 64) if value >> 63 else value


def count_varints(raw: Array) -> int:
    """Return how many packed varints these bytes are.

    :raises RequestError: 400, the last one is cut off.
    """
    if raw.size and raw[-1] >= 0x80:
        raise malformed("a number that is cut off")
    return int(np.count_nonzero(raw < 0x80))


def unpack_varints(raw: Array, dtype: np.dtype[t.Any]) -> Array:
    """Return packed varints, unsigned integers of 64 bits, cut to *dtype* as protobuf does it.

    :raises RequestError: 400, malformed.
    """
    count = count_varints(raw)
    if count == raw.size:
        return raw.astype(dtype)
    found = np.empty(count, dtype)
    place = at = 0
    while place < raw.size:
        stop = min(place + _CHUNK, raw.size)
        while stop > place and raw[stop - 1] >= 0x80:
            stop -= 1
        part = _unpack(raw[place:stop])
        found[at : at + part.size] = part.astype(dtype)
        place, at = stop, at + part.size
    return found


def _unpack(raw: Array) -> Array:
    stops = np.flatnonzero(raw < 0x80)
    starts = np.concatenate(([0], stops[:-1] + 1))
    lengths = stops - starts + 1
    if not stops.size or lengths.max() > 10:
        raise malformed("a number of more than 64 bits")
    shifts = 7 * (np.arange(raw.size) - np.repeat(starts, lengths))
    parts = (raw & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.asarray(np.bitwise_or.reduceat(parts, starts))


# --- writing ---


def number(value: int) -> bytes:
    """Return a varint."""
    if value < 0x80:
        return bytes((value,))
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def stretch(field: int, value: bytes) -> bytes:
    """Return a field that is bytes, a message, or packed numbers."""
    return bytes((field << 3 | LENGTH,)) + number(len(value)) + value


def string(field: int, value: str) -> bytes:
    """Return a field that is a string; the default is left out."""
    return stretch(field, value.encode()) if value else b""


def pack_varints(array: Array) -> bytes:
    """Return integers as packed varints, negative ones as 64 bits in two's complement."""
    flat = array.reshape(-1)
    return b"".join([_pack(flat[start : start + _CHUNK]) for start in range(0, flat.size, _CHUNK)])


def _pack(array: Array) -> bytes:
    values = (array.astype(np.int64).view(np.uint64) if array.dtype.kind == "i" else array).astype(np.uint64)
    if values.max() < 0x80:
        return values.astype(np.uint8).tobytes()
    shifted: Array = values[:, None] >> np.arange(0, 70, 7, dtype=np.uint64).clip(max=63)
    shifted[:, 9] = values >> np.uint64(63)
    more = np.zeros(shifted.shape, np.bool_)
    more[:, :9] = shifted[:, 1:] != 0
    used = np.ones(shifted.shape, np.bool_)
    used[:, 1:] = more[:, :9]
    septets: Array = (shifted & np.uint64(0x7F)).astype(np.uint8) | (more.astype(np.uint8) << 7)
    return septets[used].tobytes()
