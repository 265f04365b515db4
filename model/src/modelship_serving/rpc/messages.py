# SPDX-License-Identifier: GPL-3.0-or-later
"""The protocol buffer messages of the calls, read and written by hand.

Wire format: https://protobuf.dev/programming-guides/encoding. Messages and their field numbers: ``grpc_predict_v2.proto`` of
https://github.com/open-inference-protocol/specification, whose names are used here. Six small messages do not pay for the
protobuf library: 8 MB of memory a worker, and 0.1 s at start.
"""

from __future__ import annotations

import struct
import typing as t
from collections.abc import Iterable, Sequence

import numpy as np

from ..errors import RequestError
from ..tensors import Array

#: Where a tensor's numbers are within InferTensorContents, by its datatype: field number, and how one looks on the wire.
#: FP16 has no place there.
CONTENTS: dict[str, tuple[int, str]] = {
    "BOOL": (1, "varint"),
    "INT8": (2, "varint"),
    "INT16": (2, "varint"),
    "INT32": (2, "varint"),
    "INT64": (3, "varint"),
    "UINT8": (4, "varint"),
    "UINT16": (4, "varint"),
    "UINT32": (4, "varint"),
    "UINT64": (5, "varint"),
    "FP32": (6, "<f4"),
    "FP64": (7, "<f8"),
}
_CONTENTS_NAMES = ("", "bool", "int", "int64", "uint", "uint64", "fp32", "fp64", "bytes")
#: What a varint of InferTensorContents is cut to, as protobuf does it.
_VARINTS = {1: np.dtype(np.bool_), 2: np.dtype(np.int32), 3: np.dtype(np.int64), 4: np.dtype(np.uint32)}

_double = struct.Struct("<d")
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class _Value(t.NamedTuple):
    """A field as it lies in the message: a number, or a stretch of bytes from *start* to *stop*."""

    field: int
    wire: int
    start: int
    stop: int


class Contents(t.NamedTuple):
    """``InferTensorContents``: the fields in use, each a stretch of packed numbers or one number by itself."""

    data: bytes
    values: list[_Value]

    def numbers(self, name: str, datatype: str) -> Array:
        """Return the numbers, in the wire's own type: the caller checks that they fit that of the tensor.

        :param name: of the tensor, for errors.
        :raises RequestError: 422, they are in the field of another datatype; 400, malformed.
        """
        field, kind = CONTENTS.get(datatype, (0, ""))
        wrong = next((value.field for value in self.values if value.field != field), 0)
        if wrong:
            place = f"in contents.{_CONTENTS_NAMES[field]}_contents" if field else "in raw_input_contents"
            raise RequestError(
                422, f"{name}: {datatype} must be {place}, not in contents.{_CONTENTS_NAMES[wrong]}_contents"
            )
        if kind == "varint":
            arrays = [self._varints(value) for value in self.values]
        else:
            arrays = [self._floats(value, kind) for value in self.values]
        if not arrays:
            return np.empty(0, np.float64)
        found = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        return found.astype(_VARINTS[field]) if field in _VARINTS else found

    def _varints(self, value: _Value) -> Array:
        if value.wire == _VARINT:
            return np.array([value.start], np.uint64)
        if value.wire != _LENGTH:
            raise _malformed("contents")
        return unpack_varints(self.data[value.start : value.stop])

    def _floats(self, value: _Value, kind: str) -> Array:
        dtype = np.dtype(kind)
        single = value.wire == (_FIXED32 if dtype.itemsize == 4 else _FIXED64)
        if (not single and value.wire != _LENGTH) or (value.stop - value.start) % dtype.itemsize:
            raise _malformed("contents")
        return np.frombuffer(self.data, dtype, (value.stop - value.start) // dtype.itemsize, value.start)


class Tensor(t.NamedTuple):
    """``InferInputTensor``."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, t.Any]
    contents: Contents | None


class InferRequest(t.NamedTuple):
    """``ModelInferRequest``; *raw* says where in the message each of ``raw_input_contents`` lies."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, t.Any]
    inputs: list[Tensor]
    outputs: list[tuple[str, dict[str, t.Any]]]
    raw: list[tuple[int, int]]


# --- reading ---


def _malformed(what: str) -> RequestError:
    return RequestError(400, f"message: {what} is not as protocol buffers are")


def _scan(data: bytes, place: int, end: int) -> Iterable[_Value]:
    """Go over the fields between *place* and *end*.

    :raises RequestError: 400, malformed.
    """
    while place < end:
        tag = data[place]
        place += 1
        if tag >= 0x80:
            tag, place = _varint(data, place - 1, end)
        field, wire = tag >> 3, tag & 7
        if not field:
            raise _malformed("a field without a number")
        if wire == _LENGTH:
            if place >= end:
                raise _malformed("a field that is cut off")
            length = data[place]
            place += 1
            if length >= 0x80:
                length, place = _varint(data, place - 1, end)
            stop = place + length
            if stop > end:
                raise _malformed("a field that is cut off")
            yield _Value(field, wire, place, stop)
            place = stop
        elif wire == _VARINT:
            value, place = _varint(data, place, end)
            yield _Value(field, wire, value, 0)
        elif wire in (_FIXED32, _FIXED64):
            stop = place + (4 if wire == _FIXED32 else 8)
            if stop > end:
                raise _malformed("a field that is cut off")
            yield _Value(field, wire, place, stop)
            place = stop
        else:
            raise _malformed(f"wire type {wire}")


def _varint(data: bytes, place: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= end:
            raise _malformed("a number that is cut off")
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise _malformed("a number of more than 64 bits")


def unpack_varints(data: bytes) -> Array:
    """Return packed varints as unsigned integers of 64 bits.

    :raises RequestError: 400, malformed.
    """
    raw = np.frombuffer(data, np.uint8)
    if not raw.size:
        return np.empty(0, np.uint64)
    ends = raw < 0x80
    if ends.all():
        return raw.astype(np.uint64)
    stops = np.flatnonzero(ends)
    if not ends[-1]:
        raise _malformed("a number that is cut off")
    starts = np.concatenate(([0], stops[:-1] + 1))
    lengths = stops - starts + 1
    if lengths.max() > 10:
        raise _malformed("a number of more than 64 bits")
    shifts = 7 * (np.arange(raw.size) - np.repeat(starts, lengths))
    parts = (raw & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.asarray(np.bitwise_or.reduceat(parts, starts))


def _text(data: bytes, value: _Value) -> str:
    if value.wire != _LENGTH:
        raise _malformed("a string")
    try:
        return data[value.start : value.stop].decode()
    except UnicodeDecodeError:
        raise _malformed("a string that is not UTF-8") from None


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def read_texts(data: bytes) -> dict[int, str]:
    """Read a message of which only strings matter, by field number: ``ModelReadyRequest`` (1 name, 2 version), ...

    :raises RequestError: 400, malformed.
    """
    return {value.field: _text(data, value) for value in _scan(data, 0, len(data)) if value.wire == _LENGTH}


def read_infer_request(data: bytes) -> InferRequest:
    """Read a ``ModelInferRequest``.

    :raises RequestError: 400, malformed.
    """
    texts = {1: "", 2: "", 3: ""}
    parameters: dict[str, t.Any] = {}
    inputs, outputs, raw = [], [], []
    for value in _scan(data, 0, len(data)):
        field = value.field
        if field > 7:
            continue
        if value.wire != _LENGTH:
            raise _malformed("the request")
        if field <= 3:
            texts[field] = _text(data, value)
        elif field == 4:
            _parameter(data, value, parameters)
        elif field == 5:
            inputs.append(_tensor(data, value))
        elif field == 6:
            outputs.append(_output(data, value))
        else:
            raw.append((value.start, value.stop))
    return InferRequest(texts[1], texts[2], texts[3], parameters, inputs, outputs, raw)


def _tensor(data: bytes, whole: _Value) -> Tensor:
    name = datatype = ""
    shape: list[int] = []
    parameters: dict[str, t.Any] = {}
    contents: Contents | None = None
    for value in _scan(data, whole.start, whole.stop):
        field = value.field
        if field == 1:
            name = _text(data, value)
        elif field == 2:
            datatype = _text(data, value)
        elif field == 3:
            if value.wire == _VARINT:
                shape.append(_signed(value.start))
            elif value.wire == _LENGTH:
                place = value.start
                while place < value.stop:
                    axis, place = _varint(data, place, value.stop)
                    shape.append(_signed(axis))
            else:
                raise _malformed("a shape")
        elif field == 4:
            _parameter(data, value, parameters)
        elif field == 5:
            if value.wire != _LENGTH:
                raise _malformed("contents")
            found = [part for part in _scan(data, value.start, value.stop) if part.field <= 8]
            contents = Contents(data, found if contents is None else contents.values + found)
    return Tensor(name, datatype, shape, parameters, contents)


def _output(data: bytes, whole: _Value) -> tuple[str, dict[str, t.Any]]:
    name = ""
    parameters: dict[str, t.Any] = {}
    for value in _scan(data, whole.start, whole.stop):
        if value.field == 1:
            name = _text(data, value)
        elif value.field == 2:
            _parameter(data, value, parameters)
    return name, parameters


def _parameter(data: bytes, whole: _Value, found: dict[str, t.Any]) -> None:
    """Read one entry of a ``map<string, InferParameter>``."""
    if whole.wire != _LENGTH:
        raise _malformed("a parameter")
    name, content = "", None
    for value in _scan(data, whole.start, whole.stop):
        if value.field == 1:
            name = _text(data, value)
        elif value.field == 2:
            if value.wire != _LENGTH:
                raise _malformed("a parameter")
            for choice in _scan(data, value.start, value.stop):
                content = _choice(data, choice)
    found[name] = content


def _choice(data: bytes, value: _Value) -> t.Any:
    if value.field == 3:
        return _text(data, value)
    if value.field == 4 and value.wire == _FIXED64:
        return _double.unpack_from(data, value.start)[0]
    if value.wire != _VARINT:
        raise _malformed("a parameter")
    return {1: bool(value.start), 2: _signed(value.start)}.get(value.field, value.start)


# --- writing ---


def _number(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _bytes(field: int, value: bytes) -> bytes:
    return bytes((field << 3 | _LENGTH,)) + _number(len(value)) + value


def _string(field: int, value: str) -> bytes:
    return _bytes(field, value.encode()) if value else b""  # the default is left out


def pack_varints(array: Array) -> bytes:
    """Return integers as packed varints, negative ones as 64 bits in two's complement."""
    values = array.reshape(-1).astype(np.int64).view(np.uint64) if array.dtype.kind == "i" else array.reshape(-1)
    values = values.astype(np.uint64)
    if not values.size or values.max() < 0x80:
        return values.astype(np.uint8).tobytes()
    shifted: Array = values[:, None] >> np.arange(0, 70, 7, dtype=np.uint64).clip(max=63)
    shifted[:, 9] = values >> np.uint64(63)
    more = np.zeros(shifted.shape, np.bool_)
    more[:, :9] = shifted[:, 1:] != 0
    used = np.ones(shifted.shape, np.bool_)
    used[:, 1:] = more[:, :9]
    septets: Array = (shifted & np.uint64(0x7F)).astype(np.uint8) | (more.astype(np.uint8) << 7)
    return septets[used].tobytes()


def write_flag(value: bool) -> bytes:
    """Return ``ServerLiveResponse``, ``ServerReadyResponse`` or ``ModelReadyResponse``."""
    return b"\x08\x01" if value else b""


def write_status(value: int) -> bytes:
    """Return ``HealthCheckResponse`` (https://github.com/grpc/grpc/blob/master/doc/health-checking.md)."""
    return b"\x08" + _number(value)


def write_server_metadata(name: str, version: str, extensions: Sequence[str]) -> bytes:
    """Return ``ServerMetadataResponse``."""
    return _string(1, name) + _string(2, version) + b"".join(_bytes(3, value.encode()) for value in extensions)


def write_tensor(name: str, datatype: str, shape: Sequence[int], contents: bytes = b"") -> bytes:
    """Return ``TensorMetadata``, or ``InferOutputTensor`` with *contents* as :func:`write_contents` gives them."""
    axes = b"".join(_number(axis & 0xFFFFFFFFFFFFFFFF) for axis in shape)
    return (
        _string(1, name)
        + _string(2, datatype)
        + (_bytes(3, axes) if axes else b"")
        + (_bytes(5, contents) if contents else b"")
    )


def write_contents(array: Array, datatype: str) -> bytes:
    """Return ``InferTensorContents``; *datatype* must be one of :data:`CONTENTS`."""
    field, kind = CONTENTS[datatype]
    packed = pack_varints(array) if kind == "varint" else array.astype(kind, copy=False).tobytes()
    return _bytes(field, packed) if packed else b""


def write_model_metadata(
    name: str, versions: Sequence[str], platform: str, inputs: Sequence[bytes], outputs: Sequence[bytes]
) -> bytes:
    """Return ``ModelMetadataResponse`` with tensors as :func:`write_tensor` gives them."""
    return (
        _string(1, name)
        + b"".join(_bytes(2, version.encode()) for version in versions)
        + _string(3, platform)
        + b"".join(_bytes(4, tensor) for tensor in inputs)
        + b"".join(_bytes(5, tensor) for tensor in outputs)
    )


def write_infer_head(model_name: str, model_version: str) -> bytes:
    """Return the beginning of a ``ModelInferResponse``: to be followed by the id, the outputs, and the raw contents."""
    return _string(1, model_name) + _string(2, model_version)


def write_id(value: str) -> bytes:
    """Return the id of a ``ModelInferResponse``."""
    return _string(3, value)


def write_outputs(tensors: Iterable[bytes]) -> bytes:
    """Return the outputs of a ``ModelInferResponse``, each as :func:`write_tensor` gives it."""
    return b"".join(_bytes(5, tensor) for tensor in tensors)


def write_strings(values: Sequence[str]) -> bytes:
    """Return ``InferTensorContents`` of a BYTES tensor."""
    return b"".join(_bytes(8, value.encode()) for value in values)


def write_raw_bytes(data: bytes) -> bytes:
    """Return one of ``raw_output_contents``."""
    return _bytes(6, data)


def write_raw(array: Array) -> bytes:
    """Return one of ``raw_output_contents``: little-endian, row by row."""
    return _bytes(6, array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
