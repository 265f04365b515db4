# SPDX-License-Identifier: GPL-3.0-or-later
"""Noticing that files were replaced, also as Kubernetes replaces those of a Secret: by another target of a link."""

from __future__ import annotations

import os

Stamp = tuple[tuple[int, int, int], ...]


def stamp(*paths: str) -> Stamp:
    """Return what changes when one of *paths* is replaced or written; a file that is not there has a stamp of its own."""
    return tuple(_of(path) for path in paths)


def _of(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)  # follows links
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def reason(exc: OSError) -> str:
    """Return why a file could not be read, in words."""
    return (exc.strerror or str(exc)).lower()
