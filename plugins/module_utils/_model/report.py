# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads while the model side works, and in one line afterwards."""

from __future__ import annotations

import typing as t

from .._core.progress import Progress

#: Metrics worth a place in one line, in this order.
_SHOWN = ("accuracy", "loss")


class Reporter:
    """Turns the model side's events into progress: epochs live, stages as steps."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._resumed = False

    def __call__(self, event: t.Mapping[str, t.Any]) -> None:
        """Report one event; what is not understood is left out, progress never fails a task."""
        if event.get("event") == "stage":
            self._progress.step(str(event.get("message", "")))
        elif event.get("event") == "epoch":
            if event.get("resumed") and not self._resumed:
                self._resumed = True
                self._progress.step(f"continuing at epoch {event.get('epoch')} from the last checkpoint")
            self._progress.live(epoch_text(event))


def epoch_text(event: t.Mapping[str, t.Any]) -> str:
    """Return one line such as ``epoch 3/8  loss 0.0812  accuracy 0.9753  val 0.9700  12 s left``."""
    parts = [f"epoch {event.get('epoch', '?')}/{event.get('epochs', '?')}"]
    for key, label in (("loss", "loss"), ("accuracy", "accuracy"), ("val_accuracy", "val")):
        value = event.get(key)
        if isinstance(value, (int, float)):
            parts.append(f"{label} {value:.4f}")
    eta = event.get("eta_s")
    if isinstance(eta, (int, float)):
        parts.append(f"{duration(eta)} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Return *seconds* in words: ``12 s``, ``3 min``, ``2 h 05 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def size_text(size: float) -> str:
    """Return *size* in bytes in words: ``512 B``, ``1.2 MB``."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def summary(release: t.Mapping[str, t.Any]) -> str:
    """Return a release in one line: ``digits sha256:0123456789ab, litert, 1.2 MB, accuracy 0.9861, loss 0.0431``."""
    parts = [f"{release['name']} {str(release['digest'])[:19]}", str(release["format"])]
    if release["size"] is not None:
        parts.append(size_text(release["size"]))
    metrics = release["metrics"]
    parts += [f"{name} {metrics[name]:.4f}" for name in _SHOWN if isinstance(metrics.get(name), (int, float))]
    return ", ".join(parts)
