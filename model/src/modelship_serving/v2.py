# SPDX-License-Identifier: GPL-3.0-or-later
"""The Open Inference Protocol V2 over REST with JSON tensors (https://github.com/open-inference-protocol/specification)."""

from __future__ import annotations

import math
import typing as t

import msgspec

from .errors import RequestError
from .model import Model
from .simple import DECODE_ERRORS, decode_object
from .tensors import Array, Field

_encode = msgspec.json.Encoder().encode


class _Tensor(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: t.Any
    parameters: dict[str, t.Any] | None = None


class _Output(msgspec.Struct, gc=False):
    name: str
    parameters: dict[str, t.Any] | None = None


class _Request(msgspec.Struct, gc=False):
    inputs: list[_Tensor]
    id: str | None = None
    outputs: list[_Output] | None = None
    parameters: dict[str, t.Any] | None = None


class _FlatTensor(_Tensor, gc=False):
    data: list[int | float]


class _FlatRequest(_Request, gc=False):
    inputs: list[_FlatTensor]  # type: ignore[assignment]


_decode = msgspec.json.Decoder(_Request).decode
#: The common request, flat numbers, with their types checked while they are decoded.
_decode_flat = msgspec.json.Decoder(_FlatRequest).decode


class V2:
    """The protocol for one model."""

    def __init__(self, model: Model, server_version: str) -> None:
        self._model = model
        release = model.release
        self._fields = {field.name: field for field in model.fields}
        self._order = [field.name for field in model.fields]
        outputs = list(zip(release.signature.outputs, model.output_datatypes, strict=True))
        self._outputs = {spec.name: (index, datatype) for index, (spec, datatype) in enumerate(outputs)}
        self.server_metadata = _encode({"name": "modelship", "version": server_version, "extensions": []})
        self.model_metadata = _encode(
            {
                "name": release.name,
                "versions": [release.version],
                "platform": {"litert": "litert", "onnx": "onnx_onnxv1"}[release.format],
                "inputs": [
                    {"name": spec.name, "datatype": self._fields[spec.name].datatype, "shape": list(spec.shape)}
                    for spec in release.signature.inputs
                ],
                "outputs": [
                    {"name": spec.name, "datatype": datatype, "shape": list(spec.shape)} for spec, datatype in outputs
                ],
            }
        )

    async def infer(self, body: bytes) -> bytes:
        """Answer one inference request.

        :raises RequestError: 400 for what is not such a request, 422 for what does not fit the signature.
        """
        try:
            try:
                request: _Request = _decode_flat(body)
            except msgspec.ValidationError:
                request = _decode(body)
        except msgspec.ValidationError as exc:
            decode_object(body)  # says so where the body is not even an object
            raise RequestError(400, f"body: not an inference request: {exc}") from None
        except DECODE_ERRORS:
            decode_object(body)
            raise RequestError(400, "body: not an inference request") from None
        arrays, count = self._arrays(request.inputs)
        wanted = self._order_outputs(request.outputs)
        results = await self._model.infer(arrays, count)
        answer: dict[str, t.Any] = {
            "model_name": self._model.release.name,
            "model_version": self._model.release.version,
        }
        if request.id is not None:
            answer["id"] = request.id
        answer["outputs"] = [
            {
                "name": name,
                "shape": list(results[index].shape),
                "datatype": datatype,
                "data": results[index].reshape(-1).tolist(),
            }
            for name, (index, datatype) in wanted
        ]
        return _encode(answer)

    def _arrays(self, tensors: list[_Tensor]) -> tuple[list[Array], int]:
        given: dict[str, Array] = {}
        count = 0
        for place, tensor in enumerate(tensors):
            field = self._fields.get(tensor.name)
            if field is None:
                raise RequestError(422, f"inputs[{place}]: unknown input '{tensor.name[:40]}', expected {self._order}")
            if tensor.name in given:
                raise RequestError(422, f"{tensor.name}: given twice")
            given[tensor.name], samples = _array(tensor, field)
            if count and samples != count:
                raise RequestError(422, f"{tensor.name}: batch of {samples}, but {tensors[0].name} has {count}")
            count = samples
        for name in self._order:
            if name not in given:
                raise RequestError(422, f"{name}: missing among the inputs, expected {self._fields[name].describe()}")
        return [given[name] for name in self._order], count

    def _order_outputs(self, wanted: list[_Output] | None) -> list[tuple[str, tuple[int, str]]]:
        if not wanted:
            return list(self._outputs.items())
        for place, output in enumerate(wanted):
            if output.name not in self._outputs:
                raise RequestError(
                    422, f"outputs[{place}]: unknown output '{output.name[:40]}', expected {list(self._outputs)}"
                )
        return [(output.name, self._outputs[output.name]) for output in wanted]


def _array(tensor: _Tensor, field: Field) -> tuple[Array, int]:
    if tensor.datatype != field.datatype:
        raise RequestError(422, f"{field.name}: datatype '{tensor.datatype[:40]}' must be {field.datatype}")
    shape = tuple(tensor.shape)
    if shape[1:] != field.shape or not shape or shape[0] < 1:
        raise RequestError(
            422, f"{field.name}: shape {list(shape)[:16]} must be {[-1, *field.shape]} (-1: the batch, at least 1)"
        )
    if type(tensor) is _FlatTensor and len(tensor.data) == math.prod(shape):
        return field.array(tensor.data, shape[0]), shape[0]
    if shape[0] > len(tensor.data) if type(tensor.data) is list else shape[0] != 1:
        raise RequestError(422, f"{field.name}: expected data for a batch of {shape[0]}, got less")
    values = field.flatten(tensor.data, shape, field.name)
    if len(values) != math.prod(shape):
        raise RequestError(422, f"{field.name}: expected {math.prod(shape)} numbers, got {len(values)}")
    return field.array(values, shape[0]), shape[0]
