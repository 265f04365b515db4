# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters in memory shared by all workers, so that any of them answers ``/metrics`` for the whole server.

Each worker adds to a row of its own (no locks); a reader sums the rows. The memory is anonymous: no file is needed.
"""

from __future__ import annotations

import bisect
import mmap
from collections.abc import Callable

#: Labels of ``endpoint``; a request counts by its place in this tuple.
ENDPOINTS = ("predict", "infer", "metadata", "health", "metrics", "explain", "page", "grpc", "other")
PREDICT, INFER, METADATA, HEALTH, METRICS, EXPLAIN, PAGE, GRPC, OTHER = range(len(ENDPOINTS))

#: 499 stands for a client that went away before its answer.
CODES = (200, 304, 400, 401, 403, 404, 405, 408, 413, 414, 415, 417, 429, 431, 499, 500, 501, 503, 504, 505)
_CODE_INDEX = {code: index for index, code in enumerate(CODES)}

#: Upper bounds of the latency histogram, in seconds.
BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_NANOSECONDS = [int(bound * 1e9) for bound in BUCKETS]

#: Why a request was not answered as asked; what is not in the tuple counts as the last.
REASONS = (
    "malformed",  # 400, 414, 417, 431, 501, 505: not a request that HTTP or the protocol defines
    "invalid",  # 400: does not fit the signature (errors.InvalidInputError)
    "not_found",
    "method",
    "media_type",
    "too_large",
    "unauthenticated",
    "forbidden",
    "rate_limited",
    "timeout",  # 408: did not arrive in time
    "client_left",
    "connections",  # 503: too many are open
    "bodies",  # 503: too many large ones are being read
    "queue_full",
    "draining",
    "deadline",
    "internal",
    "other",
)
_REASON_INDEX = {reason: index for index, reason in enumerate(REASONS)}

#: Upper bounds of the batch size histogram, in samples.
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)

_IN_FLIGHT, _READY, _CONNECTIONS, _BEATS, _REQUESTS = range(5)
_LATENCY = _REQUESTS + len(ENDPOINTS) * len(CODES)
_SPAN = len(BUCKETS) + 2  # buckets, the one above them all, and the sum in nanoseconds
_REJECTED = _LATENCY + len(ENDPOINTS) * _SPAN
_BATCH = _REJECTED + len(REASONS)
_BATCH_SPAN = len(BATCHES) + 2
_QUEUE = _BATCH + _BATCH_SPAN
_ROW = _QUEUE + _SPAN


class SharedCells:
    """Whole numbers of 64 bits shared by all workers: a row for each. To be made before the workers are forked."""

    def __init__(self, workers: int, size: int) -> None:
        self._size = size
        self._all = memoryview(mmap.mmap(-1, max(1, workers * size * 8))).cast("q")

    def row(self, worker: int) -> memoryview:
        """Return the cells of one worker, numbered from 0; only that worker writes to them."""
        return self._all[worker * self._size : (worker + 1) * self._size]

    def total(self) -> list[int]:
        """Return each cell's sum over the workers."""
        return [sum(self._all[index :: self._size]) for index in range(self._size)]


class Counters:
    """Counts of all workers; made before the workers are forked."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._cells = SharedCells(workers, _ROW)
        #: Further lines of text for ``/metrics``, asked at each scrape.
        self.extra: list[Callable[[], list[str]]] = []

    def row(self, worker: int) -> Row:
        """Return the row of one worker, numbered from 0."""
        return Row(self._cells.row(worker))

    def text(self, name: str, digest: str, model_format: str) -> bytes:
        """Return Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
        totals = self._cells.total()
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
            cells = totals[start : start + _SPAN]
            lines += _histogram("modelship_request_seconds", BUCKETS, cells, 1e9, f'endpoint="{label}"')
        lines += [
            "# HELP modelship_rejected_total Requests that were not answered as asked, by reason.",
            "# TYPE modelship_rejected_total counter",
        ]
        for index, reason in enumerate(REASONS):
            lines.append(f'modelship_rejected_total{{reason="{reason}"}} {totals[_REJECTED + index]}')
        lines += [
            "# HELP modelship_batch_size Samples that the model ran at once.",
            "# TYPE modelship_batch_size histogram",
            *_histogram("modelship_batch_size", BATCHES, totals[_BATCH : _BATCH + _BATCH_SPAN], 1),
            "# HELP modelship_queue_seconds Time that requests waited for the model.",
            "# TYPE modelship_queue_seconds histogram",
            *_histogram("modelship_queue_seconds", BUCKETS, totals[_QUEUE : _QUEUE + _SPAN], 1e9),
        ]
        lines += [
            "# HELP modelship_in_flight Requests being handled now, this one left out.",
            "# TYPE modelship_in_flight gauge",
            f"modelship_in_flight {max(0, totals[_IN_FLIGHT] - 1)}",
            "# HELP modelship_connections Open connections.",
            "# TYPE modelship_connections gauge",
            f"modelship_connections {totals[_CONNECTIONS]}",
            "# HELP modelship_workers Processes that share the port.",
            "# TYPE modelship_workers gauge",
            f"modelship_workers {self._workers}",
            "# HELP modelship_release_info The release that is served.",
            "# TYPE modelship_release_info gauge",
            f'modelship_release_info{{name="{name}",digest="{digest}",format="{model_format}"}} 1',
        ]
        for more in self.extra:
            lines += more()
        return ("\n".join(lines) + "\n").encode()


def _histogram(name: str, bounds: tuple[float, ...], cells: list[int], unit: float, label: str = "") -> list[str]:
    """Lines of a histogram of its cells: one for each bound, the one above them all, and the sum."""
    lines, seen = [], 0
    front, labels = (f"{label},", f"{{{label}}}") if label else ("", "")
    for bound, value in zip((*bounds, "+Inf"), cells, strict=False):
        seen += value
        lines.append(f'{name}_bucket{{{front}le="{bound}"}} {seen}')
    return [*lines, f"{name}_sum{labels} {cells[-1] / unit:.12g}", f"{name}_count{labels} {seen}"]


class Row:
    """The counts of one worker."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells

    def reset(self) -> None:
        """Begin a worker's life: its predecessor's totals stay, what that one had in flight is gone."""
        self._cells[_IN_FLIGHT] = self._cells[_READY] = self._cells[_CONNECTIONS] = 0

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

    @property
    def beats(self) -> int:
        """What grows as long as the worker's event loop turns."""
        return int(self._cells[_BEATS])

    def beat(self) -> None:
        """Say that the worker's event loop turns; to be called about every second."""
        self._cells[_BEATS] += 1

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

    def connections(self, change: int) -> None:
        """Count connections that were opened (1) or closed (-1)."""
        self._cells[_CONNECTIONS] += change

    def rejected(self, reason: str) -> None:
        """Count a request that is not answered as asked, by one of :data:`REASONS`.

        Statuses other than 503 and 504 are counted by the application; whoever raises one of those two counts it here,
        as only they know the reason.
        """
        self._cells[_REJECTED + _REASON_INDEX.get(reason, len(REASONS) - 1)] += 1

    def batch(self, size: int, queue_ns: int) -> None:
        """Count one run of the model: *size* samples, the first of which waited *queue_ns* nanoseconds."""
        cells = self._cells
        cells[_BATCH + bisect.bisect_left(BATCHES, size)] += 1
        cells[_BATCH + _BATCH_SPAN - 1] += size
        cells[_QUEUE + bisect.bisect_left(_NANOSECONDS, queue_ns)] += 1
        cells[_QUEUE + _SPAN - 1] += queue_ns
