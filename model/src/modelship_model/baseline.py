# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the training data looked like: ``baseline.json`` of a release, which a server compares its traffic with.

The formulas are those of docs/formats.md, "Baseline". The serving side reckons the same ones without this code.
"""

from __future__ import annotations

import math
import typing as t

if t.TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .data import Floats

    Doubles = npt.NDArray[np.float64]

SCHEMA = "modelship.baseline/1"
#: Fewer samples than this say too little about a distribution: there is no baseline then.
MINIMUM_SAMPLES = 50
#: A flat sample of at most this many values is described value by value, any other by its embedding.
MAX_COLUMNS = 64

_BINS = 10
_SAMPLES_A_BIN = 50
#: Of a grid's side, and of the run of cells that a flat sample is cut into.
_GRID, _RUN = 4, 16
#: Samples taken at once, so that their float64 copy stays small.
_CHUNK = 1024


def baseline_of(
    x: Floats, answers: Floats, signature: dict[str, t.Any], inputs: list[dict[str, t.Any]] | None = None
) -> dict[str, t.Any] | None:
    """Return the content of ``baseline.json``, or ``None`` where there are too few samples for one.

    Of too few answers alone, ``prediction`` is ``None``.

    :param x: training samples, float32 ``(n, …)``, the shape of one as the signature's input says.
    :param answers: the model's own answers ``(m, classes)`` to samples that it did not learn from where there are such:
        of samples seen before it is surer than it will ever be of traffic.
    :param inputs: ``inputs`` of another baseline, taken in place of what *x* would give (a parent's).
    """
    if inputs is None:
        if len(x) < MINIMUM_SAMPLES:
            return None
        (given,) = signature["inputs"]
        inputs = [_describe(x, given["name"], given.get("range"))]
    prediction = _predictions(answers, signature) if len(answers) >= MINIMUM_SAMPLES else None
    return {"schema": SCHEMA, "inputs": inputs, "prediction": prediction}


def inputs_of(baseline: t.Any) -> list[dict[str, t.Any]] | None:
    """Return the ``inputs`` of a stored baseline, ``None`` where there is none or it is of another schema."""
    if isinstance(baseline, dict) and baseline.get("schema") == SCHEMA:
        return t.cast(list[dict[str, t.Any]], baseline["inputs"])
    return None


def _predictions(answers: Floats, signature: dict[str, t.Any]) -> dict[str, t.Any]:
    counts = [0] * len(signature["labels"])
    for label in answers.argmax(axis=1).tolist():
        counts[label] += 1
    return {
        "output": signature["outputs"][0]["name"],
        "samples": len(answers),
        "classes": counts,
        "confidence": histogram(answers.max(axis=1)),
    }


def _describe(x: Floats, name: str, limits: list[float] | None) -> dict[str, t.Any]:
    import numpy as np

    shape = list(x.shape[1:])
    low, high = float(x.min()), float(x.max())
    found: dict[str, t.Any] = {
        "name": name,
        "shape": shape,
        "samples": len(x),
        "minimum": low,
        "maximum": high,
        "mean": _short(float(x.mean(dtype=np.float64))),
    }
    if len(shape) == 1 and shape[0] <= MAX_COLUMNS:
        columns = [{"name": str(index), **histogram(x[:, index])} for index in range(shape[0])]
        return {**found, "kind": "columns", "features": columns}
    bottom, top = limits or (low, high)
    # Of float32 exactly, as the values that are compared with it.
    threshold = float(np.float32(bottom + 0.1 * (top - bottom)))
    names, values = embedding(x, threshold)
    features = [{"name": name, **histogram(values[:, index])} for index, name in enumerate(names)]
    return {**found, "kind": "embedding", "low": threshold, "features": features}


def embedding(x: Floats, low: float) -> tuple[list[str], Doubles]:
    """Return the names of the embedding's features and their values, float64 ``(n, features)``.

    ``mean``, ``std`` (of the population), ``low`` (share of values of at most *low*), and the means of the cells of a grid
    over the two longest axes of a sample (of equally long ones the first), at most 4 by 4: with *g* cells over *n* values,
    cell *i* holds those from ``i * n // g`` to before ``(i + 1) * n // g``. A flat sample has a row of at most 16 cells.
    """
    import numpy as np

    axes = sorted(sorted(range(1, x.ndim), key=lambda axis: -x.shape[axis])[:2])
    counts = [min(x.shape[axis], _GRID if len(axes) == 2 else _RUN) for axis in axes]
    cells = ["cell_" + "_".join(map(str, place)) for place in np.ndindex(*counts)]
    rest = tuple(axis for axis in range(1, x.ndim) if axis not in axes)
    values = np.empty((len(x), 3 + len(cells)), dtype=np.float64)
    for start in range(0, len(x), _CHUNK):
        part = x[start : start + _CHUNK]
        wide, out = part.astype(np.float64), values[start : start + _CHUNK]
        flat = wide.reshape(len(part), -1)
        out[:, 0], out[:, 1] = flat.mean(axis=1), flat.std(axis=1)
        out[:, 2] = (part.reshape(len(part), -1) <= np.float32(low)).mean(axis=1)
        grid = wide.mean(axis=rest) if rest else wide
        for axis, count in enumerate(counts, start=1):
            edges = [index * grid.shape[axis] // count for index in range(count + 1)]
            pieces = [grid.take(range(*edges[index : index + 2]), axis=axis).mean(axis=axis) for index in range(count)]
            grid = np.stack(pieces, axis=axis)
        out[:, 3:] = grid.reshape(len(part), -1)
    return ["mean", "std", "low", *cells], values


def histogram(values: npt.NDArray[t.Any]) -> dict[str, t.Any]:
    """Return ``{"edges": […], "counts": […]}`` of *values*.

    Value *v* counts in the bin whose number is that of the edges that are at most *v*: bin 0 lies below the first edge and
    the last one from the last edge on; both are empty here, since the outer edges lie a little beyond the extremes. Inner
    edges lie halfway between neighbouring values, so that rounding moves no value that occurs often across one. At most 10
    distinct values have a bin each; else there are at most 10 bins of about equally many, and more where single values that
    hold a whole share get bins of their own.
    """
    import numpy as np

    values = values.astype(np.float64)
    distinct, counts = np.unique(values, return_counts=True)
    cuts = _cuts(counts.tolist(), len(values))
    inner = [float(distinct[index] + distinct[index + 1]) / 2 for index in cuts]
    low, high = float(distinct[0]), float(distinct[-1])
    # Of the outermost bins' own width: one far value must not widen the other end.
    below = 0.01 * ((inner or [high])[0] - low) or max(abs(low), 1.0) * 1e-6
    above = 0.01 * (high - (inner or [low])[-1]) or max(abs(high), 1.0) * 1e-6
    edges = sorted({_short(edge) for edge in (low - below, *inner, high + above)})
    found = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return {"edges": edges, "counts": found.tolist()}


def _cuts(counts: list[int], total: int) -> list[int]:
    """Return the numbers of the distinct values behind which a bin ends, of the *counts* of all of them in order."""
    if len(counts) <= _BINS:
        return list(range(len(counts) - 1))
    bins = max(2, min(_BINS, total // _SAMPLES_A_BIN))
    share = total / bins
    cuts, seen, wanted = [], 0, share
    for index, count in enumerate(counts[:-1]):
        seen += count
        if seen >= wanted or counts[index + 1] >= share:
            cuts.append(index)
            # The next full share; one value may hold several.
            wanted = (math.floor(seen / share) + 1) * share
    return cuts


def _short(value: float) -> float:
    """Round to 9 digits: float32 has fewer, and processors differ in the last ones of a sum."""
    return float(f"{value:.9g}")
