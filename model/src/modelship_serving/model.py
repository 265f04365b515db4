# SPDX-License-Identifier: GPL-3.0-or-later
"""The loaded model: fields to check requests with, and a way to run it that keeps the event loop answering."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import time

import numpy as np

from .backends import load_backend
from .errors import StartError
from .logs import Log, captured_stderr
from .release import Release
from .tensors import Array, Field, v2_datatype

#: Work up to this long runs inside the event loop: handing it to a thread and back costs more than it frees.
INLINE_SECONDS = 0.005


class Model:
    """A release loaded, warmed up and measured.

    :param workers: processes that share the machine's cores, each with a model of its own.
    :raises StartError: the model cannot be loaded or does not fit its signature.
    """

    def __init__(self, release: Release, workers: int, log: Log) -> None:
        self.release = release
        self.fields = [Field(spec) for spec in release.signature.inputs]
        self.output_datatypes = [v2_datatype(spec.dtype) for spec in release.signature.outputs]
        with captured_stderr(log):
            self._backend = load_backend(release, threads=1)
            self.seconds = self._warm_up()
            cores = max(1, len(os.sched_getaffinity(0)) // workers)
            if self.seconds > INLINE_SECONDS and cores > 1:
                # Only a model with enough work to share gains from more threads.
                self._backend = load_backend(release, threads=cores)
                self.seconds = self._warm_up()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "model") if self._backend.concurrent else None
        self._queued = 0

    def _warm_up(self) -> float:
        """Run a few times on a sample of the lowest allowed value; return the least seconds of one run."""
        samples = []
        for spec, field in zip(self.release.signature.inputs, self.fields, strict=True):
            low = spec.range[0] if spec.range else 0
            samples.append(np.full((1, *field.shape), low, field.dtype))
        best = float("inf")
        for _unused in range(3):
            started = time.perf_counter()
            outputs = self._backend.run(samples)
            best = min(best, time.perf_counter() - started)
        self.check_outputs(outputs)
        return best

    def check_outputs(self, outputs: list[Array]) -> None:
        """Compare one run's outputs with the signature.

        :raises StartError: another dtype, or another shape behind the batch axis.
        """
        for spec, array in zip(self.release.signature.outputs, outputs, strict=True):
            axes = tuple(spec.shape)
            fits = len(axes) == array.ndim and all(w in (-1, g) for w, g in zip(axes, array.shape, strict=True))
            if array.dtype.name != spec.dtype or not fits:
                raise StartError(
                    f"output '{spec.name}' of {self.release.model_path} is {array.dtype.name} {list(array.shape)}, "
                    f"the signature says {spec.dtype} {list(spec.shape)}"
                )

    async def infer(self, inputs: list[Array], count: int) -> list[Array]:
        """Run the model on *count* samples: arrays in the order of the signature's inputs, to arrays in that of its outputs."""
        backend = self._backend
        if self._queued == 0 and count * self.seconds <= INLINE_SECONDS:
            return backend.run(inputs)
        if self._thread is not None:
            self._queued += 1
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, backend.run, inputs)
            finally:
                self._queued -= 1
        # The runtime holds the interpreter lock: let others have their turn between slices.
        step = max(1, int(INLINE_SECONDS / self.seconds))
        parts = []
        for start in range(0, count, step):
            parts.append(backend.run([array[start : start + step] for array in inputs]))
            await asyncio.sleep(0)
        return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
