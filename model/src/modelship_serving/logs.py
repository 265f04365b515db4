# SPDX-License-Identifier: GPL-3.0-or-later
"""Structured logs: one JSON object a line on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import typing as t
from collections.abc import Iterator

import msgspec

from .settings import LEVELS

_encode = msgspec.json.Encoder(enc_hook=str).encode


class Log:
    """Writes events of *level* and above; each line goes out in one write, so that workers' lines do not mix."""

    def __init__(self, level: str = "info") -> None:
        self._level = LEVELS.index(level)
        self.debugging = level == "debug"

    def _write(self, level: str, message: str, fields: dict[str, t.Any]) -> None:
        if LEVELS.index(level) < self._level:
            return
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
        line = _encode({"time": stamp, "level": level, "message": message, "pid": os.getpid(), **fields}) + b"\n"
        # A closed stderr must not take the server down.
        with contextlib.suppress(OSError):
            os.write(2, line)

    def debug(self, message: str, **fields: t.Any) -> None:
        """Log what only a person looking for a fault wants to see."""
        self._write("debug", message, fields)

    def info(self, message: str, **fields: t.Any) -> None:
        """Log a step of the process's life."""
        self._write("info", message, fields)

    def warning(self, message: str, **fields: t.Any) -> None:
        """Log what is not as it should be, though requests are answered."""
        self._write("warning", message, fields)

    def error(self, message: str, **fields: t.Any) -> None:
        """Log a failure of the server itself."""
        self._write("error", message, fields)


@contextlib.contextmanager
def captured_stderr(log: Log) -> Iterator[None]:
    """Turn what native libraries print on stderr within the body into debug events, so that every line stays JSON."""
    sys.stderr.flush()
    saved = os.dup(2)
    memory = os.memfd_create("stderr")
    os.dup2(memory, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.lseek(memory, 0, os.SEEK_SET)
        with os.fdopen(memory, "r", errors="replace") as stream:
            for line in stream.read().splitlines():
                log.debug(line, source="runtime")
