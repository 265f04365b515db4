# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request for inference says, as JSON of the Open Inference Protocol V2; gRPC's messages are made into the same."""

from __future__ import annotations

import time
import typing as t

import msgspec

from .errors import InvalidInputError, RequestError
from .simple import DECODE_ERRORS, decode_object
from .tensors import Array, Field

#: Longest id of a request: it is kept as long as the request waits.
MOST_ID = 1024


class Tensor(msgspec.Struct, gc=False):
    """One input of a request; where its data are binary, *parameters* say how long."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, t.Any] | None = None
    data: t.Any = msgspec.UNSET


class OutputAsked(msgspec.Struct, gc=False):
    """One output that a request asks for."""

    name: str
    parameters: dict[str, t.Any] | None = None


class InferRequest(msgspec.Struct, gc=False):
    """The JSON of a request."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[OutputAsked] | None = None
    parameters: dict[str, t.Any] | None = None


class FlatTensor(msgspec.Struct, gc=False):
    """A :class:`Tensor` whose data are numbers in one flat array."""

    name: str
    shape: list[int]
    datatype: str
    data: list[int | float]
    parameters: dict[str, t.Any] | None = None


class FlatRequest(msgspec.Struct, gc=False):
    """The common request; decoding checks its numbers' types in the same pass."""

    inputs: list[FlatTensor]
    id: str | None = None
    outputs: list[OutputAsked] | None = None
    parameters: dict[str, t.Any] | None = None


_decode = msgspec.json.Decoder(InferRequest).decode
#: The common request, flat numbers, with their types checked while they are decoded.
_decode_flat = msgspec.json.Decoder(FlatRequest).decode


def read_request(text: bytes, at: int) -> InferRequest | FlatRequest:
    """Read the JSON of a request.

    :param at: where its binary data begin; -1: it has none.
    :raises RequestError: 400, it is no such request.
    """
    try:
        if at < 0:
            try:
                return _decode_flat(text)
            except msgspec.ValidationError:
                pass
        return _decode(text)
    except msgspec.ValidationError as exc:
        decode_object(text)  # says so where the body is not even an object
        raise RequestError(400, f"body: not an inference request: {exc}") from None
    except DECODE_ERRORS:
        decode_object(text)
        raise RequestError(400, "body: not an inference request") from None


def shape_of(tensor: Tensor | FlatTensor, field: Field) -> tuple[int, ...]:
    """Return the shape of a tensor, with the batch axis.

    :raises InvalidInputError: it or the datatype is not that of the field.
    """
    if tensor.datatype != field.datatype:
        raise InvalidInputError(f"{field.name}: datatype '{tensor.datatype[:40]}' must be {field.datatype}")
    shape = tuple(tensor.shape)
    if shape[1:] != field.shape or not shape or shape[0] < 1:
        raise InvalidInputError(
            f"{field.name}: shape {list(shape)[:16]} must be {[-1, *field.shape]} (-1: the batch, at least 1)"
        )
    return shape


def array_of(tensor: Tensor | FlatTensor, field: Field, shape: tuple[int, ...]) -> Array:
    """Return the numbers of a tensor in JSON.

    :raises RequestError: 400, there are none, or they do not fit the shape or the field.
    """
    count = shape[0]
    size = count * field.size
    data = tensor.data
    if type(tensor) is FlatTensor and len(data) == size:
        return field.array(data, count)
    if data is msgspec.UNSET:
        no_shared_memory(field.name, tensor.parameters or {})
        raise RequestError(400, f"{field.name}: has neither data nor binary_data_size")
    if count > len(data) if type(data) is list else count != 1:
        raise InvalidInputError(f"{field.name}: expected data for a batch of {count}, got less")
    values = field.flatten(data, shape, field.name)
    if len(values) != size:
        raise InvalidInputError(f"{field.name}: expected {size} numbers, got {len(values)}")
    return field.array(values, count)


def truth(parameters: dict[str, t.Any], name: str, default: bool, where: str) -> bool:
    """Return a parameter that is true or false.

    :raises RequestError: 400, it is neither.
    """
    value = parameters.get(name, default)
    if type(value) is not bool:
        raise RequestError(400, f"{where}: {name} must be true or false")
    return value


def no_shared_memory(where: str, parameters: dict[str, t.Any]) -> None:
    """Refuse Triton's shared memory extensions.

    :raises RequestError: 400.
    """
    if "shared_memory_region" in parameters:
        raise RequestError(400, f"{where}: shared memory is not supported, send the data")


def left_over(count: int) -> RequestError:
    """Return the 400 for *count* bytes too many."""
    return RequestError(400, f"body: {count} bytes of binary data that belong to no input")


def timeout_of(parameters: dict[str, t.Any] | None) -> float:
    """Return the seconds of the parameter ``timeout`` (microseconds, as Triton has it), 0 where there is none.

    :raises RequestError: 400, it is no number of microseconds.
    """
    value = (parameters or {}).get("timeout", 0)
    if type(value) is not int or not 0 <= value < 2**63:
        raise RequestError(400, "parameters: timeout must be a number of microseconds")
    return value / 1e6


def sooner(deadline: float | None, timeout: float) -> float | None:
    """Return the deadline, or the end of the *timeout* that begins now, whichever is sooner."""
    if not timeout:
        return deadline
    asked = time.monotonic() + timeout
    return asked if deadline is None else min(deadline, asked)
