# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The events of one run: JSON lines for the orchestration side (docs/formats.md, "Model CLI")."""

from __future__ import annotations

import json
import math
import os
import sys
import time
import typing as t


class Events:
    """Writes events to *stream*, one JSON object a line, flushed at once."""

    def __init__(self, stream: t.TextIO) -> None:
        self._stream = stream

    @classmethod
    def on_stdout(cls) -> Events:
        """Take stdout for the events and send all that anything else prints there to stderr.

        Done on the file descriptor, since TensorFlow's native code prints without asking Python.
        """
        sys.stdout.flush()
        stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        return cls(stream)

    def write(self, event: dict[str, t.Any]) -> None:
        """Write one event as it is."""
        self._stream.write(json.dumps(event, ensure_ascii=False) + "\n")
        self._stream.flush()

    def stage(self, message: str) -> None:
        """Say which step begins."""
        self.write({"event": "stage", "message": message})


class Epochs:
    """Reports the epochs of one training and keeps them as curves.

    :param phase: ``train``, ``prune`` or ``distill``.
    :param done: curves of the epochs finished before (of a resumed run).
    """

    def __init__(self, events: Events, phase: str, epochs: int, done: list[dict[str, t.Any]] | None = None) -> None:
        self.curves: list[dict[str, t.Any]] = list(done or [])
        self.resumed = bool(done)
        self._events, self._phase, self._epochs = events, phase, epochs
        self._times: list[float] = []
        self._last = time.monotonic()

    def record(self, epoch: int, logs: dict[str, float]) -> None:
        """Add *epoch* (from 1) to the curves with its *logs* (loss, accuracy, val_loss, val_accuracy)."""
        now = time.monotonic()
        self._times.append(now - self._last)
        self._last = now
        row: dict[str, t.Any] = {"epoch": epoch}
        for key in ("loss", "accuracy", "val_loss", "val_accuracy"):
            value = logs.get(key)
            row[key] = round(float(value), 6) if value is not None and math.isfinite(value) else None
        self.curves.append(row)

    def tell(self) -> None:
        """Report the epoch recorded last; call it once that epoch is safe from a kill."""
        row = self.curves[-1]
        # The first epoch also pays for tracing the graph, so it says little about the others.
        usual = self._times[1:] or self._times
        left = (self._epochs - row["epoch"]) * sum(usual) / len(usual)
        extra = {"epochs": self._epochs, "eta_s": round(left, 1), "resumed": self.resumed, "phase": self._phase}
        self._events.write({"event": "epoch", **row, **extra})
