# SPDX-License-Identifier: GPL-3.0-or-later
"""The Open Inference Protocol V2 over REST (https://github.com/open-inference-protocol/specification).

Tensors as JSON or binary (:mod:`.binary`); of Triton's further extensions *classification*
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md).
"""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Awaitable, Sequence

import msgspec
import numpy as np

from . import binary, metrics
from .app import VERSION, Route
from .bodies import compressed, content, is_json, media_type, unexpected_type
from .context import Context
from .errors import InvalidInputError, RequestError
from .http import Handler, Request, Response
from .model import Model
from .tensors import Array, Field
from .v2_request import (
    MOST_ID,
    FlatRequest,
    FlatTensor,
    InferRequest,
    OutputAsked,
    Tensor,
    array_of,
    left_over,
    no_shared_memory,
    read_request,
    shape_of,
    sooner,
    timeout_of,
    truth,
)

PLATFORMS = {"litert": "litert", "onnx": "onnx_onnxv1"}
EXTENSIONS = (binary.EXTENSION, "classification")

_BINARY = "application/octet-stream"
_USUAL_TYPES = frozenset({"application/json", _BINARY, None})
#: So many requests are kept in their decoded form, each with a JSON up to this size.
_MOST_KNOWN, _KNOWN_BYTES = 64, 4096

_encode = msgspec.json.Encoder().encode


class _Known(t.NamedTuple):
    """What the JSON of a request with binary tensors means: clients send the same one again and again.

    :param length: bytes of binary data.
    :param prefix: the JSON of the answer with its headers where that is the same each time, else ``None``.
    """

    slots: list[binary.Slot]
    length: int
    samples: int
    wanted: list[Wanted]
    timeout: float
    prefix: tuple[bytes, tuple[tuple[str, str], ...]] | None


class Wanted(t.NamedTuple):
    """One output of an answer.

    :param place: its place among the model's outputs.
    :param raw: as binary data.
    :param classes: so many classes of the highest scores instead of the scores; 0: the scores.
    """

    name: str
    place: int
    datatype: str
    raw: bool
    classes: int


def server_metadata() -> dict[str, t.Any]:
    """Return what the server says about itself."""
    return {"name": "modelship", "version": VERSION, "extensions": list(EXTENSIONS)}


def model_metadata(model: Model, versions: list[str]) -> dict[str, t.Any]:
    """Return what the server says about one of the *versions* of its model."""
    release = model.release
    outputs = zip(release.signature.outputs, model.output_datatypes, strict=True)
    return {
        "name": release.name,
        "versions": versions,
        "platform": PLATFORMS[release.format],
        "inputs": [
            {"name": field.name, "datatype": field.datatype, "shape": list(spec.shape)}
            for spec, field in zip(release.signature.inputs, model.fields, strict=True)
        ],
        "outputs": [{"name": spec.name, "datatype": kind, "shape": list(spec.shape)} for spec, kind in outputs],
    }


def routes(context: Context) -> dict[str, Route]:
    """Return the routes of the protocol but for the server's health, which the application answers itself."""
    models = context.models
    limit = context.settings.max_body_bytes

    def constant(value: t.Any) -> Handler:
        body = _encode(value)
        return lambda _request: Response(body)

    found = {"/v2": Route(metrics.METADATA, "GET", constant(server_metadata()))}
    for version in (None, *models.versions):
        model = models.get(version)
        path = f"/v2/models/{models.name}" + (f"/versions/{version}" if version else "")
        headers = () if model is models.default else (("modelship-release", model.release.digest),)
        ready = constant({"name": models.name, "ready": True})
        found[path] = Route(metrics.METADATA, "GET", constant(model_metadata(model, models.versions)))
        found[f"{path}/ready"] = Route(metrics.HEALTH, "GET", ready, public=True)
        found[f"{path}/infer"] = Route(metrics.INFER, "POST", Inference(model, limit, headers).answer)
    return found


class Inference:
    """Answers the inference requests for one model.

    :param limit: most bytes of a decompressed body.
    :param headers: of every answer.
    """

    def __init__(self, model: Model, limit: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._model = model
        self._limit = limit
        self._headers = headers
        self._fields = {field.name: field for field in model.fields}
        self._order = [field.name for field in model.fields]
        #: The labels by output: those of the release name the classes of one alone.
        self._labels = {model.release.signature.class_output: model.release.signature.labels}
        specs = zip(model.release.signature.outputs, model.output_datatypes, strict=True)
        self._outputs = {spec.name: (index, datatype) for index, (spec, datatype) in enumerate(specs)}
        self._known: dict[bytes, _Known] = {}
        self._all_json = self._want(None, False)
        self._all_raw = self._want(None, True)

    def answer(self, request: Request) -> Response | Awaitable[Response]:
        """Answer one request, at once where the model runs at once.

        :raises RequestError: 400 for what is not such a request or does not fit the signature, 413, 415.
        """
        header = request.headers.get
        kind = header("content-type")
        if kind not in _USUAL_TYPES and not is_json(media := media_type(request)) and media != _BINARY:
            raise unexpected_type(request, f"application/json, or {_BINARY} with binary tensors")
        body = request.body if header("content-encoding") is None else content(request, self._limit)
        text, at = binary.split(request, body)
        known = self._known.get(text) if at > 0 else None
        if known is not None:
            return self._again(request, known, body, at)
        if at == 0:
            asked, wanted, deadline = None, self._all_raw, request.deadline
            arrays, count = self._one_raw(body)
        else:
            asked = read_request(text, at)
            wanted, deadline = self._all_json, request.deadline
            if asked.outputs or asked.parameters:
                wanted = self._wanted(asked)
                deadline = sooner(deadline, timeout_of(asked.parameters))
            arrays, count = self._arrays(asked, text, body, at, wanted)
        name = None if asked is None else asked.id
        results = self._model.infer_now(arrays, count)
        if results is None:
            # Queued now, not in a task: until that runs, others may have been read that take as much memory.
            pending = self._model.submit(arrays, count, deadline, request.id)
            return self._later(request, pending, name, wanted)
        return compressed(request, self._answer(results, name, wanted))

    def _again(self, request: Request, known: _Known, body: bytes, at: int) -> Response | Awaitable[Response]:
        """Answer a request whose JSON has been seen before."""
        if len(body) - at > known.length:
            raise left_over(len(body) - at - known.length)
        arrays = [slot.read(body, at) for slot in known.slots]
        results = self._model.infer_now(arrays, known.samples)
        if results is None:
            deadline = sooner(request.deadline, known.timeout)
            pending = self._model.submit(arrays, known.samples, deadline, request.id)
            return self._later(request, pending, None, known.wanted)
        if known.prefix is None:
            return compressed(request, self._answer(results, None, known.wanted))
        prefix, headers = known.prefix
        body = b"".join([prefix, *[_bytes(results[want.place]) for want in known.wanted]])
        return compressed(request, Response(body, 200, _BINARY, headers))

    async def _later(
        self, request: Request, pending: Awaitable[list[Array]], name: str | None, wanted: list[Wanted]
    ) -> Response:
        return compressed(request, self._answer(await pending, name, wanted))

    # --- the request -----------------------------------------------------------------------------------------------

    def _arrays(
        self, asked: InferRequest | FlatRequest, text: bytes, body: bytes, at: int, wanted: list[Wanted]
    ) -> tuple[list[Array], int]:
        if asked.id is not None and len(asked.id) > MOST_ID:
            raise RequestError(400, f"id: {len(asked.id)} characters, at most {MOST_ID} are accepted")
        given: dict[str, Array] = {}
        slots: dict[str, binary.Slot] = {}
        count = end = 0
        first = ""
        tensors: Sequence[Tensor | FlatTensor] = asked.inputs
        for place, tensor in enumerate(tensors):
            field = self._fields.get(tensor.name)
            if field is None:
                raise InvalidInputError(f"inputs[{place}]: unknown input '{tensor.name[:40]}', expected {self._order}")
            if tensor.name in given:
                raise InvalidInputError(f"{tensor.name}: given twice")
            shape = shape_of(tensor, field)
            parameters = tensor.parameters
            if parameters is not None and "binary_data_size" in parameters:
                if tensor.data is not msgspec.UNSET:
                    raise RequestError(400, f"{field.name}: has both data and binary_data_size")
                if at < 0:
                    raise RequestError(400, f"{field.name}: binary_data_size needs the header {binary.HEADER}")
                slot = slots[field.name] = binary.Slot(field, shape, parameters["binary_data_size"], end)
                end = slot.end
                given[field.name] = slot.read(body, at)
            else:
                given[field.name] = self._numbers(tensor, field, shape)
            if count and shape[0] != count:
                raise InvalidInputError(f"{tensor.name}: batch of {shape[0]}, but {first} has {count}")
            count, first = shape[0], first or tensor.name
        if at >= 0 and at + end != len(body):
            raise left_over(len(body) - at - end)
        for name in self._order:
            if name not in given:
                raise InvalidInputError(f"{name}: missing among the inputs, expected {self._fields[name].describe()}")
        if len(slots) == len(given) and asked.id is None and len(text) <= _KNOWN_BYTES:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            ordered = [slots[name] for name in self._order]
            timeout = timeout_of(asked.parameters)
            self._known[text] = _Known(ordered, end, count, wanted, timeout, self._prefix(wanted, count))
        return [given[name] for name in self._order], count

    def _numbers(self, tensor: Tensor | FlatTensor, field: Field, shape: tuple[int, ...]) -> Array:
        """Return the numbers of a tensor that are not binary data; its datatype and shape are those of *field*."""
        return array_of(tensor, field, shape)

    def _prefix(self, wanted: list[Wanted], count: int) -> tuple[bytes, tuple[tuple[str, str], ...]] | None:
        """Return the JSON and the headers of the answers to *count* samples where all of these are binary data."""
        specs = self._model.release.signature.outputs
        shapes = [specs[want.place].shape[1:] for want in wanted]
        if not all(want.raw and not want.classes for want in wanted) or any(-1 in shape for shape in shapes):
            return None
        results = {
            want.place: np.zeros((count, *shape), specs[want.place].dtype)
            for want, shape in zip(wanted, shapes, strict=True)
        }
        response = self._answer([results.get(place, np.empty(0)) for place in range(len(specs))], None, wanted)
        length = int(dict(response.headers)[binary.HEADER])
        return response.body[:length], tuple(response.headers)

    def _one_raw(self, body: bytes) -> tuple[list[Array], int]:
        """Read a request that is nothing but the bytes of the only input."""
        if len(self._order) != 1:
            raise InvalidInputError(f"body: without JSON only one input can be given, expected {self._order}")
        field = self._fields[self._order[0]]
        each = field.size * field.dtype.itemsize
        count, rest = divmod(len(body), each)
        if rest or not count:
            raise InvalidInputError(f"{field.name}: {len(body)} bytes, expected {each} for each sample")
        return [binary.Slot(field, (count, *field.shape), len(body), 0).read(body, 0)], count

    def _want(self, outputs: list[OutputAsked] | None, raw: bool) -> list[Wanted]:
        if not outputs:
            return [Wanted(name, index, kind, raw, 0) for name, (index, kind) in self._outputs.items()]
        wanted: list[Wanted] = []
        seen: set[str] = set()
        for place, output in enumerate(outputs):
            found = self._outputs.get(output.name)
            if found is None:
                raise InvalidInputError(
                    f"outputs[{place}]: unknown output '{output.name[:40]}', expected {list(self._outputs)}"
                )
            if output.name in seen:  # an answer could be made as large as one likes
                raise InvalidInputError(f"outputs[{place}]: '{output.name}' is given twice")
            seen.add(output.name)
            parameters = output.parameters or {}
            classes = parameters.get("classification", 0)
            if type(classes) is not int or classes < 0:
                raise RequestError(400, f"{output.name}: classification must be a number of classes")
            no_shared_memory(output.name, parameters)
            binary_data = truth(parameters, "binary_data", raw, output.name)
            wanted.append(Wanted(output.name, *found, binary_data, classes))
        return wanted

    def _wanted(self, asked: InferRequest | FlatRequest) -> list[Wanted]:
        raw = truth(asked.parameters or {}, "binary_data_output", False, "parameters")
        if not asked.outputs:
            return self._all_raw if raw else self._all_json
        return self._want(asked.outputs, raw)

    # --- the answer ------------------------------------------------------------------------------------------------

    def _answer(self, results: list[Array], name: str | None, wanted: list[Wanted]) -> Response:
        release = self._model.release
        outputs = []
        chunks: list[bytes] = []
        for want in wanted:
            array, datatype = results[want.place], want.datatype
            if want.classes:
                tops = classes_of(array, want.classes, self._labels.get(want.place))
                data: t.Any = [text for row in tops for text in row]
                shape, datatype = [len(tops), len(tops[0])], "BYTES"
            else:
                data, shape = array, list(array.shape)
            output: dict[str, t.Any] = {"name": want.name, "datatype": datatype, "shape": shape}
            if want.raw:
                raw = binary.strings(data) if want.classes else _bytes(data)
                output["parameters"] = {"binary_data_size": len(raw)}
                chunks.append(raw)
            else:
                output["data"] = data if want.classes else array.reshape(-1).tolist()
            outputs.append(output)
        answer: dict[str, t.Any] = {"model_name": release.name, "model_version": release.version}
        if name is not None:
            answer["id"] = name
        answer["outputs"] = outputs
        body = _encode(answer)
        if not chunks:
            return Response(body, headers=self._headers)
        headers = (*self._headers, (binary.HEADER, str(len(body))))
        return Response(b"".join((body, *chunks)), 200, _BINARY, headers)


def _bytes(array: Array) -> bytes:
    if sys.byteorder == "big":
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return array.tobytes()


def classes_of(array: Array, most: int, labels: tuple[str, ...] | None) -> list[list[str]]:
    """Return ``score:index[:label]`` of the highest scores of each sample, the highest first.

    :param labels: of the classes, where the scores are those of a classifier.
    """
    rows = array.reshape(len(array), -1)
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, : min(most, rows.shape[1])]
    return [
        [f"{row[i]}:{i}" + (f":{labels[i]}" if labels else "") for i in places]
        for row, places in zip(rows.tolist(), best.tolist(), strict=True)
    ]
