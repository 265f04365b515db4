# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters in memory shared by all workers, so that any of them answers ``/metrics`` for the whole server.

Each worker adds to a row of its own (no locks); a reader sums the rows. The memory is anonymous: no file is needed.
"""

from __future__ import annotations

import bisect
import mmap

#: Labels of ``endpoint``; a request counts by its place in this tuple.
ENDPOINTS = ("predict", "infer", "metadata", "health", "metrics", "other")
PREDICT, INFER, METADATA, HEALTH, METRICS, OTHER = range(len(ENDPOINTS))

#: 499 stands for a client that went away before its answer.
CODES = (200, 400, 404, 405, 413, 415, 422, 499, 500, 503)
_CODE_INDEX = {code: index for index, code in enumerate(CODES)}

#: Upper bounds of the latency histogram, in seconds.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NANOSECONDS = [int(bound * 1e9) for bound in BUCKETS]

_IN_FLIGHT, _READY, _REQUESTS = 0, 1, 2
_LATENCY = _REQUESTS + len(ENDPOINTS) * len(CODES)
_SPAN = len(BUCKETS) + 2  # buckets, the one above them all, and the sum in nanoseconds
_ROW = _LATENCY + len(ENDPOINTS) * _SPAN


class Counters:
    """Counts of all workers; made before the workers are forked."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._all = memoryview(mmap.mmap(-1, workers * _ROW * 8)).cast("Q")

    def row(self, worker: int) -> Row:
        """Return the row of one worker, numbered from 0."""
        return Row(self._all[worker * _ROW : (worker + 1) * _ROW])

    def text(self, name: str, digest: str, model_format: str) -> bytes:
        """Return Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
        totals = [sum(self._all[index::_ROW]) for index in range(_ROW)]
        lines = [
            "# HELP modelship_requests_total Requests answered, by endpoint and HTTP status (499: the client left).",
            "# TYPE modelship_requests_total counter",
        ]
        for endpoint, label in enumerate(ENDPOINTS):
            for code, status in enumerate(CODES):
                if value := totals[_REQUESTS + endpoint * len(CODES) + code]:
                    lines.append(f'modelship_requests_total{{endpoint="{label}",code="{status}"}} {value}')
        lines += [
            "# HELP modelship_request_seconds Time from a request's first handling to its answer.",
            "# TYPE modelship_request_seconds histogram",
        ]
        for endpoint, label in enumerate(ENDPOINTS):
            start = _LATENCY + endpoint * _SPAN
            seen = 0
            for bound, value in zip((*BUCKETS, "+Inf"), totals[start : start + _SPAN - 1], strict=True):
                seen += value
                lines.append(f'modelship_request_seconds_bucket{{endpoint="{label}",le="{bound}"}} {seen}')
            lines.append(f'modelship_request_seconds_sum{{endpoint="{label}"}} {totals[start + _SPAN - 1] / 1e9}')
            lines.append(f'modelship_request_seconds_count{{endpoint="{label}"}} {seen}')
        lines += [
            "# HELP modelship_in_flight Requests being handled now, this one left out.",
            "# TYPE modelship_in_flight gauge",
            f"modelship_in_flight {max(0, totals[_IN_FLIGHT] - 1)}",
            "# HELP modelship_workers Processes that share the port.",
            "# TYPE modelship_workers gauge",
            f"modelship_workers {self._workers}",
            "# HELP modelship_release_info The release that is served.",
            "# TYPE modelship_release_info gauge",
            f'modelship_release_info{{name="{name}",digest="{digest}",format="{model_format}"}} 1',
        ]
        return ("\n".join(lines) + "\n").encode()


class Row:
    """The counts of one worker."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    def reset(self) -> None:
        """Begin a worker's life: its predecessor's totals stay, what that one had in flight is gone."""
        self._cells[_IN_FLIGHT] = self._cells[_READY] = 0

    @property
    def ready(self) -> bool:
        """Whether the worker got as far as answering requests."""
        return bool(self._cells[_READY])

    def set_ready(self) -> None:
        """Say that the worker answers requests now."""
        self._cells[_READY] = 1

    @property
    def in_flight(self) -> int:
        """Requests that this worker handles now."""
        return int(self._cells[_IN_FLIGHT])

    def begin(self) -> None:
        """Count a request in."""
        self._cells[_IN_FLIGHT] += 1

    def end(self, endpoint: int, status: int, nanoseconds: int) -> None:
        """Count a request out; a *status* outside :data:`CODES` counts as 500."""
        cells = self._cells
        cells[_IN_FLIGHT] -= 1
        cells[_REQUESTS + endpoint * len(CODES) + _CODE_INDEX.get(status, _CODE_INDEX[500])] += 1
        start = _LATENCY + endpoint * _SPAN
        cells[start + bisect.bisect_left(_NANOSECONDS, nanoseconds)] += 1
        cells[start + _SPAN - 1] += nanoseconds
