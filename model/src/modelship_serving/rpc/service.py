# SPDX-License-Identifier: GPL-3.0-or-later
"""The calls: the six of the Open Inference Protocol V2, and the health check that Kubernetes' probes use.

Inference is that of REST (:mod:`..v2`) with the same checks; only messages differ. An answer has its tensors where the
request had them: ``raw_output_contents`` for ``raw_input_contents``, typed contents for typed contents.
"""

from __future__ import annotations

import math
import typing as t
from collections.abc import Awaitable

from .. import binary
from ..context import Context
from ..errors import RequestError
from ..model import Model
from ..tensors import Array, Field
from ..v2 import Inference, Wanted, classes_of, model_metadata, server_metadata
from ..v2_request import (
    FlatTensor,
    InferRequest,
    OutputAsked,
    Tensor,
    no_shared_memory,
    sooner,
    timeout_of,
)
from . import messages
from .calls import Call, Method

_SERVICE = "/inference.GRPCInferenceService/"
_SERVING, _NOT_SERVING = 1, 2
#: Requests and answers of which the constant parts are kept, and the longest of those.
_MOST_KEPT = 64
_MOST_BYTES = 1024


def methods(context: Context) -> dict[str, Method]:
    """Return what answers at which path."""
    models = context.models
    server = server_metadata()
    extensions = [name for name in server["extensions"] if name != binary.EXTENSION]
    about_server = messages.write_server_metadata(server["name"], server["version"], extensions)
    about = {version: _metadata(model_metadata(models.get(version), models.versions)) for version in models.versions}
    infer = {version: RpcInference(models.get(version)) for version in models.versions}
    yes, no = messages.write_flag(True), messages.write_flag(False)
    default = models.default.version

    def find(name: str, version: str, call: Call) -> str:
        if name != models.name:
            raise RequestError(404, f"model '{name[:80]}': not served here, only '{models.name}'")
        model = models.get(version)
        if model.version != default:
            call.release = model.release.digest
        return model.version

    def server_ready(_message: bytes, _call: Call) -> bytes:
        return no if context.draining else yes

    def model_ready(message: bytes, call: Call) -> bytes:
        asked = messages.read_texts(message)
        find(asked.get(1, ""), asked.get(2, ""), call)
        return no if context.draining else yes

    def metadata(message: bytes, call: Call) -> bytes:
        asked = messages.read_texts(message)
        return about[find(asked.get(1, ""), asked.get(2, ""), call)]

    known = _Known()

    def model_infer(message: bytes, call: Call) -> bytes | Awaitable[bytes]:
        found = known.find(message)
        if found is not None:
            call.release = found.release
            return found.inference.again(found, message, call)
        request = messages.read_infer_request(message)
        inference = infer[find(request.model_name, request.model_version, call)]
        answer = inference.infer(message, request, call)
        known.keep(message, request, inference, call.release)
        return answer

    def check(message: bytes, _call: Call) -> bytes:
        service = messages.read_texts(message).get(1, "")
        if service not in ("", _SERVICE.strip("/")):
            raise RequestError(404, f"service '{service[:80]}': not served here, only '{_SERVICE.strip('/')}'")
        return messages.write_status(_NOT_SERVING if context.draining else _SERVING)

    return {
        f"{_SERVICE}ServerLive": Method(lambda _message, _call: yes, public=True, quiet=True),
        f"{_SERVICE}ServerReady": Method(server_ready, public=True, quiet=True),
        f"{_SERVICE}ModelReady": Method(model_ready, public=True, quiet=True),
        f"{_SERVICE}ServerMetadata": Method(lambda _message, _call: about_server),
        f"{_SERVICE}ModelMetadata": Method(metadata),
        f"{_SERVICE}ModelInfer": Method(model_infer),
        "/grpc.health.v1.Health/Check": Method(check, public=True, quiet=True),
    }


def _metadata(about: dict[str, t.Any]) -> bytes:
    def tensors(kind: str) -> list[bytes]:
        return [messages.write_tensor(one["name"], one["datatype"], one["shape"]) for one in about[kind]]

    return messages.write_model_metadata(
        about["name"], about["versions"], about["platform"], tensors("inputs"), tensors("outputs")
    )


class _Seen(t.NamedTuple):
    """A request whose beginning, up to the numbers, has been found right.

    :param start: where the numbers begin.
    """

    inference: RpcInference
    release: str
    slot: binary.Slot
    samples: int
    start: int


class _Known:
    """Requests of before: clients send the same one over and over, with other numbers at its end."""

    def __init__(self) -> None:
        self._starts: dict[int, int] = {}  # length of a message: where in it the numbers begin
        self._seen: dict[bytes, _Seen] = {}

    def find(self, message: bytes) -> _Seen | None:
        """Return what is known of the beginning of *message*."""
        start = self._starts.get(len(message))
        return None if start is None else self._seen.get(message[:start])

    def keep(self, message: bytes, request: messages.InferRequest, inference: RpcInference, release: str) -> None:
        """Keep the beginning of a *message* that was found right, if it is of the usual form."""
        special = request.id or request.parameters or request.outputs or len(request.raw) != 1
        if special or request.raw[0][1] != len(message) or request.raw[0][0] > _MOST_BYTES:
            return
        tensor, (start, stop) = request.inputs[0], request.raw[0]
        slot = binary.Slot(inference.fields[0], tuple(tensor.shape), stop - start, 0)
        if len(self._seen) >= _MOST_KEPT:
            self._seen.clear()
            self._starts.clear()
        self._starts[len(message)] = start
        self._seen[message[:start]] = _Seen(inference, release, slot, tensor.shape[0], start)


class RpcInference(Inference):
    """Answers ``ModelInfer`` for one version of the model."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, 0)
        self.fields = model.fields
        self._head = messages.write_infer_head(model.release.name, model.version)
        self._described: dict[tuple[tuple[int, ...], ...], bytes] = {}

    def infer(self, message: bytes, request: messages.InferRequest, call: Call) -> bytes | Awaitable[bytes]:
        """Answer a request, at once where the model runs at once.

        :raises RequestError: as by REST.
        """
        raw = bool(request.raw)
        wanted, deadline = self._all_raw if raw else self._all_json, call.deadline
        if request.outputs:
            wanted = self._want([OutputAsked(name, parameters) for name, parameters in request.outputs], raw)
        if request.parameters:
            deadline = sooner(deadline, timeout_of(request.parameters))
        if raw:
            tensors, data = self._raw_tensors(message, request)
            arrays, count = self._arrays(InferRequest(tensors, request.id), b"", data, 0, wanted)
        else:
            asked = InferRequest(self._typed_tensors(request), request.id)
            arrays, count = self._arrays(asked, b"", b"", -1, wanted)
        results = self._model.infer_now(arrays, count)
        if results is None:
            return self._infer_later(self._model.submit(arrays, count, deadline, call.id), request.id, wanted, raw)
        return self._message(results, request.id, wanted, raw)

    def again(self, seen: _Seen, message: bytes, call: Call) -> bytes | Awaitable[bytes]:
        """Answer a request whose beginning is known."""
        arrays = [seen.slot.read(message, seen.start)]
        results = self._model.infer_now(arrays, seen.samples)
        if results is None:
            pending = self._model.submit(arrays, seen.samples, call.deadline, call.id)
            return self._infer_later(pending, "", self._all_raw, True)
        return self._message(results, "", self._all_raw, True)

    async def _infer_later(
        self, pending: Awaitable[list[Array]], request_id: str, wanted: list[Wanted], raw: bool
    ) -> bytes:
        return self._message(await pending, request_id, wanted, raw)

    def _raw_tensors(self, message: bytes, request: messages.InferRequest) -> tuple[list[Tensor], bytes]:
        """Return the tensors as :class:`.v2.Inference` takes those with binary data, and the bytes of all of them."""
        inputs, places = request.inputs, request.raw
        if len(inputs) != len(places):
            raise RequestError(
                400, f"raw_input_contents: {len(places)} for {len(inputs)} inputs, expected one for each of them"
            )
        tensors = []
        for tensor, (start, stop) in zip(inputs, places, strict=True):
            if tensor.contents is not None and tensor.contents.values:
                raise RequestError(400, f"{tensor.name[:40]}: has contents beside raw_input_contents")
            parameters = {**tensor.parameters, "binary_data_size": stop - start}
            tensors.append(Tensor(tensor.name, tensor.shape, tensor.datatype, parameters))
        return tensors, b"".join([message[start:stop] for start, stop in places])

    def _typed_tensors(self, request: messages.InferRequest) -> list[Tensor]:
        tensors = []
        for tensor in request.inputs:
            no_shared_memory(tensor.name[:40], tensor.parameters)
            contents = tensor.contents or messages.Contents(b"", [])
            tensors.append(Tensor(tensor.name, tensor.shape, tensor.datatype, None, contents))
        return tensors

    def _numbers(self, tensor: Tensor | FlatTensor, field: Field, shape: tuple[int, ...]) -> Array:
        # Only now: unpacked they take up to eight times as much memory, and datatype and shape may have been wrong.
        contents: messages.Contents = tensor.data  # type: ignore[assignment]
        array = field.narrowed(contents.numbers(field.name, field.datatype, math.prod(shape)))
        field.check(array)
        return array.reshape(shape)

    def _message(self, results: list[Array], name: str, wanted: list[Wanted], raw: bool) -> bytes:
        """Return the ``ModelInferResponse``."""
        # One without a typed form goes raw, and the protocol wants all or none of them raw.
        raw = raw or any(want.datatype not in messages.CONTENTS for want in wanted if not want.classes)
        parts = [self._head, messages.write_id(name)]
        usual = raw and (wanted is self._all_raw or wanted is self._all_json)
        if usual:
            key = tuple(array.shape for array in results)
            described = self._described.get(key)
            if described is None:
                tensors = [messages.write_tensor(w.name, w.datatype, results[w.place].shape) for w in wanted]
                described = messages.write_outputs(tensors)
                if len(self._described) < _MOST_KEPT:
                    self._described[key] = described
            parts.append(described)
            parts += [messages.write_raw(results[want.place]) for want in wanted]
            return b"".join(parts)
        tensors, chunks = [], []
        for want in wanted:
            array = results[want.place]
            if want.classes:
                tops = classes_of(array, want.classes, self._labels.get(want.place))
                texts = [text for row in tops for text in row]
                shape: tuple[int, ...] = (len(tops), len(tops[0]))
                contents = b"" if raw else messages.write_strings(texts)
                tensors.append(messages.write_tensor(want.name, "BYTES", shape, contents))
                if raw:
                    chunks.append(messages.write_raw_bytes(binary.strings(texts)))
            else:
                contents = b"" if raw else messages.write_contents(array, want.datatype)
                tensors.append(messages.write_tensor(want.name, want.datatype, array.shape, contents))
                if raw:
                    chunks.append(messages.write_raw(array))
        return b"".join((*parts, messages.write_outputs(tensors), *chunks))
