# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading tensors from a safetensors file without numpy.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import array
import dataclasses
import json
import math
import struct
import sys
import typing as t

from .._core.values import is_integer

#: Data types of the Open Inference Protocol V2 by their names in safetensors, with their size in bytes.
DATATYPES = {
    "BOOL": ("BOOL", 1),
    "U8": ("UINT8", 1),
    "U16": ("UINT16", 2),
    "U32": ("UINT32", 4),
    "U64": ("UINT64", 8),
    "I8": ("INT8", 1),
    "I16": ("INT16", 2),
    "I32": ("INT32", 4),
    "I64": ("INT64", 8),
    "F16": ("FP16", 2),
    "BF16": ("BF16", 2),
    "F32": ("FP32", 4),
    "F64": ("FP64", 8),
}
_CODES = {
    "BOOL": "B", "UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q",
    "INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q", "FP32": "f", "FP64": "d",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """One tensor: *data* is little-endian, in row-major order; *datatype* is V2's name."""

    datatype: str
    shape: tuple[int, ...]
    data: memoryview


def is_safetensors(content: bytes) -> bool:
    """Whether *content* begins as such a file does. Text never does: eight characters are a length beyond any file's."""
    return len(content) > 8 and int.from_bytes(content[:8], "little") <= len(content) - 8


def read_tensors(content: bytes) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """Return the tensors of a safetensors file by name, and its metadata.

    :raises ValueError: it is not such a file; the message says why.
    """
    length = int.from_bytes(content[:8], "little")
    if not is_safetensors(content):
        raise ValueError("it is cut off before the end of its header")
    try:
        header = json.loads(content[8 : 8 + length])
        metadata = {str(name): str(value) for name, value in header.pop("__metadata__", {}).items()}
        buffer = memoryview(content)[8 + length :]
        tensors = {name: _tensor(name, entry, buffer) for name, entry in header.items()}
        ranges = [entry["data_offsets"] for entry in header.values()]
    except (KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ValueError(f"its header is malformed ({exc!r})") from exc
    _check_offsets(ranges, len(buffer))
    return tensors, metadata


def _tensor(name: str, entry: t.Mapping[str, t.Any], buffer: memoryview) -> StoredTensor:
    if entry["dtype"] not in DATATYPES:
        raise ValueError(f"'{name}' has the dtype {entry['dtype']!r}, which is not supported")
    datatype, size = DATATYPES[entry["dtype"]]
    shape, offsets = tuple(entry["shape"]), tuple(entry["data_offsets"])
    if len(offsets) != 2 or not all(map(is_integer, (*shape, *offsets))):
        raise ValueError(f"'{name}' has a shape or offsets that are not integers")
    begin, end = offsets
    if min(shape, default=0) < 0 or not 0 <= begin <= end <= len(buffer) or end - begin != math.prod(shape) * size:
        raise ValueError(f"'{name}' lies outside of the file or does not have the size of its shape")
    return StoredTensor(datatype, shape, buffer[begin:end])


def _check_offsets(ranges: t.Iterable[list[int]], size: int) -> None:
    """Check that the tensors lie one after the other and make up the whole of the *size* bytes behind the header.

    :raises ValueError: they overlap or leave bytes out.
    """
    position = 0
    for begin, end in sorted(ranges):
        if begin != position:
            raise ValueError("its tensors overlap, or bytes between them belong to none")
        position = end
    if position != size:
        raise ValueError(f"{size - position} bytes behind its tensors belong to none")


def numbers(datatype: str, data: bytes | memoryview) -> t.Sequence[float]:
    """Return the numbers of a little-endian tensor of the V2 data type *datatype*, in order.

    :raises ValueError: *datatype* is not one of numbers, or *data* ends within one.
    """
    if datatype == "FP16":
        return struct.unpack(f"<{len(data) // 2}e", data) if len(data) % 2 == 0 else _cut(datatype)
    if datatype == "BF16":
        if len(data) % 2:
            _cut(datatype)
        # the upper half of a 32-bit float
        return struct.unpack(
            f"<{len(data) // 2}f", b"".join(b"\0\0" + data[at : at + 2] for at in range(0, len(data), 2))
        )
    if datatype not in _CODES:
        raise ValueError(f"the data type {datatype} is not one of numbers")
    values = array.array(_CODES[datatype])
    if len(data) % values.itemsize:
        _cut(datatype)
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _cut(datatype: str) -> t.NoReturn:
    raise ValueError(f"the data ends within a value of {datatype}")
