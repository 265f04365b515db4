# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers about a classifier's answers, and the golden set."""

from __future__ import annotations

import typing as t

from .errors import ModelError
from .golden import GoldenSet

if t.TYPE_CHECKING:
    import numpy as np

    from .data import Floats, Ints

#: Samples in a golden set, its size in bytes unless one sample alone is larger, and how far a served output may be off.
GOLDEN_SAMPLES = 16
GOLDEN_BYTES = 8 << 20
GOLDEN_TOLERANCE = 0.02


def check_probabilities(answers: Floats, classes: int, what: str, kind: str = "project") -> None:
    """Check that *answers* are one distribution over *classes* a sample.

    :raises ModelError: wrong shape, not finite, negative, or rows that do not sum to 1.
    """
    import numpy as np

    if answers.ndim != 2 or answers.shape[1] != classes:
        raise ModelError(
            kind, f"{what} answers the shape {list(answers.shape[1:])}, but [{classes}] (one value a label) is wanted"
        )
    if answers.size == 0:
        raise ModelError(kind, f"{what} returns no values: it must return one value a label")
    if not np.isfinite(answers).all():
        raise ModelError(kind, f"{what} answers NaN or infinity")
    if answers.min() < -1e-3 or np.abs(answers.sum(axis=1) - 1).max() > 2e-2:
        raise ModelError(kind, f"{what} answers no probabilities (they do not sum to 1): end it with a softmax")


def accuracy_and_loss(answers: Floats, classes: Ints) -> tuple[float, float]:
    """Return the share of right answers (0..1) and the mean cross-entropy in nats."""
    import numpy as np

    right = float((answers.argmax(axis=1) == classes).mean())
    chosen = np.clip(answers[np.arange(len(classes)), classes].astype(np.float64), 1e-7, 1.0)
    return round(right, 6), round(float(-np.log(chosen).mean()), 6)


def evaluate_answers(answers: Floats, classes: Ints, labels: list[str]) -> dict[str, t.Any]:
    """Return accuracy, loss, per-class precision, recall, f1 and support, and the confusion matrix.

    ``confusion[i][j]`` counts the samples of class *i* that were taken for class *j*. What is undefined (no sample, or
    never answered) is 0.
    """
    import numpy as np

    matrix = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(matrix, (classes, answers.argmax(axis=1)), 1)
    rows = []
    for index, label in enumerate(labels):
        hits, support, given = int(matrix[index, index]), int(matrix[index].sum()), int(matrix[:, index].sum())
        precision, recall = hits / given if given else 0.0, hits / support if support else 0.0
        both = precision + recall
        scores = {"precision": precision, "recall": recall, "f1": 2 * precision * recall / both if both else 0.0}
        rows.append({"label": label, **{key: round(value, 6) for key, value in scores.items()}, "support": support})
    accuracy, loss = accuracy_and_loss(answers, classes)
    result = {"accuracy": accuracy, "loss": loss, "samples": len(classes), "classes": rows}
    return {**result, "confusion": matrix.tolist()}


def golden_choice(answers: Floats, most: int = GOLDEN_SAMPLES) -> list[int]:
    """Choose at most *most* samples, spread over the classes answered, each answered clearly.

    Clearly: the best class leads by more than twice the tolerance, so that another runtime's rounding cannot flip it.
    Where a model answers nothing clearly, the clearest samples are taken.
    """
    import numpy as np

    ordered = np.sort(answers, axis=1)
    margin = ordered[:, -1] - ordered[:, -2] if answers.shape[1] > 1 else np.ones(len(answers))
    clear = margin > 2 * GOLDEN_TOLERANCE
    if not clear.any():
        return sorted(int(index) for index in np.argsort(-margin, kind="stable")[:most])
    chosen: list[int] = []
    best = answers.argmax(axis=1)
    waiting = [list(np.flatnonzero(clear & (best == label))) for label in range(answers.shape[1])]
    while len(chosen) < most and any(waiting):
        chosen += [int(queue.pop(0)) for queue in waiting if queue]
    return sorted(chosen[:most])


def golden_set(
    x: Floats, answers: Floats, input_name: str, output_name: str, predictor: t.Callable[[Floats], Floats] | None = None
) -> GoldenSet:
    """Return the golden set of the samples *x* and the release's own *answers*.

    It has at most :data:`GOLDEN_SAMPLES` samples, and fewer where they would take more than :data:`GOLDEN_BYTES`.

    :param predictor: asked for each chosen sample by itself, as a server must answer it whoever else asks: where a model
        scales its integers by what it is given, *answers* given together are others.
    """
    import numpy as np

    size = x[:1].nbytes + answers[:1].nbytes
    chosen = golden_choice(answers, max(1, min(GOLDEN_SAMPLES, GOLDEN_BYTES // max(1, size))))
    own = np.stack([predictor(x[index : index + 1])[0] if predictor else answers[index] for index in chosen])
    return GoldenSet({input_name: x[chosen]}, {output_name: own}, {"absolute": GOLDEN_TOLERANCE, "classes": "equal"})


def percentile_ms(seconds: list[float], percent: float) -> float:
    """Return the given percentile of *seconds*, in milliseconds."""
    import numpy as np

    values: np.floating[t.Any] = np.percentile(np.asarray(seconds), percent)
    return round(float(values) * 1e3, 4)
