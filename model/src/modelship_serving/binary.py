# SPDX-License-Identifier: GPL-3.0-or-later
"""The binary tensor data extension of the Open Inference Protocol V2: tensors as bytes behind the JSON.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md: little-endian, row by
row, without padding; ``inference-header-content-length`` says where the JSON ends.
"""

from __future__ import annotations

import math
import struct
import typing as t

import numpy as np

from .errors import InvalidInputError, RequestError
from .http import Request
from .tensors import Array, Field

HEADER = "inference-header-content-length"
EXTENSION = "binary_tensor_data"
#: So much more than its numbers a body may have and be kept for these.
_SMALL = 4096


def split(request: Request, body: bytes) -> tuple[bytes, int]:
    """Return the JSON of a request, and where its binary data begin in *body* (-1: it has none).

    :raises RequestError: 400, the header is no length of a part of the body.
    """
    value = request.headers.get(HEADER)
    if value is None:
        return body, -1
    if not (value.isascii() and value.isdigit() and len(value) < 16) or int(value) > len(body):
        raise RequestError(400, f"{HEADER} '{value[:40]}': must be the length of the JSON, at most {len(body)}")
    length = int(value)
    return body[:length], length


class Slot:
    """Where a tensor lies in the binary data of a request.

    :param shape: with the batch axis.
    :param size: its ``binary_data_size``.
    :param start: place behind the JSON.
    :raises RequestError: 400, the size is not a size, or not that of the shape.
    """

    __slots__ = ("_count", "_field", "_kind", "_shape", "_size", "_start", "end")

    def __init__(self, field: Field, shape: tuple[int, ...], size: object, start: int) -> None:
        if type(size) is not int or size < 0:
            raise RequestError(400, f"{field.name}: binary_data_size must be a number of bytes")
        self._count = math.prod(shape)
        expected = self._count * field.dtype.itemsize
        if size != expected:
            raise InvalidInputError(
                f"{field.name}: binary_data_size {size} must be {expected} for {field.datatype} {list(shape)[:16]}"
            )
        self._field = field
        self._shape = shape
        self._size = size
        self._start = start
        self._kind = field.dtype.newbyteorder("<")
        self.end = start + size

    def read(self, body: bytes, at: int) -> Array:
        """Return the tensor out of *body*, whose JSON ends *at*.

        :raises RequestError: 400, the body is too short, or a value is out of range.
        """
        start = at + self._start
        end = start + self._size
        if end > len(body):
            raise RequestError(
                400, f"{self._field.name}: expected {self._size} bytes of binary data, the body has {len(body) - start}"
            )
        array = numbers(body, self._kind, self._count, start)
        self._field.check(array)
        return array.reshape(self._shape)


def numbers(body: bytes, kind: np.dtype[t.Any], count: int, start: int) -> Array:
    """Return *count* numbers out of *body*.

    Nothing is copied, but where the bytes do not lie as the processor wants numbers to lie, and where they are a small part
    of the body: as long as the numbers are in use, all of it would be kept.
    """
    size = count * kind.itemsize
    if start % kind.itemsize or len(body) > 2 * size + _SMALL:
        return np.frombuffer(body[start : start + size], kind)
    return np.frombuffer(body, kind, count, start)


def strings(values: list[str]) -> bytes:
    """Return a BYTES tensor's data: each element after its length, 4 bytes."""
    data = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(value)) + value for value in data)
