# SPDX-License-Identifier: GPL-3.0-or-later
"""``POST /predict``: ``{"image": […]}`` for one sample, ``{"instances": […]}`` for several."""

from __future__ import annotations

import math
import typing as t
from collections.abc import Awaitable

import msgspec

from . import metrics
from .app import Route
from .bodies import compressed, content, form_file, is_json, media_type, query_value, unexpected_type
from .context import Context
from .errors import InvalidInputError, RequestError
from .http import Request, Response
from .model import Model
from .tensors import Array, Field

#: Media types of pictures; what the bytes are is decided by the bytes.
PICTURES = ("image/png", "image/jpeg")

_USUAL_TYPES = frozenset({"application/json", None})

_encode = msgspec.json.Encoder().encode
_decode_any = msgspec.json.Decoder().decode

#: What a JSON decoder raises on bad input: bad syntax, bad UTF-8 (a ValueError), arrays nested without end.
DECODE_ERRORS = (msgspec.DecodeError, ValueError, RecursionError)


def decode_object(body: bytes) -> dict[str, t.Any]:
    """Decode *body* as a JSON object.

    :raises RequestError: 400, not JSON or not an object.
    """
    try:
        value = _decode_any(body)
    except DECODE_ERRORS as exc:
        reason = "arrays nested too deep" if isinstance(exc, RecursionError) else str(exc)
        raise RequestError(
            400, f"body: not JSON: {reason}" if body else "body: empty, expected a JSON object"
        ) from None
    if type(value) is not dict:
        raise RequestError(400, "body: expected a JSON object")
    return value


def routes(context: Context) -> dict[str, Route]:
    """Return the route of ``/predict``; ``?version=`` asks for another version than the default."""
    models, limit = context.models, context.settings.max_body_bytes
    default = Simple(models.default, limit).answer
    others = {
        version: Simple(models.get(version), limit, (("modelship-release", models.get(version).release.digest),)).answer
        for version in models.versions
    }

    def predict(request: Request) -> Response | Awaitable[Response]:
        version = query_value(request, "version")
        if request.query:
            from .images import INVERT, one_of

            one_of(request.query, "invert", INVERT)  # a mistake in it is told with JSON too, which it does not concern
        if version is None:
            return default(request)
        models.get(version)  # raises where there is none
        return others[version](request) if version else default(request)

    return {"/predict": Route(metrics.PREDICT, "POST", predict)}


class Simple:
    """The simple protocol for one model.

    The response of a classifier (a release with labels) has ``result`` (the index of the class), ``label`` and
    ``probabilities`` (``scores`` where they are not probabilities); its further outputs are in ``outputs``, by name. The
    response of any other model has all outputs there. What JSON has no number for, NaN and the infinities, is ``null``.

    :param limit: most bytes of a decompressed body.
    :param headers: of every answer.
    """

    def __init__(self, model: Model, limit: int = 0, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._limit = limit
        self._headers = headers
        self._model = model
        self._fields = model.fields
        self._release = model.release.digest
        signature = model.release.signature
        self._labels = list(signature.labels or ())
        self._classes = signature.class_output
        self._others = [(spec.name, i) for i, spec in enumerate(signature.outputs) if i != self._classes]
        self._scores = "scores"
        if self._classes is not None and model.gives_probabilities(self._classes):
            self._scores = "probabilities"
        # The common request, one flat array of numbers per input, is decoded and type-checked in one pass in C.
        names = [(field.name, list[field.element]) for field in self._fields]  # type: ignore[name-defined]
        try:
            shape = msgspec.defstruct("Sample", names, forbid_unknown_fields=True, gc=False)
            self._decode_flat: t.Callable[[bytes], t.Any] | None = msgspec.json.Decoder(shape).decode
        except (TypeError, ValueError):  # a name that is no Python identifier
            self._decode_flat = None
        self._single = self._fields[0] if len(self._fields) == 1 else None

    def answer(self, request: Request) -> Response | Awaitable[Response]:
        """Answer one request, at once where the model runs at once.

        :raises RequestError: 400 for what is not a JSON object or does not fit the signature, 413, 415.
        """
        header = request.headers.get
        if header("content-type") not in _USUAL_TYPES and not is_json(media := media_type(request)):
            return self._picture(request, media)
        body = request.body if header("content-encoding") is None else content(request, self._limit)
        arrays, count = self.read(body)
        outputs = self._model.infer_now(arrays, count or 1)
        if outputs is None:
            # Queued now, not in a task: until that runs, others may have been read that take as much memory.
            pending = self._model.submit(arrays, count or 1, request.deadline, request.id)
            return self._later(request, pending, count)
        return compressed(request, Response(self._body(outputs, count), headers=self._headers))

    async def _later(self, request: Request, pending: Awaitable[list[Array]], count: int | None) -> Response:
        return compressed(request, Response(self._body(await pending, count), headers=self._headers))

    async def _picture(self, request: Request, media: str) -> Response:
        # The picture itself is not kept while its numbers wait for the model.
        arrays = await self._read_picture(request, media)
        return await self._later(request, self._model.infer(arrays, 1, request.deadline, request.id), None)

    async def _read_picture(self, request: Request, media: str) -> list[Array]:
        data = content(request, self._limit)
        if media == "multipart/form-data":
            _name, data = form_file(request, data)
        elif media not in PICTURES:
            raise unexpected_type(request, f"application/json, multipart/form-data, {', '.join(PICTURES)}")
        from .images import image_inputs  # Pillow: not before there is a picture

        return await image_inputs(data, request.query, self._model)

    def _body(self, outputs: list[Array], count: int | None) -> bytes:
        if self._classes is not None:
            answers = [self._class(scores) for scores in outputs[self._classes].tolist()]
        else:
            answers = [{} for _sample in outputs[0]]
        for name, index in self._others:
            for answer, value in zip(answers, outputs[index].tolist(), strict=True):
                answer.setdefault("outputs", {})[name] = value
        if count is None:
            return _encode({**answers[0], "release": self._release})
        return _encode({"predictions": answers, "release": self._release})

    def read(self, body: bytes) -> tuple[list[Array], int | None]:
        """Read a request body: the inputs, and how many samples they hold (``None``: one, given alone).

        :raises RequestError: as :meth:`predict`.
        """
        arrays = self._flat(body)
        return (arrays, None) if arrays is not None else self._general(decode_object(body))

    def _flat(self, body: bytes) -> list[Array] | None:
        """Read the common form; ``None`` for any other, right or wrong."""
        if self._decode_flat is None:
            return None
        try:
            sample = self._decode_flat(body)
        except DECODE_ERRORS:
            return None
        field = self._single
        if field is not None:
            values = getattr(sample, field.name)
            return [field.array(values)] if len(values) == field.size else None
        columns = [(field, getattr(sample, field.name)) for field in self._fields]
        if any(len(values) != field.size for field, values in columns):
            return None
        return [field.array(values) for field, values in columns]

    def _general(self, request: dict[str, t.Any]) -> tuple[list[Array], int | None]:
        if "instances" not in request or any(field.name == "instances" for field in self._fields):
            self._check_names(request, "")
            return [self._column(field, [request[field.name]], [field.name]) for field in self._fields], None
        if len(request) > 1:
            other = next(name for name in request if name != "instances")
            raise InvalidInputError(f"{other}: not allowed beside 'instances'")
        instances = request["instances"]
        if type(instances) is not list or not instances:
            raise InvalidInputError("instances: expected a non-empty array of samples")
        if self._single is not None and type(instances[0]) is not dict:
            places = [f"instances[{i}]" for i in range(len(instances))]
            return [self._column(self._single, instances, places)], len(instances)
        for i, instance in enumerate(instances):
            if type(instance) is not dict:
                raise InvalidInputError(f"instances[{i}]: expected an object with {self._names()}")
            self._check_names(instance, f"instances[{i}].")
        return [
            self._column(
                field,
                [instance[field.name] for instance in instances],
                [f"instances[{i}].{field.name}" for i in range(len(instances))],
            )
            for field in self._fields
        ], len(instances)

    def _column(self, field: Field, samples: list[t.Any], places: list[str]) -> Array:
        flats = [field.flatten(sample, field.shape, place) for sample, place in zip(samples, places, strict=True)]
        if len(flats) == 1:
            return field.array(flats[0], 1, places[0])
        return field.array([value for flat in flats for value in flat], len(flats), places)

    def _names(self) -> str:
        return ", ".join(f"'{field.name}'" for field in self._fields)

    def _check_names(self, request: dict[str, t.Any], where: str) -> None:
        for field in self._fields:
            if field.name not in request:
                got = ", ".join(f"'{name[:40]}'" for name in list(request)[:5]) or "nothing"
                raise InvalidInputError(f"{where}{field.name}: missing, expected {field.describe()}; got {got}")
        known = {field.name for field in self._fields}
        for name in request:
            if name not in known:
                raise InvalidInputError(f"{where}{name[:40]}: unknown field, expected {self._names()}")

    def _class(self, scores: list[float]) -> dict[str, t.Any]:
        """Return the class with the highest of the *scores*, the first one of several."""
        # One NaN makes the sum NaN; infinities of both signs do too.
        if math.isnan(sum(scores)) and any(map(math.isnan, scores)):
            raise no_number(self._model)
        result = scores.index(max(scores))
        return {"result": result, "label": self._labels[result], self._scores: scores}


def no_number(model: Model) -> RequestError:
    """Return the error of a classifier whose scores decide nothing: none is the greatest where one is NaN."""
    names = ", ".join(field.name for field in model.fields)
    return InvalidInputError(f"{names}: the model gives scores that are not numbers (NaN) for these values")
