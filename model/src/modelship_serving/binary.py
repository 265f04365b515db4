# SPDX-License-Identifier: GPL-3.0-or-later
"""The binary tensor data extension of the Open Inference Protocol V2: tensors as bytes behind the JSON.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md: little-endian, row by
row, without padding; ``inference-header-content-length`` says where the JSON ends.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from .errors import RequestError
from .http import Request
from .tensors import Array, Field

HEADER = "inference-header-content-length"
EXTENSION = "binary_tensor_data"


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


def take(field: Field, shape: tuple[int, ...], size: object, body: bytes, at: int) -> tuple[Array, int]:
    """Return the tensor that begins at *at* in *body*, and where it ends.

    Nothing is copied, but where the bytes do not lie as the processor wants numbers to lie.

    :param shape: with the batch axis.
    :param size: its ``binary_data_size``.
    :raises RequestError: 400, the size is not one or the body is too short; 422, it is not that of the shape, or a value
        is out of range.
    """
    if type(size) is not int or size < 0:
        raise RequestError(400, f"{field.name}: binary_data_size must be a number of bytes")
    if at < 0:
        raise RequestError(400, f"{field.name}: binary_data_size needs the header {HEADER}")
    expected = math.prod(shape) * field.dtype.itemsize
    if size != expected:
        raise RequestError(
            422, f"{field.name}: binary_data_size {size} must be {expected} for {field.datatype} {list(shape)[:16]}"
        )
    end = at + size
    if end > len(body):
        raise RequestError(400, f"{field.name}: expected {size} bytes of binary data, the body has {len(body) - at}")
    kind = field.dtype.newbyteorder("<")
    aligned = at % field.dtype.itemsize == 0
    array = np.frombuffer(body, kind, math.prod(shape), at) if aligned else np.frombuffer(body[at:end], kind)
    array = array.reshape(shape)
    field.check(array)
    return array, end


def strings(values: list[str]) -> bytes:
    """Return a BYTES tensor's data: each element after its length, 4 bytes."""
    data = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(value)) + value for value in data)
