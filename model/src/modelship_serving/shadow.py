# SPDX-License-Identifier: GPL-3.0-or-later
"""A shadow version: it gets a copy of the default version's traffic, and nobody sees its answers; they are compared.

The copies wait in a queue of their own and are run in a thread of the lowest priority. When the shadow falls behind, copies
are dropped and counted; the answers of the default version are given before any of this.
"""

from __future__ import annotations

import bisect
import os
import queue
import random
import threading
import time
import typing as t

from .metrics import SharedCells

if t.TYPE_CHECKING:
    from .logs import Log
    from .model import Model
    from .settings import Settings
    from .tensors import Array

#: Samples that may wait for the shadow, a worker, and the bytes of their inputs and outputs.
MAX_WAITING, MAX_BYTES = 512, 16 << 20
#: Upper bounds of the histograms: greatest absolute difference of a sample's outputs, and seconds of a run.
DIFFERENCES = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.5, 1.0)
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)

_SAMPLES, _DROPPED, _FAILED, _DISAGREED, _DIFFERENCE = range(5)
_RUNS = _DIFFERENCE + len(DIFFERENCES) + 1
_NANOSECONDS = _RUNS + len(SECONDS) + 1
_SIZE = _NANOSECONDS + 1


class ShadowCounts:
    """What is counted of a shadow, by all workers; made before these are forked."""

    def __init__(self, version: str, workers: int) -> None:
        self._label = f'version="{version}"'
        self._cells = SharedCells(workers, _SIZE)

    def row(self, worker: int) -> memoryview:
        """Return the cells of one worker, numbered from 0."""
        return self._cells.row(worker)

    def lines(self) -> list[str]:
        """Return the lines for ``/metrics``."""
        total, label = self._cells.total(), self._label
        lines = []
        for name, index, text in (
            ("samples", _SAMPLES, "Samples that the shadow version was run on."),
            ("dropped", _DROPPED, "Samples that it was not run on because it had fallen behind."),
            ("failed", _FAILED, "Samples that it could not be run on."),
            (
                "disagreements",
                _DISAGREED,
                "Samples whose class was another than that of the default version (of classifiers).",
            ),
        ):
            lines += [
                f"# HELP modelship_shadow_{name}_total {text}",
                f"# TYPE modelship_shadow_{name}_total counter",
                f"modelship_shadow_{name}_total{{{label}}} {total[index]}",
            ]
        lines += [
            "# HELP modelship_shadow_difference Greatest absolute difference of a sample's outputs.",
            "# TYPE modelship_shadow_difference histogram",
            *self._histogram("difference", DIFFERENCES, total[_DIFFERENCE:_RUNS]),
            "# HELP modelship_shadow_seconds Time of a run of the shadow version.",
            "# TYPE modelship_shadow_seconds histogram",
            *self._histogram("seconds", SECONDS, total[_RUNS:_NANOSECONDS]),
            f"modelship_shadow_seconds_sum{{{label}}} {total[_NANOSECONDS] / 1e9}",
        ]
        return lines

    def _histogram(self, name: str, bounds: tuple[float, ...], cells: list[int]) -> list[str]:
        lines, seen = [], 0
        for bound, count in zip((*bounds, "+Inf"), cells, strict=True):
            seen += count
            lines.append(f'modelship_shadow_{name}_bucket{{{self._label},le="{bound}"}} {seen}')
        return [*lines, f"modelship_shadow_{name}_count{{{self._label}}} {seen}"]


class Shadow:
    """Runs the shadow version beside one worker's default; called with the inputs and outputs of the default's runs.

    :param model: the shadow version, loaded for this alone: it is run in a thread.
    """

    def __init__(self, model: Model, cells: memoryview, settings: Settings, log: Log) -> None:
        self._model = model
        self._classes = model.release.signature.class_output
        self._cells = cells
        self._share = settings.shadow_percent / 100
        self._log = log
        # Samples and bytes that came in, and those that are done with. Each side writes its own, so that no lock is needed.
        self._samples = self._bytes = 0
        self._done_samples = self._done_bytes = 0
        self._queue: queue.SimpleQueue[tuple[list[Array], list[Array]]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._chance = random.Random()  # noqa: S311 - which requests are copied is no secret

    def __call__(self, inputs: list[Array], outputs: list[Array]) -> None:
        """Take a copy, if one is due and there is room; called in the event loop, returns at once."""
        if self._share < 1 and self._chance.random() >= self._share:
            return
        count, size = len(inputs[0]), _size(inputs, outputs)
        if (
            self._samples - self._done_samples + count > MAX_WAITING
            or self._bytes - self._done_bytes + size > MAX_BYTES
        ):
            self._cells[_DROPPED] += count
            return
        self._samples += count
        self._bytes += size
        # Copied: they may be a small part of a body, which would be kept with them.
        self._queue.put(([array.copy() for array in inputs], outputs))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        warned = False
        while True:
            inputs, outputs = self._queue.get()
            count = len(inputs[0])
            started = time.perf_counter_ns()
            try:
                answers = self._model.run(inputs)
            except Exception as exc:  # noqa: BLE001 - whatever fails here must not reach anybody's answer
                self._cells[_FAILED] += count
                if not warned:
                    self._log.warning("the shadow version failed", version=self._model.version, error=repr(exc)[:300])
                    warned = True
            else:
                elapsed = time.perf_counter_ns() - started
                self._cells[_RUNS + bisect.bisect_left(SECONDS, elapsed / 1e9)] += 1
                self._cells[_NANOSECONDS] += elapsed
                self._compare(outputs, answers, count)
            self._done_samples += count
            self._done_bytes += _size(inputs, outputs)

    def _compare(self, outputs: list[Array], answers: list[Array], count: int) -> None:
        import numpy as np

        cells = self._cells
        greatest = np.zeros(count)
        differ = np.zeros(count, bool)
        for index, (mine, other) in enumerate(zip(outputs, answers, strict=True)):
            rows, others = mine.reshape(count, -1), other.reshape(count, -1)
            apart = np.abs(rows.astype(np.float64) - others.astype(np.float64)).max(axis=1, initial=0.0)
            # Whatever is no number counts as infinitely far apart.
            greatest = np.maximum(greatest, np.where(np.isnan(apart), np.inf, apart))
            if index == self._classes:
                differ |= rows.argmax(axis=1) != others.argmax(axis=1)
        for place in np.searchsorted(DIFFERENCES, greatest).tolist():
            cells[_DIFFERENCE + place] += 1
        cells[_DISAGREED] += int(differ.sum())
        cells[_SAMPLES] += count


def _size(inputs: list[Array], outputs: list[Array]) -> int:
    return sum(array.nbytes for array in (*inputs, *outputs))
