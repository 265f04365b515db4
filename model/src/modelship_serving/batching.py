# SPDX-License-Identifier: GPL-3.0-or-later
"""The queue in front of a model that does not answer at once: bounded, fair, in batches where they pay, with deadlines.

One run at a time. Requests wait in the order of their arrival; a request too large for one run takes its turns with the
others, a slice at a time, so that it holds nobody up. What expired or whose client left is never run.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import functools
import math
import time
import typing as t
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from .budget import Budget
from .errors import RequestError
from .tensors import Array

#: Work up to this long runs inside the event loop: handing it to a thread and back costs more than it frees.
INLINE_SECONDS = 0.005
#: Work in a thread is cut in slices of about this long, so that others have their turn.
SLICE_SECONDS = 0.02


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a model is best run, as measured when it was warmed up.

    :param single: seconds of a run of one sample.
    :param sample: seconds a sample costs in a large run.
    :param max_batch: samples of several requests that are run together; 1: requests are not put together.
    :param delay: seconds that a request waits for others to join it; 0: only those that wait already do.
    """

    single: float
    sample: float
    max_batch: int = 1
    delay: float = 0.0

    def seconds(self, count: int) -> float:
        """Estimate a run of *count* samples."""
        return self.single + (count - 1) * self.sample

    @property
    def slice(self) -> int:
        """Samples of one request that are run at a time."""
        budget = INLINE_SECONDS if self.single <= INLINE_SECONDS else SLICE_SECONDS
        return max(1, self.max_batch, int((budget - self.single) / self.sample) + 1 if self.single < budget else 1)


class Meter(t.Protocol):
    """Where batches and refusals are counted (:class:`modelship_serving.metrics.Row`)."""

    def batch(self, size: int, queue_ns: int) -> None:
        """Count a run of *size* samples, the oldest of which waited *queue_ns*."""

    def rejected(self, reason: str) -> None:
        """Count a request that was refused."""


class _Waiting:
    """A request in the queue; *done* of its *count* samples have been run or are being run; *size* bytes are held for it."""

    __slots__ = ("count", "deadline", "done", "future", "inputs", "parts", "quiet", "since", "size")

    def __init__(
        self,
        inputs: list[Array],
        count: int,
        deadline: float | None,
        future: asyncio.Future[list[Array]],
        size: int,
        quiet: bool = False,
    ) -> None:
        self.quiet = quiet
        self.inputs = inputs
        self.count = count
        self.deadline = deadline
        self.future = future
        self.size = size
        self.done = 0
        self.parts: list[list[Array]] = []
        self.since = time.monotonic()


class _Piece(t.NamedTuple):
    """The samples from *start* to *stop* of a request, part of one run."""

    item: _Waiting
    start: int
    stop: int
    inputs: list[Array]


class Queue:
    """The queue of one model in one worker; used in the event loop only.

    :param run: runs the model on arrays with the batch axis first; called in the loop or in one thread.
    :param observe: called in the loop with the inputs and outputs of each run.
    :param max_waiting: requests that may wait; more are refused.
    :param budget: bytes that may wait, in this queue and others.
    """

    def __init__(
        self,
        run: Callable[[list[Array]], list[Array]],
        observe: Callable[[list[Array], list[Array]], None],
        plan: Plan,
        max_waiting: int,
        meter: Meter,
        budget: Budget,
    ) -> None:
        self._run = run
        self._observe = observe
        self._plan = plan
        self._max_waiting = max_waiting
        self._meter = meter
        self._budget = budget
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._running = False
        self._purged = 0.0
        self._turn_at: asyncio.Handle | None = None
        self._sweep_at: asyncio.TimerHandle | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not (self._waiting or self._running)

    def submit(
        self, inputs: list[Array], count: int, deadline: float | None, quiet: bool = False
    ) -> asyncio.Future[list[Array]]:
        """Queue a request; the future gives its outputs. Cancel it when the client is gone.

        :param deadline: ``time.monotonic()`` after which nobody waits for the answer.
        :param quiet: not to be observed; it is run apart from others.
        :raises RequestError: 503, too many or too much waits already; 504, the deadline is over (also out of the future).
        """
        if deadline is not None and deadline <= time.monotonic():
            raise self._expired()
        size = sum(array.nbytes for array in inputs)
        if len(self._waiting) >= self._max_waiting or not self._budget.has_room(size):
            self._purge()
        if len(self._waiting) >= self._max_waiting:
            self._meter.rejected("queue_full")
            raise RequestError(
                503,
                f"overloaded: {len(self._waiting)} requests are waiting, the most that may; try again later",
                ("retry-after", str(self._seconds_to_go())),
            )
        if not self._budget.has_room(size):
            raise self._budget.refusal(self._seconds_to_go())
        loop = asyncio.get_running_loop()
        item = _Waiting(inputs, count, deadline, loop.create_future(), size, quiet)
        self._budget.held += size
        self._waiting.append(item)
        if deadline is not None and (self._sweep_at is None or deadline < self._sweep_at.when()):
            self._sweep_later(deadline)
        self._schedule()
        return item.future

    def _seconds_to_go(self) -> int:
        samples = sum(item.count - item.done for item in self._waiting)
        return max(1, min(60, math.ceil(samples * self._plan.sample)))

    def _expired(self) -> RequestError:
        self._meter.rejected("deadline")
        return RequestError(504, "deadline: it was over before the model had its turn; nothing was run")

    # --- who waits -------------------------------------------------------------------------------------------------

    def _sweep_later(self, deadline: float) -> None:
        if self._sweep_at is not None:
            self._sweep_at.cancel()
        self._sweep_at = asyncio.get_running_loop().call_at(deadline, self._sweep)

    def _sweep(self) -> None:
        """Answer those whose deadline is over; they must not wait for their turn to be told."""
        self._sweep_at = None
        now = time.monotonic()
        self._waiting = collections.deque(item for item in self._waiting if self._wanted(item, now))
        if deadlines := [item.deadline for item in self._waiting if item.deadline is not None]:
            self._sweep_later(min(deadlines))

    def _purge(self) -> None:
        """Make room by leaving out whose client left; seldom enough to cost next to nothing."""
        now = time.monotonic()
        if now - self._purged > 2e-6 * len(self._waiting):
            self._purged = now
            self._waiting = collections.deque(item for item in self._waiting if self._wanted(item, now))

    def _wanted(self, item: _Waiting, now: float) -> bool:
        """Return whether somebody still waits for *item*; let it go where nobody does."""
        if not item.future.done():
            if item.deadline is None or item.deadline > now:
                return True
            item.future.set_exception(self._expired())
        # Otherwise it was cancelled: the client left.
        self._let_go(item)
        return False

    def _let_go(self, item: _Waiting) -> None:
        """The inputs of *item* are not needed any more, but by the piece of it that may be running."""
        self._budget.held -= item.size
        item.size, item.inputs = 0, []

    # --- whose turn it is ------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if self._running or not self._waiting:
            return
        full = not self._plan.delay or sum(item.count for item in self._waiting) >= self._plan.max_batch
        if self._turn_at is not None:
            if not full or not isinstance(self._turn_at, asyncio.TimerHandle):
                return
            self._turn_at.cancel()
        loop = asyncio.get_running_loop()
        # Even without a delay the next turn of the loop: what arrived with this request joins it.
        self._turn_at = loop.call_soon(self._turn) if full else loop.call_later(self._plan.delay, self._turn)

    def _gather(self) -> list[_Piece]:
        """Take what is to be run next: of several requests up to the batch, or a slice of one."""
        pieces: list[_Piece] = []
        unfinished: list[_Waiting] = []
        now = time.monotonic()
        space = self._plan.slice
        while self._waiting and space > 0:
            item = self._waiting[0]
            if not self._wanted(item, now):
                self._waiting.popleft()
                continue
            if pieces:
                if self._plan.max_batch == 1 or item.quiet or pieces[0].item.quiet:
                    break
                space = min(space, self._plan.max_batch - sum(piece.stop - piece.start for piece in pieces))
                if space <= 0:
                    break
            self._waiting.popleft()
            start = item.done
            stop = item.done = min(item.count, start + space)
            inputs = item.inputs if stop - start == item.count else [array[start:stop] for array in item.inputs]
            pieces.append(_Piece(item, start, stop, inputs))
            space -= item.done - start
            if item.done < item.count:
                unfinished.append(item)
        self._waiting.extend(unfinished)
        return pieces

    def _turn(self) -> None:
        self._turn_at = None
        pieces = self._gather()
        if not pieces:
            self._schedule()
            return
        size = sum(piece.stop - piece.start for piece in pieces)
        oldest = min(piece.item.since for piece in pieces)
        self._meter.batch(size, int((time.monotonic() - oldest) * 1e9))
        if self._plan.seconds(size) <= INLINE_SECONDS:
            self._give(pieces, self._compute(pieces))
            self._schedule()
            return
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "model")
        self._running = True
        run = asyncio.get_running_loop().run_in_executor(self._thread, self._compute, pieces)
        run.add_done_callback(functools.partial(self._finish, pieces))

    def _finish(self, pieces: list[_Piece], run: asyncio.Future[list[_Result]]) -> None:
        self._running = False
        if not run.cancelled():
            self._give(pieces, run.result())
        self._schedule()

    def _compute(self, pieces: list[_Piece]) -> list[_Result]:
        """Run the pieces together; where that fails, each alone, so that only the one at fault fails."""
        try:
            if len(pieces) == 1:
                inputs = pieces[0].inputs
                return [(inputs, self._run(inputs))]
            columns = zip(*(piece.inputs for piece in pieces), strict=True)
            inputs = [np.concatenate(arrays) for arrays in columns]
            return [(inputs, self._run(inputs))]
        except Exception as exc:  # noqa: BLE001 - whatever it is, it goes to who asked
            if len(pieces) == 1:
                return [exc]
            return [result for piece in pieces for result in self._compute([piece])]

    def _give(self, pieces: list[_Piece], results: list[_Result]) -> None:
        """Hand each request its samples' outputs."""
        if len(results) == 1 and len(pieces) > 1:
            _inputs, outputs = t.cast("tuple[list[Array], list[Array]]", results[0])
            at = 0
            for piece in pieces:
                end = at + piece.stop - piece.start
                self._deliver(piece, [array[at:end] for array in outputs])
                at = end
        else:
            for piece, result in zip(pieces, results, strict=True):
                self._deliver(piece, result if isinstance(result, Exception) else result[1])
        for piece in pieces:
            if piece.stop == piece.item.count:
                self._let_go(piece.item)
        if pieces[0].item.quiet:
            return
        for result in results:
            if not isinstance(result, Exception):
                self._observe(*result)

    def _deliver(self, piece: _Piece, result: list[Array] | Exception) -> None:
        item = piece.item
        if item.future.done():
            return
        if isinstance(result, Exception):
            item.future.set_exception(result)
        elif piece.stop - piece.start == item.count:
            item.future.set_result(result)
        else:
            item.parts.append(result)
            if piece.stop == item.count:
                item.future.set_result([np.concatenate(arrays) for arrays in zip(*item.parts, strict=True)])


#: What one run gives: its inputs and outputs, or what went wrong.
_Result = tuple[list[Array], list[Array]] | Exception
