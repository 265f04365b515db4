# SPDX-License-Identifier: GPL-3.0-or-later
"""``POST /explain``: which parts of a picture speak for a class, as a picture or as numbers.

Two methods, both of which only ask the model for answers, since neither runtime gives gradients:

- ``occlusion`` (Zeiler and Fergus, 2014, https://arxiv.org/abs/1311.2901): a patch slides over the picture and covers it with the
  colour of its border; a place's value is how much the class's score falls on average while it is covered.
- ``integrated-gradients`` (Sundararajan, Taly and Yan, 2017, https://arxiv.org/abs/1703.01365): the gradient of the
  score, integrated along the straight line from an empty picture to this one. Gradients are forward differences over
  one step of that line, for cells of a coarse grid. The values add up, but for the steps' coarseness, to the score's rise.
"""

from __future__ import annotations

import asyncio
import math
import typing as t

import msgspec
import numpy as np

from .bodies import content, form_file, is_json, media_type, query_value, unexpected_type
from .context import Context
from .errors import InvalidInputError, RequestError
from .http import Handler, Request, Response
from .images import INVERT, MEDIA_TYPES, Picture, image_inputs, one_of, picture_of, to_pixels
from .simple import Simple, no_number
from .tensors import Array

METHODS = ("occlusion", "integrated-gradients")
#: Inputs that one explanation may ask the model about, and the seconds that they may take alone.
_MOST_RUNS, _MOST_SECONDS = 2048, 5.0
#: Steps of the integral.
_STEPS = 12
#: One slice of runs takes about this long; predictions get their turn between slices.
_SLICE_SECONDS = 0.002

_encode = msgspec.json.Encoder().encode
#: A batch of inputs to the class's score for each.
Score = t.Callable[[Array], t.Awaitable[Array]]


class Explainer:
    """Explains the answers of one worker's models, one request at a time."""

    def __init__(self, context: Context) -> None:
        self._models = context.models
        self._limit = context.settings.max_body_bytes
        self._busy = False

    async def answer(self, request: Request) -> Response:
        """Answer one request: a JSON body as for /predict with one sample, or a picture.

        :raises RequestError: 503, another explanation is being made; 400, not an image classifier, the input does not fit, or
            an unknown option; 404, no such version.
        """
        method = one_of(request.query, "method", METHODS)
        one_of(request.query, "invert", INVERT)
        model = self._models.get(query_value(request, "version"))
        picture = _explainable(model)
        sample = await _sample(request, model, self._limit)
        if self._busy:
            message = "busy with another explanation: ask again in a moment"
            raise RequestError(503, message, ("retry-after", "1"))
        self._busy = True
        try:
            result = await _explain(method, model, picture, sample, request)
        finally:
            self._busy = False
        if "application/json" in request.headers.get("accept", ""):
            return Response(_encode(result.numbers()), headers=[("modelship-release", model.release.digest)])
        pixels = to_pixels(sample[0], picture)
        body = await asyncio.to_thread(_render, pixels, result)
        return Response(body, content_type="image/png", headers=[("modelship-release", model.release.digest)])


def _render(pixels: Array, result: Explanation) -> bytes:
    """Draw the picture; in a thread, so that the first time Pillow's import does not hold the loop up either."""
    from .heatmap import render

    return render(pixels, result.grid, result.label, result.score, result.method)


def handler(context: Context) -> Handler:
    """Return what answers at ``/explain``."""
    return Explainer(context).answer


class Explanation(t.NamedTuple):
    """A finished explanation: *grid* has HxW cells of the picture, positive where they speak for the class."""

    method: str
    place: int
    label: str
    score: float
    baseline: float
    grid: Array
    runs: int
    release: str

    def numbers(self) -> dict[str, t.Any]:
        """The JSON answer; *baseline* is the score of the empty picture."""
        return {
            "method": self.method,
            "result": self.place,
            "label": self.label,
            "score": self.score,
            "baseline": self.baseline,
            "grid": [[round(value, 6) for value in row] for row in self.grid.tolist()],
            "runs": self.runs,
            "release": self.release,
        }


def explainable(model: t.Any) -> str:
    """Return why the answers of *model* cannot be explained, "" where they can."""
    if len(model.fields) != 1:
        return f"the model takes {len(model.fields)} inputs, only images can be explained"
    if picture_of(model.fields[0]) is None:
        return f"'{model.fields[0].name}' is not an image but {model.fields[0].describe()}"
    signature = model.release.signature
    if signature.class_output is None:
        count = len(signature.labels or ())
        why = f"no output has a score for each of its {count} labels" if count > 1 else "its release has no labels"
        return f"the model is not a classifier ({why}): there is no score of a class to explain"
    return ""


def _explainable(model: t.Any) -> Picture:
    why = explainable(model)
    if why:
        raise InvalidInputError(f"explain: {why}")
    return t.cast(Picture, picture_of(model.fields[0]))


async def _sample(request: Request, model: t.Any, limit: int) -> Array:
    """Read the one sample of a request, sent in any of the ways that /predict takes."""
    media = media_type(request)
    body = content(request, limit)
    if is_json(media):
        arrays, count = Simple(model).read(body)
        if (count or 1) != 1:
            raise InvalidInputError(f"instances: one sample at a time can be explained, got {count}")
        return arrays[0]
    if media == "multipart/form-data":
        _name, body = form_file(request, body)
    elif media not in MEDIA_TYPES:
        raise unexpected_type(request, f"application/json, multipart/form-data, {', '.join(MEDIA_TYPES)}")
    return (await image_inputs(body, request.query, model))[0]


async def _explain(method: str, model: t.Any, picture: Picture, sample: Array, request: Request) -> Explanation:
    output, labels = model.release.signature.class_output, model.release.signature.labels
    wanted = query_value(request, "class")
    (answer,) = (await model.infer([sample], 1, request.deadline, request.id, quiet=True))[output]
    index = int(np.argmax(answer))
    if wanted is not None:
        if wanted not in labels:
            raise RequestError(400, f"query: class='{wanted[:40]}' must be one of {', '.join(labels[:20])}")
        index = labels.index(wanted)
    runs = 1

    async def score(batch: Array) -> Array:
        nonlocal runs
        runs += len(batch)
        step = max(1, int(_SLICE_SECONDS / max(model.seconds, 1e-6)))
        parts = []
        for start in range(0, len(batch), step):
            part = batch[start : start + step]
            outputs = await model.infer([part], len(part), request.deadline, request.id, quiet=True)
            parts.append(outputs[output][:, index])
            await asyncio.sleep(0)
        return np.concatenate(parts).astype(np.float64)

    budget = max(64, min(_MOST_RUNS, int(_MOST_SECONDS / max(model.seconds, 1e-6))))
    empty = _empty(sample, picture)
    make = occlusion if method == "occlusion" else integrated_gradients
    grid = await make(score, sample, empty, picture, float(answer[index]), budget)
    baseline = float((await score(empty))[0])
    if not np.isfinite([float(answer[index]), baseline, *grid.flat]).all():
        raise no_number(model)
    return Explanation(method, index, labels[index], float(answer[index]), baseline, grid, runs, model.release.digest)


def _empty(sample: Array, picture: Picture) -> Array:
    """A picture all of the colour that *sample* has at its border (the median, by channel)."""
    pixels = _hwc(sample, picture)
    border = np.concatenate([pixels[0, 0], pixels[0, -1], pixels[0, 1:-1, 0], pixels[0, 1:-1, -1]])
    return _back(np.broadcast_to(np.median(border, axis=0), pixels.shape).astype(sample.dtype), picture, sample.shape)


def _hwc(batch: Array, picture: Picture) -> Array:
    """A batch in the field's shape as Nx(HxWxC)."""
    if picture.planes:
        return batch.reshape(-1, picture.channels, picture.height, picture.width).transpose(0, 2, 3, 1)
    return batch.reshape(-1, picture.height, picture.width, picture.channels)


def _back(pixels: Array, picture: Picture, shape: tuple[int, ...]) -> Array:
    if picture.planes:
        pixels = pixels.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(pixels).reshape(len(pixels), *shape[1:])


async def occlusion(score: Score, sample: Array, empty: Array, picture: Picture, full: float, budget: int) -> Array:
    """Return the mean fall of the score for each pixel, HxW, of at most *budget* runs."""
    height, width = picture.height, picture.width
    patch = max(1, round(min(height, width) / 7))
    stride = max(1, patch // 2)
    while math.ceil(height / stride + 1) * math.ceil(width / stride + 1) > budget - 2:
        stride, patch = stride + 1, max(patch, stride + 1)
    # Patches that begin before the edge and end behind it cover the pixels there as often as others.
    tops = range(stride - patch, height, stride)
    lefts = range(stride - patch, width, stride)
    places = [
        (slice(max(0, top), top + patch), slice(max(0, left), left + patch))
        for top in tops if top + patch > 0 for left in lefts if left + patch > 0
    ]  # fmt: skip
    pixels, nothing = _hwc(sample, picture)[0], _hwc(empty, picture)[0]
    fall, covered = np.zeros((height, width)), np.zeros((height, width))
    # A slice of the places at a time, so that memory stays that of a few pictures.
    for start in range(0, len(places), 32):
        part = places[start : start + 32]
        batch = np.repeat(pixels[None], len(part), axis=0)
        for index, place in enumerate(part):
            batch[index][place] = nothing[place]
        for place, value in zip(part, await score(_back(batch, picture, sample.shape)), strict=True):
            fall[place] += full - value
            covered[place] += 1
    return t.cast(Array, fall / covered)


async def integrated_gradients(
    score: Score,
    sample: Array,
    empty: Array,
    picture: Picture,
    full: float,  # noqa: ARG001
    budget: int,
) -> Array:
    """Return the part of each cell of a coarse grid in the rise of the score from *empty* to *sample*, of at most
    *budget* runs.
    """
    cells = max(1, math.isqrt(max(1, budget // _STEPS - 1)))
    size = max(1, math.ceil(max(picture.height, picture.width) / cells))
    start, end = _hwc(empty, picture)[0].astype(np.float64), _hwc(sample, picture)[0].astype(np.float64)
    change = (end - start) / _STEPS
    rows, columns = math.ceil(picture.height / size), math.ceil(picture.width / size)
    places = [
        (slice(row * size, (row + 1) * size), slice(column * size, (column + 1) * size))
        for row in range(rows) for column in range(columns)
    ]  # fmt: skip
    rise = np.zeros(rows * columns)
    for step in range(_STEPS):
        here = start + change * step
        (before,) = await score(_cast(here[None], sample, picture))
        # Cells that do not change on the way have no part in it.
        moving = [index for index, place in enumerate(places) if change[place].any()]
        for first in range(0, len(moving), 32):
            part = moving[first : first + 32]
            batch = np.repeat(here[None], len(part), axis=0)
            for index, cell in enumerate(part):
                batch[index][places[cell]] += change[places[cell]]
            rise[part] += await score(_cast(batch, sample, picture)) - before
    return rise.reshape(rows, columns)


def _cast(pixels: Array, sample: Array, picture: Picture) -> Array:
    if sample.dtype.kind != "f":
        pixels = np.rint(pixels)
    return _back(pixels.astype(sample.dtype), picture, sample.shape)
