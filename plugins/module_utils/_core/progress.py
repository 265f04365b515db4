# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress of a long task: JSON lines in a file, which the action plugin of the same name reads while the task runs."""

from __future__ import annotations

import contextlib
import json
import time
import typing as t


class Progress:
    """Writes progress events; does nothing where no file was given.

    Every event has ``text`` (what a person reads) and ``live``: live events are shown only to a person watching a
    terminal, the others also in CI (one line a step).

    :param path: the file to append to, or ``None``.
    """

    def __init__(self, path: str | None = None) -> None:
        self._stream: t.TextIO | None = None
        if path:
            # progress is a courtesy: a file that cannot be opened must not stop the task
            with contextlib.suppress(OSError):
                self._stream = open(path, "a", encoding="utf-8")  # noqa: SIM115
        self._last_live = 0.0

    def step(self, text: str) -> None:
        """Say that a step begins or ended."""
        self._write({"text": text, "live": False})

    def live(self, text: str, *, at_most_every: float = 0.0) -> None:
        """Say something for a person who watches; dropped if the last one is younger than *at_most_every* seconds."""
        now = time.monotonic()
        if now - self._last_live >= at_most_every:
            self._last_live = now
            self._write({"text": text, "live": True})

    def _write(self, event: dict[str, t.Any]) -> None:
        if self._stream is not None:
            self._stream.write(json.dumps(event) + "\n")
            self._stream.flush()
