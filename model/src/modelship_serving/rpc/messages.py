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

from ..binary import numbers
from ..errors import InvalidInputError
from ..tensors import Array
from .protobuf import (
    FIXED32,
    FIXED64,
    LENGTH,
    VARINT,
    Reader,
    Value,
    count_varints,
    malformed,
    number,
    pack_varints,
    signed,
    stretch,
    string,
    unpack_varints,
    varint,
)

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
#: What the numbers of the fields of InferTensorContents are.
_DTYPES = dict(zip(range(1, 8), map(np.dtype, ("?", "i4", "i8", "u4", "u8", "<f4", "<f8")), strict=True))
#: Axes that a shape may have; numpy has no more.
_MOST_AXES = 64

_double = struct.Struct("<d")


class Contents(t.NamedTuple):
    """``InferTensorContents``: the fields in use, each a stretch of packed numbers or one number by itself."""

    data: bytes
    values: list[Value]

    def numbers(self, name: str, datatype: str, count: int) -> Array:
        """Return the numbers, in the wire's own type: the caller checks that they fit that of the tensor.

        :param name: of the tensor, for errors.
        :param count: so many there must be; nothing is unpacked where there are others.
        :raises RequestError: 400, they are in the field of another datatype, not as many, or malformed.
        """
        field, kind = CONTENTS.get(datatype, (0, ""))
        wrong = next((value.field for value in self.values if value.field != field), 0)
        if wrong or not field:
            place = f"contents.{_CONTENTS_NAMES[field]}_contents" if field else "raw_input_contents"
            other = f", not in contents.{_CONTENTS_NAMES[wrong]}_contents" if wrong else ""
            raise InvalidInputError(f"{name}: {datatype} must be in {place}{other}")
        dtype = _DTYPES[field]
        single = VARINT if kind == "varint" else FIXED32 if dtype.itemsize == 4 else FIXED64
        found = 0
        for value in self.values:
            if value.wire not in (single, LENGTH):
                raise malformed("contents")
            found += 1 if value.wire == VARINT else self._count(value, dtype, kind)
        if found != count:
            raise InvalidInputError(f"{name}: expected {count} numbers, got {found}")
        arrays = [self._read(value, dtype, kind) for value in self.values]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def _count(self, value: Value, dtype: np.dtype[t.Any], kind: str) -> int:
        if kind == "varint":
            return count_varints(self._raw(value))
        count, rest = divmod(value.stop - value.start, dtype.itemsize)
        if rest:
            raise malformed("contents")
        return count

    def _raw(self, value: Value) -> Array:
        return np.frombuffer(self.data, np.uint8, value.stop - value.start, value.start)

    def _read(self, value: Value, dtype: np.dtype[t.Any], kind: str) -> Array:
        if value.wire == VARINT:
            return np.array([value.start], np.uint64).astype(dtype)
        if kind == "varint":
            return unpack_varints(self._raw(value), dtype)
        return numbers(self.data, dtype, (value.stop - value.start) // dtype.itemsize, value.start)


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


def read_texts(data: bytes) -> dict[int, str]:
    """Read a message of which only strings matter, by field number: ``ModelReadyRequest`` (1 name, 2 version), ...

    :raises RequestError: 400, malformed; 413, too many fields.
    """
    reader = Reader(data)
    return {value.field: reader.text(value) for value in reader.scan(0, len(data)) if value.wire == LENGTH}


def read_infer_request(data: bytes) -> InferRequest:
    """Read a ``ModelInferRequest``.

    :raises RequestError: 400, malformed; 413, too many fields.
    """
    reader = Reader(data)
    texts = {1: "", 2: "", 3: ""}
    parameters: dict[str, t.Any] = {}
    inputs, outputs, raw = [], [], []
    for value in reader.scan(0, len(data)):
        field = value.field
        if field > 7:
            continue
        if value.wire != LENGTH:
            raise malformed("the request")
        if field <= 3:
            texts[field] = reader.text(value)
        elif field == 4:
            _parameter(reader, value, parameters)
        elif field == 5:
            inputs.append(_tensor(reader, value))
        elif field == 6:
            outputs.append(_output(reader, value))
        else:
            raw.append((value.start, value.stop))
    return InferRequest(texts[1], texts[2], texts[3], parameters, inputs, outputs, raw)


def _tensor(reader: Reader, whole: Value) -> Tensor:
    name = datatype = ""
    shape: list[int] = []
    parameters: dict[str, t.Any] = {}
    contents: Contents | None = None
    for value in reader.scan(whole.start, whole.stop):
        field = value.field
        if field == 1:
            name = reader.text(value)
        elif field == 2:
            datatype = reader.text(value)
        elif field == 3:
            _axes(reader, value, shape)
        elif field == 4:
            _parameter(reader, value, parameters)
        elif field == 5:
            if value.wire != LENGTH:
                raise malformed("contents")
            found = [part for part in reader.scan(value.start, value.stop) if part.field <= 8]
            contents = Contents(reader.data, found if contents is None else contents.values + found)
    return Tensor(name, datatype, shape, parameters, contents)


def _axes(reader: Reader, value: Value, shape: list[int]) -> None:
    """Read one axis of a shape, or several that are packed."""
    if value.wire == VARINT:
        shape.append(signed(value.start))
    elif value.wire == LENGTH:
        place = value.start
        while place < value.stop and len(shape) <= _MOST_AXES:
            axis, place = varint(reader.data, place, value.stop)
            shape.append(signed(axis))
    else:
        raise malformed("a shape")
    if len(shape) > _MOST_AXES:
        raise malformed(f"a shape of more than {_MOST_AXES} axes")


def _output(reader: Reader, whole: Value) -> tuple[str, dict[str, t.Any]]:
    name = ""
    parameters: dict[str, t.Any] = {}
    for value in reader.scan(whole.start, whole.stop):
        if value.field == 1:
            name = reader.text(value)
        elif value.field == 2:
            _parameter(reader, value, parameters)
    return name, parameters


def _parameter(reader: Reader, whole: Value, found: dict[str, t.Any]) -> None:
    """Read one entry of a ``map<string, InferParameter>``."""
    if whole.wire != LENGTH:
        raise malformed("a parameter")
    name, content = "", None
    for value in reader.scan(whole.start, whole.stop):
        if value.field == 1:
            name = reader.text(value)
        elif value.field == 2:
            if value.wire != LENGTH:
                raise malformed("a parameter")
            for choice in reader.scan(value.start, value.stop):
                content = _choice(reader, choice)
    found[name] = content


def _choice(reader: Reader, value: Value) -> t.Any:
    if value.field == 3:
        return reader.text(value)
    if value.field == 4 and value.wire == FIXED64:
        return _double.unpack_from(reader.data, value.start)[0]
    if value.wire != VARINT:
        raise malformed("a parameter")
    return {1: bool(value.start), 2: signed(value.start)}.get(value.field, value.start)


# --- writing ---


def write_flag(value: bool) -> bytes:
    """Return ``ServerLiveResponse``, ``ServerReadyResponse`` or ``ModelReadyResponse``."""
    return b"\x08\x01" if value else b""


def write_status(value: int) -> bytes:
    """Return ``HealthCheckResponse`` (https://github.com/grpc/grpc/blob/master/doc/health-checking.md)."""
    return b"\x08" + number(value)


def write_server_metadata(name: str, version: str, extensions: Sequence[str]) -> bytes:
    """Return ``ServerMetadataResponse``."""
    return string(1, name) + string(2, version) + b"".join(stretch(3, value.encode()) for value in extensions)


def write_tensor(name: str, datatype: str, shape: Sequence[int], contents: bytes = b"") -> bytes:
    """Return ``TensorMetadata``, or ``InferOutputTensor`` with *contents* as :func:`write_contents` gives them."""
    axes = b"".join(number(axis & 0xFFFFFFFFFFFFFFFF) for axis in shape)
    return (
        string(1, name)
        + string(2, datatype)
        + (stretch(3, axes) if axes else b"")
        + (stretch(5, contents) if contents else b"")
    )


def write_contents(array: Array, datatype: str) -> bytes:
    """Return ``InferTensorContents``; *datatype* must be one of :data:`CONTENTS`."""
    field, kind = CONTENTS[datatype]
    packed = pack_varints(array) if kind == "varint" else array.astype(kind, copy=False).tobytes()
    return stretch(field, packed) if packed else b""


def write_model_metadata(
    name: str, versions: Sequence[str], platform: str, inputs: Sequence[bytes], outputs: Sequence[bytes]
) -> bytes:
    """Return ``ModelMetadataResponse`` with tensors as :func:`write_tensor` gives them."""
    return (
        string(1, name)
        + b"".join(stretch(2, version.encode()) for version in versions)
        + string(3, platform)
        + b"".join(stretch(4, tensor) for tensor in inputs)
        + b"".join(stretch(5, tensor) for tensor in outputs)
    )


def write_infer_head(model_name: str, model_version: str) -> bytes:
    """Return the beginning of a ``ModelInferResponse``: to be followed by the id, the outputs, and the raw contents."""
    return string(1, model_name) + string(2, model_version)


def write_id(value: str) -> bytes:
    """Return the id of a ``ModelInferResponse``."""
    return string(3, value)


def write_outputs(tensors: Iterable[bytes]) -> bytes:
    """Return the outputs of a ``ModelInferResponse``, each as :func:`write_tensor` gives it."""
    return b"".join(stretch(5, tensor) for tensor in tensors)


def write_strings(values: Sequence[str]) -> bytes:
    """Return ``InferTensorContents`` of a BYTES tensor."""
    return b"".join(stretch(8, value.encode()) for value in values)


def write_raw_bytes(data: bytes) -> bytes:
    """Return one of ``raw_output_contents``."""
    return stretch(6, data)


def write_raw(array: Array) -> bytes:
    """Return one of ``raw_output_contents``: little-endian, row by row."""
    return stretch(6, array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
