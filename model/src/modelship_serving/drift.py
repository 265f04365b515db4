# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift: how far the traffic of late differs from what the model was trained on, as metrics.

Samples of the traffic are counted in the bins of the release's baseline; the counts of the last :data:`WINDOW` samples, of
all workers, are compared with it. The window counts samples and not seconds, so that a value means the same on a quiet
server and on a busy one; drift that has gone has left the window after as many samples.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
import typing as t
from collections.abc import Sequence

from .baseline import Baseline, Histogram, Input, embedding, read_baseline
from .metrics import SharedCells
from .release import Release

if t.TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .tensors import Array

    Cells = npt.NDArray[np.int64]

#: Samples compared with the baseline, of all workers, and those without which nothing is said: by chance alone the PSI of
#: 12 bins varies by sqrt(2 * 11) / 300 = 0.016 (standard deviation) then.
WINDOW, MINIMUM = 4096, 300
#: The window moves on by this many samples.
BLOCK = 256
#: At most this many samples a second are looked at, over all workers, and at most this share of a worker's time is spent.
RATE, SHARE = 256.0, 0.005
#: Samples reckoned at once, less where they are large; none waits for longer than a second if another one follows.
CHUNK, _CHUNK_VALUES, _PATIENCE_NS = 32, 1 << 16, 1_000_000_000
#: Classes that are compared one by one; of more, the rarest count together.
_CLASSES = 20

_BLOCKS = WINDOW // BLOCK + 1
_SEEN, _TAKEN, _SPENT, _HEAD = range(4)
_OBSERVATIONS, _STAMP, _BINS = range(3)


class Drift:
    """Counts of the traffic beside the baseline; made before the workers are forked."""

    def __init__(self, release: Release, baseline: Baseline, workers: int) -> None:
        self.layout = _Layout(release, baseline)
        self._workers = workers
        self._cells = SharedCells(workers, _HEAD + _BLOCKS * self.layout.size)
        self._observers: list[Observer] = []

    def row(self, worker: int) -> Observer:
        """Return what counts the samples of one worker, numbered from 0."""
        observer = Observer(self.layout, self._cells.row(worker), RATE / self._workers)
        self._observers.append(observer)
        return observer

    def lines(self) -> list[str]:
        """Return lines of Prometheus' text format."""
        import numpy as np

        for observer in self._observers:
            observer.flush()
        rows = np.stack([np.frombuffer(self._cells.row(worker), np.int64) for worker in range(self._workers)])
        seen, taken, spent = rows[:, :_HEAD].sum(axis=0).tolist()
        blocks = rows[:, _HEAD:].reshape(-1, self.layout.size)
        blocks = blocks[np.argsort(-blocks[:, _STAMP])]
        earlier = np.cumsum(blocks[:, _OBSERVATIONS]) - blocks[:, _OBSERVATIONS]
        return [
            *_metric("drift_seen_total", "counter", "Samples that came by.", [("", seen)]),
            *_metric("drift_sampled_total", "counter", "Samples of those that were looked at.", [("", taken)]),
            *_metric("drift_seconds_total", "counter", "Time spent on looking at them.", [("", spent / 1e9)]),
            *self.layout.lines(blocks[(earlier < WINDOW) & (blocks[:, _OBSERVATIONS] > 0)]),
        ]


def load_drift(release: Release, workers: int) -> Drift | None:
    """Return what watches the traffic of *release*, ``None`` where the release has no baseline.

    :raises StartError: the baseline is damaged or does not fit the release.
    """
    baseline = read_baseline(release)
    return Drift(release, baseline, workers) if baseline else None


class Observer:
    """Looks at some of the samples that a worker's model runs on; for one thread at a time.

    :param rate: samples a second at most.
    """

    def __init__(self, layout: _Layout, row: memoryview, rate: float) -> None:
        import numpy as np

        cells = np.frombuffer(row, np.int64)
        self._head = cells[:_HEAD]
        self._blocks = cells[_HEAD:].reshape(_BLOCKS, layout.size)
        # A worker that follows one which died goes on where the oldest counts are.
        self._at = int(self._blocks[:, _STAMP].argmin())
        self._blocks[self._at] = 0
        self._layout = layout
        self._chunk = max(1, min(CHUNK, _CHUNK_VALUES // layout.values))
        self._shortest = self._pause = int(1e9 / rate)
        self._seen = 0
        self._next = 0
        self._oldest = 0
        self._waiting = 0
        self._parts: list[list[Array]] = []

    def __call__(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Look at a run's samples, or at some of them, or let them pass where enough have been seen of late."""
        self._seen += len(inputs[0])
        now = time.monotonic_ns()
        if now >= self._next:
            self._take(inputs, outputs, now)

    def _take(self, inputs: Sequence[Array], outputs: Sequence[Array], now: int) -> None:
        # What quiet moments left unused may be made up for, up to one chunk.
        self._next = max(self._next, now - self._pause * (self._chunk - 1))
        count = len(inputs[0])
        wanted = min(count, 1 + (now - self._next) // self._pause, self._chunk - self._waiting)
        if not wanted:
            return
        step = count // wanted
        first = random.randrange(count - step * (wanted - 1)) if count > wanted else 0  # noqa: S311 - no secret
        rows = slice(first, first + step * (wanted - 1) + 1, step)
        # Copies: a runtime may write its next answers to the same memory, and a view keeps a whole batch alive.
        self._parts.append([array[rows].copy() for array in (*inputs, *outputs)])
        # Pauses of random length, so that no rhythm of the traffic decides what is seen.
        self._next += int(wanted * self._pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        if not self._waiting:
            self._oldest = now
        self._waiting += wanted
        spent = time.monotonic_ns() - now
        self._head[_SPENT] += spent
        if self._waiting >= self._chunk or now - self._oldest > _PATIENCE_NS:
            try:
                # In the loop's next turn: the answer to these very samples goes out first.
                asyncio.get_running_loop().call_soon(self.flush)
            except RuntimeError:
                self.flush()

    def flush(self) -> None:
        """Count the samples that wait for others to come."""
        import numpy as np

        self._head[_SEEN] += self._seen
        self._seen = 0
        if not self._waiting:
            return
        began = time.monotonic_ns()
        arrays = [np.concatenate(parts) for parts in zip(*self._parts, strict=True)]
        count, self._waiting = self._waiting, 0
        self._parts.clear()
        block = self._blocks[self._at]
        if block[_OBSERVATIONS] >= BLOCK:
            self._at = (self._at + 1) % _BLOCKS
            block = self._blocks[self._at]
            block[:] = 0
        self._layout.count(arrays, block)
        block[_OBSERVATIONS] += count
        block[_STAMP] = now = time.monotonic_ns()
        self._head[_TAKEN] += count
        self._head[_SPENT] += now - began
        self._pause = max(self._shortest, int((now - began) / count / SHARE))


class _Layout:
    """Where a block of cells holds which count, for the baseline of one release.

    A block: observations, time of the last one, the bins of all histograms, and of each column or whole input the values
    outside what the training data held (whole numbers) and sum, least and greatest value (floating point).
    """

    def __init__(self, release: Release, baseline: Baseline) -> None:
        specs = [spec.name for spec in release.signature.inputs]
        self._inputs = [(specs.index(given.name), given, *_limits(given)) for given in baseline.inputs]
        # Without labels the outputs are not scores of classes, whatever the baseline counted of them.
        self._prediction = baseline.prediction if release.signature.class_output is not None else None
        self._output = 0
        self.values = max((math.prod(given.shape) for given in baseline.inputs), default=1)
        self._histograms: list[tuple[str, Histogram]] = []
        for given in baseline.inputs:
            self._histograms += [(_labels(input=given.name, feature=one.name), one) for one in given.features]
        self._bins = sum(len(one.counts) for _unused, one in self._histograms)
        if self._prediction:
            outputs = [spec.name for spec in release.signature.outputs]
            self._output = len(specs) + outputs.index(self._prediction.output)
            self._bins += len(self._prediction.confidence.counts) + len(self._prediction.classes)
        self._statistics = [_labels(input=g.name, feature=f) for g in baseline.inputs for f in _watched(g)]
        #: Values in one sample that count for each of them.
        self._sizes = [math.prod(g.shape) // len(low) for _unused, g, low, _high in self._inputs for _each in low]
        self.size = _BINS + self._bins + 4 * len(self._statistics)

    def count(self, arrays: Sequence[Array], block: Cells) -> None:
        """Add samples to a block: *arrays* are the inputs and outputs of as many samples each."""
        import numpy as np

        at, width = _BINS + self._bins, len(self._statistics)
        outside = block[at : at + width]
        sums, lows, highs = block[at + width :].view(np.float64).reshape(3, width)
        fresh = not block[_OBSERVATIONS]
        bins, offset, at = [], 0, 0
        with np.errstate(all="ignore"):  # Traffic may hold what training data never did: infinities, NaN.
            for index, given, bottom, top in self._inputs:
                x = arrays[index]
                features = embedding(x, given.low) if given.kind == "embedding" else x
                for place, one in enumerate(given.features):
                    bins.append(offset + np.searchsorted(one.edges, features[:, place], side="right"))
                    offset += len(one.counts)
                part = slice(at, at + len(bottom))
                at = part.stop
                columns = x.reshape(-1, len(bottom))
                low, high = columns.min(axis=0), columns.max(axis=0)
                sums[part] += columns.sum(axis=0, dtype=np.float64)
                lows[part] = low if fresh else np.minimum(lows[part], low)
                highs[part] = high if fresh else np.maximum(highs[part], high)
                outside[part] += np.count_nonzero((columns < bottom) | (columns > top), axis=0)
        if self._prediction:
            answers = arrays[self._output]
            edges = self._prediction.confidence.edges
            bins.append(offset + np.searchsorted(edges, answers.max(axis=1), side="right"))
            bins.append(offset + len(edges) + 1 + answers.argmax(axis=1))
        block[_BINS : _BINS + self._bins] += np.bincount(np.concatenate(bins), minlength=self._bins)

    def lines(self, blocks: Cells) -> list[str]:
        """Return the metrics of the samples that *blocks* hold."""
        import numpy as np

        total = int(blocks[:, _OBSERVATIONS].sum())
        what = f"Samples of the traffic that are compared with the training data, the last {WINDOW} or so."
        lines = _metric("drift_observations", "gauge", what, [("", total)])
        if not total:
            return lines
        if total >= MINIMUM:
            lines += self._drift(blocks[:, _BINS : _BINS + self._bins].sum(axis=0).tolist())
        at, width = _BINS + self._bins, len(self._statistics)
        values = total * np.array(self._sizes)
        outside = blocks[:, at : at + width].sum(axis=0) / values
        floats = np.ascontiguousarray(blocks[:, at + width :]).view(np.float64).reshape(-1, 3, width)
        means = floats[:, 0].sum(axis=0) / values
        for name, what, found in (
            ("mean", "Mean of an input's values, of late", means),
            ("minimum", "Least of an input's values, of late", floats[:, 1].min(axis=0)),
            ("maximum", "Greatest of an input's values, of late", floats[:, 2].max(axis=0)),
            ("out_of_range_ratio", "Share of an input's values, of late, outside what the training data held", outside),
        ):
            rows = list(zip(self._statistics, found.tolist(), strict=True))
            lines += _metric(f"input_{name}", "gauge", f"{what} (of each column where it has few).", rows)
        return lines

    def _drift(self, counts: list[int]) -> list[str]:
        rows, offset = [], 0
        for labels, one in self._histograms:
            rows.append((labels, psi(one.counts, counts[offset : offset + len(one.counts)])))
            offset += len(one.counts)
        about = "Population stability index of the traffic against the training data (0.1: some drift, 0.25: much)"
        lines = _metric("drift_psi", "gauge", f"{about}.", rows)
        worst = max(value for labels, value in rows)
        lines += _metric("drift_psi_max", "gauge", f"{about}, the greatest of all.", [("", worst)])
        if self._prediction:
            known = self._prediction.confidence.counts
            sure = psi(known, counts[offset : offset + len(known)])
            classes = psi(*_common(self._prediction.classes, counts[offset + len(known) :]))
            output = self._prediction.output
            rows = [(_labels(output=output, of="class"), classes), (_labels(output=output, of="confidence"), sure)]
            lines += _metric("prediction_psi", "gauge", "The same of the answers against those to test samples.", rows)
        return lines


def psi(known: Sequence[int], found: Sequence[int]) -> float:
    """Return the population stability index of the counts *found* against the counts *known*, at least 0.

    ``sum((q - p) * ln(q / p))`` over the shares *p* known and *q* found (E. M. Lewis, An Introduction to Credit Scoring,
    1994), less what it is on average where nothing has changed, ``(b - 1) * (1 / n + 1 / m)`` for *b* bins in use and *n*
    and *m* samples (B. Yurdakul, J. Naranjo, Statistical properties of the population stability index, 2020): else few
    samples would look like drift. For empty bins, *p* is of counts with one half added to each, and to the counts found
    as many samples are added that are spread as *p* is.
    """
    bins, m, n = len(known), sum(known), sum(found)
    if not m or not n:
        return 0.0
    value = 0.0
    for one, other in zip(known, found, strict=True):
        p = (one + 0.5) / (m + 0.5 * bins)
        q = (other + 0.5 * bins * p) / (n + 0.5 * bins)
        value += (q - p) * math.log(q / p)
    used = sum(1 for one in known if one)
    return max(0.0, value - (used - 1) * (1 / n + 1 / m))


def _common(known: Sequence[int], found: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return both counts for the most frequent classes one by one and the others together."""
    if len(known) <= _CLASSES:
        return list(known), list(found)
    order = sorted(range(len(known)), key=lambda index: -known[index])
    first, others = order[: _CLASSES - 1], order[_CLASSES - 1 :]
    return (
        [*(known[index] for index in first), sum(known[index] for index in others)],
        [*(found[index] for index in first), sum(found[index] for index in others)],
    )


def _watched(given: Input) -> list[str]:
    """Return the names of the parts of an input that have statistics of their own: its columns, or ``""`` for all of it."""
    return [one.name for one in given.features] if given.kind == "columns" else [""]


def _limits(given: Input) -> tuple[list[float], list[float]]:
    """Return the least and the greatest value of the training data for each part that has statistics of its own."""
    if given.kind == "columns":
        return [one.edges[0] for one in given.features], [one.edges[-1] for one in given.features]
    return [given.minimum], [given.maximum]


def _labels(**labels: str) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items() if value) + "}"


def _metric(name: str, kind: str, what: str, rows: Sequence[tuple[str, float]]) -> list[str]:
    lines = [f"# HELP modelship_{name} {what}", f"# TYPE modelship_{name} {kind}"]
    return lines + [f"modelship_{name}{labels} {round(value, 6)}" for labels, value in rows]
