# SPDX-License-Identifier: GPL-3.0-or-later
"""The loaded model: fields to check requests with, and ways to run it that keep the event loop answering."""

from __future__ import annotations

import asyncio
import os
import time
import typing as t
from collections.abc import Awaitable, Callable, Generator

import numpy as np

from .backends import load_backend
from .batching import INLINE_SECONDS, Meter, Plan, Queue
from .budget import Budget
from .errors import InvalidInputError, RequestError, StartError
from .logs import Log, captured_stderr
from .release import Release
from .tensors import Array, Field, v2_datatype

if t.TYPE_CHECKING:
    from .settings import Settings

#: Putting requests together pays where it saves each of them more than this: what queueing and slicing cost a request.
_QUEUE_SECONDS = 50e-6
#: From this time of a run on, those within one turn of the event loop are limited together to INLINE_SECONDS: whatever else
#: came in meanwhile waits in the queue, which is bounded, and not in the loop, which is not.
_COUNTED_SECONDS = 100e-6
#: Batches are measured with runs of about this long at most: a start must not wait for them.
_MEASURE_SECONDS = 0.05
_BATCHES = (8, 32)


class _Turn(Awaitable[list[Array]]):
    """A place in the queue, given up with this object: a task that is cancelled before its first step cancels nothing."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[list[Array]]) -> None:
        self._future = future

    def __await__(self) -> Generator[t.Any, None, list[Array]]:
        return (yield from self._future.__await__())

    def __del__(self) -> None:
        self._future.cancel()


Observer = Callable[[list[Array], list[Array]], None]


class Model:
    """A release loaded, warmed up and measured.

    :param settings: how many workers share the machine's cores, and the limits of queue and batches.
    :param meter: counts batches and refusals.
    :param budget: of the worker, for what waits; its own where there is none.
    :raises StartError: the model cannot be loaded or does not fit its signature.
    """

    def __init__(
        self, release: Release, settings: Settings, meter: Meter, log: Log, budget: Budget | None = None
    ) -> None:
        self.release = release
        self.version = release.version
        self.fields = [Field(spec) for spec in release.signature.inputs]
        self.output_datatypes = [v2_datatype(spec.dtype) for spec in release.signature.outputs]
        #: Called in the event loop with the inputs and outputs of each run.
        self.observers: list[Observer] = []
        self._meter = meter
        self._log = log
        with captured_stderr(log):
            # One thread's time on a processor: what else the machine is doing must not count.
            self._clock = time.thread_time
            self._backend = load_backend(release, threads=1)
            self.seconds = self._measure(1, 3)
            cores = max(1, len(os.sched_getaffinity(0)) // settings.workers)
            if self.seconds > INLINE_SECONDS and cores > 1:
                # Only a model with enough work to share gains from more threads.
                self._clock = time.perf_counter
                self._backend = load_backend(release, threads=cores)
                self.seconds = self._measure(1, 3)
            if self._backend.batches and not self._batches_rightly():
                self._backend.batches = False
                log.info("samples are run one by one: in a batch their outputs would be others", release=release.digest)
            self.plan = self._plan(settings.max_batch, settings.batch_delay_ms / 1000)
        self.budget = budget or Budget(settings.most_held, meter.rejected)
        self._queue = Queue(self.run, self._observe, self.plan, settings.max_queue, meter, self.budget)
        self._spent = 0.0
        self._counted = self.plan.single >= _COUNTED_SECONDS
        plan = self.plan
        #: Samples that are run at once.
        self._inline = 0
        if plan.max_batch == 1 and plan.single <= INLINE_SECONDS:
            self._inline = int((INLINE_SECONDS - plan.single) / plan.sample) + 1

    # --- warm-up ---------------------------------------------------------------------------------------------------

    def _samples(self, count: int) -> list[Array]:
        """Inputs within the ranges of the signature, each sample another."""
        samples = []
        for spec, field in zip(self.release.signature.inputs, self.fields, strict=True):
            low, high = spec.range or (0, 1)
            steps = np.linspace(low, high, count * max(1, field.size))
            samples.append(steps.astype(field.dtype).reshape(count, *field.shape))
        return samples

    def _measure(self, count: int, runs: int) -> float:
        """Run on *count* samples and check what comes out; return the least seconds of a run."""
        samples = self._samples(count)
        best = float("inf")
        began = time.perf_counter()
        for run in range(runs):
            if run and time.perf_counter() - began > 2 * _MEASURE_SECONDS:
                break
            started = self._clock()
            outputs = self._backend.run(samples)
            best = min(best, max(1e-7, self._clock() - started))
        self._check_outputs(outputs, count)
        self._seen = outputs
        return best

    def gives_probabilities(self, output: int) -> bool:
        """Return whether what this output gave in the warm-up are probabilities, not logits or other scores."""
        rows = self._seen[output].reshape(len(self._seen[output]), -1).astype(np.float64)
        return bool((rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1) < 0.05 + 0.005 * rows.shape[1]).all())

    def _batches_rightly(self) -> bool:
        """Return whether two samples run together give what they give alone, as an answer must not depend on others.

        Not so where a batch of one is built into the model, or where values are scaled by those of the whole batch.
        """
        samples = self._samples(2)
        try:
            together = self._backend.run(samples)
            for i in range(2):
                alone = self._backend.run([array[i : i + 1] for array in samples])
                for whole, one in zip(together, alone, strict=True):
                    scale = float(np.abs(one.astype(np.float64)).max(initial=0.0))
                    if len(whole) != 2 or not np.allclose(
                        whole[i : i + 1], one, rtol=1e-3, atol=1e-3 * scale, equal_nan=True
                    ):
                        return False
        except Exception:  # noqa: BLE001 - native runtimes raise many types
            return False
        return True

    def _check_outputs(self, outputs: list[Array], count: int) -> None:
        for spec, array in zip(self.release.signature.outputs, outputs, strict=True):
            axes = (count, *spec.shape[1:])
            fits = len(axes) == array.ndim and all(w in (-1, g) for w, g in zip(axes, array.shape, strict=True))
            if array.dtype.name != spec.dtype or not fits:
                raise StartError(
                    f"output '{spec.name}' of {self.release.model_path} is {array.dtype.name} {list(array.shape)} for a "
                    f"batch of {count}, the signature says {spec.dtype} {list(spec.shape)}"
                )

    def _plan(self, max_batch: int, delay: float) -> Plan:
        """Measure whether batches pay, and how large ones; *max_batch* other than 0 decides without measuring.

        They do where a run of 8 takes so much less than 8 runs that each request gains more than the queue costs it.
        """
        single = self.seconds
        if max_batch:
            size = max_batch if self._backend.batches else 1
            return Plan(single, self._measure(size, 1) / size if size > 1 else single, size, delay)
        best, sample = 1, single
        for size in _BATCHES:
            if not self._backend.batches or size * sample > 4 * _MEASURE_SECONDS:
                break
            runs = 3 if size * sample <= _MEASURE_SECONDS else 1
            found = self._measure(size, 1 + runs) / size
            # The larger batch only where it is clearly better still: it makes the first of its requests wait longer.
            if found + _QUEUE_SECONDS > sample or found > 0.8 * sample:
                sample = min(sample, found) if best == 1 else sample
                break
            best, sample = size, found
        return Plan(single, sample, best, delay if best > 1 else 0.0)

    # --- running ---------------------------------------------------------------------------------------------------

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run the model here and now, whatever else runs: not for use beside :meth:`infer` from another thread.

        :raises InvalidInputError: the model cannot run on these values although they fit the signature.
        """
        try:
            return self._backend.run(inputs)
        except Exception as exc:
            if not self._backend.at_fault(exc):
                raise
            reason = (str(exc).splitlines() or [""])[0][:300]
            self._log.warning("the model refused its input", release=self.release.digest, error=reason)
            names = ", ".join(field.name for field in self.fields)
            raise InvalidInputError(f"{names}: the model cannot run on these values") from None

    def infer_now(self, inputs: list[Array], count: int) -> list[Array] | None:
        """Run the model at once where that takes less than handing the work over would, else return ``None``.

        :param inputs: arrays in the order of the signature's inputs, each of *count* samples.
        :returns: arrays in the order of its outputs.
        """
        if count > self._inline or not self._queue.idle:
            return None
        if self._counted:
            if self._spent >= INLINE_SECONDS:
                return None
            if self._spent == 0:
                asyncio.get_running_loop().call_soon(self._renew)
            self._spent += self.plan.seconds(count)
        self._meter.batch(count, 0)
        outputs = self.run(inputs)
        if self.observers:
            self._observe(inputs, outputs)
        return outputs

    def _renew(self) -> None:
        """Begin another turn of the event loop."""
        self._spent = 0.0

    def submit(
        self,
        inputs: list[Array],
        count: int,
        deadline: float | None = None,
        request_id: str = "",
        quiet: bool = False,
    ) -> Awaitable[list[Array]]:
        """Have the model run on *count* samples in the turn of this request; what there is no room for is refused at once.

        Whoever drops what is returned does not want it any more.

        :param deadline: ``time.monotonic()`` after which the answer is not wanted any more.
        :param request_id: for the log.
        :param quiet: these are no client's inputs (an explanation's): the observers are not to see them.
        :raises RequestError: 503 the queue is full; out of the future: 504 the deadline is over, 400 the model cannot run
            on the values.
        """
        try:
            return _Turn(self._queue.submit(inputs, count, deadline, quiet))
        except RequestError as exc:
            if self._log.debugging:
                self._log.debug("not run", request_id=request_id, reason=exc.message)
            raise

    async def infer(
        self,
        inputs: list[Array],
        count: int,
        deadline: float | None = None,
        request_id: str = "",
        quiet: bool = False,
    ) -> list[Array]:
        """Run the model at once or in the turn of this request; see :meth:`submit`."""
        outputs = None if quiet else self.infer_now(inputs, count)
        return outputs if outputs is not None else await self.submit(inputs, count, deadline, request_id, quiet)

    def _observe(self, inputs: list[Array], outputs: list[Array]) -> None:
        for observer in self.observers:
            try:
                observer(inputs, outputs)
            except Exception as exc:  # noqa: BLE001 - who looks on must not break the answer
                self.observers.remove(observer)
                self._log.error("an observer failed and is left out from now on", error=repr(exc))
                break
