# SPDX-License-Identifier: GPL-3.0-or-later
"""``baseline.json`` of a release: what the training data looked like, read, checked, and the same formulas for traffic."""

from __future__ import annotations

import itertools
import os
import typing as t

import msgspec

from .errors import StartError
from .release import Release, read_file

if t.TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .tensors import Array

    Doubles = npt.NDArray[np.float64]

SCHEMA = "modelship.baseline/1"
_GRID, _RUN = 4, 16


class Histogram(msgspec.Struct, frozen=True):
    """Value *v* counts in the bin whose number is that of the *edges* that are at most *v*; the outer bins are open."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Feature(Histogram, frozen=True):
    """The histogram of one feature of an input."""

    name: str


class Input(msgspec.Struct, frozen=True):
    """One input: *shape* is that of one sample, *low* the threshold of the embedding's feature ``low``."""

    name: str
    kind: t.Literal["columns", "embedding"]
    shape: tuple[int, ...]
    samples: int
    minimum: float
    maximum: float
    features: tuple[Feature, ...]
    low: float = 0.0


class Prediction(msgspec.Struct, frozen=True):
    """The model's own answers: how many went to each class, and how sure it was of them."""

    output: str
    samples: int
    classes: tuple[int, ...]
    confidence: Histogram


class Baseline(msgspec.Struct, frozen=True):
    """The whole file."""

    schema: str
    inputs: tuple[Input, ...]
    prediction: Prediction | None = None


def read_baseline(release: Release) -> Baseline | None:
    """Return the baseline of *release*, ``None`` where it has none.

    :raises StartError: it is of another schema, or does not fit the release's signature.
    """
    if "baseline.json" not in release.files:
        return None
    path = os.path.join(release.folder, "baseline.json")
    try:
        found = msgspec.json.decode(read_file(path), type=Baseline)
    except (msgspec.DecodeError, ValueError, RecursionError) as exc:
        raise StartError(f"{path} is not a baseline: {exc}") from None
    if found.schema != SCHEMA:
        raise StartError(f"{path}: schema '{found.schema}' is not {SCHEMA}, the one this runtime reads")
    fault = _fault(found, release)
    if fault:
        raise StartError(f"{path}: {fault}: make the release again")
    return found


def _fault(baseline: Baseline, release: Release) -> str | None:
    """Return what does not fit, ``None`` where all does."""
    specs = {spec.name: spec.shape[1:] for spec in release.signature.inputs}
    histograms: list[tuple[str, Histogram]] = []
    if not baseline.inputs:
        return "inputs: there is none"
    for given in baseline.inputs:
        if specs.get(given.name) != given.shape or not given.shape:
            return f"input '{given.name}' of shape {list(given.shape)} is none of the signature's"
        names = embedding_names(given.shape) if given.kind == "embedding" else list(map(str, range(given.shape[0])))
        if (given.kind == "columns" and len(given.shape) != 1) or names != [one.name for one in given.features]:
            return f"input '{given.name}' has other features than {', '.join(names[:4])}, …"
        histograms += [(f"feature '{one.name}' of input '{given.name}'", one) for one in given.features]
    prediction = baseline.prediction
    if prediction:
        outputs = {spec.name: spec.shape for spec in release.signature.outputs}
        if outputs.get(prediction.output, ())[1:] != (len(prediction.classes),):
            return f"prediction: {len(prediction.classes)} classes are not what output '{prediction.output}' gives"
        histograms.append(("prediction", prediction.confidence))
    for what, one in histograms:
        rising = all(low < high for low, high in itertools.pairwise(one.edges))
        if not one.edges or not rising or len(one.counts) != len(one.edges) + 1 or min(one.counts) < 0:
            return f"{what}: edges must rise, and counts be one more than they are"
    return None


def _grid(shape: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Return the axes of a sample (counted from 0) that cells are laid over, and the number of cells along each."""
    axes = sorted(sorted(range(len(shape)), key=lambda axis: -shape[axis])[:2])
    return axes, [min(shape[axis], _GRID if len(axes) == 2 else _RUN) for axis in axes]


def embedding_names(shape: tuple[int, ...]) -> list[str]:
    """Return the names of the features of :func:`embedding`, in order."""
    places = itertools.product(*(range(count) for count in _grid(shape)[1]))
    return ["mean", "std", "low", *("cell_" + "_".join(map(str, place)) for place in places)]


def embedding(x: Array, low: float) -> Doubles:
    """Return the features of samples *x* ``(n, …)`` as float64 ``(n, features)``; formulas: docs/formats.md, "Baseline"."""
    import numpy as np

    wide = x.astype(np.float64)
    flat = wide.reshape(len(x), -1)
    mean = flat.mean(axis=1)
    # The deviations first: the difference of two large sums would drown a small spread.
    deviation = flat - mean[:, np.newaxis]
    std = np.sqrt(np.einsum("ij,ij->i", deviation, deviation) / flat.shape[1])
    share = np.count_nonzero(flat <= low, axis=1) / flat.shape[1]
    axes, counts = _grid(x.shape[1:])
    others = tuple(axis + 1 for axis in range(x.ndim - 1) if axis not in axes)
    single = all(x.shape[axis] == 1 for axis in others)
    cells = wide.reshape([len(x), *(x.shape[axis + 1] for axis in axes)]) if single else wide.mean(axis=others)
    for axis, count in enumerate(counts, start=1):
        starts = np.arange(count + 1) * cells.shape[axis] // count
        sizes = np.diff(starts).reshape([-1 if place == axis else 1 for place in range(cells.ndim)])
        cells = np.add.reduceat(cells, starts[:-1], axis=axis) / sizes
    return np.concatenate([np.stack([mean, std, share], axis=1), cells.reshape(len(x), -1)], axis=1)
