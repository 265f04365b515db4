# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file tree described without being on a disk: what goes into a layer, from folders, wheels and Debian packages."""

from __future__ import annotations

import dataclasses
import fnmatch
import io
import os
import typing as t

from .._core.errors import ModelshipError

FILE, FOLDER, SYMLINK, HARDLINK = "file", "folder", "symlink", "hardlink"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One path of a tree; ``read`` opens the content of a file of ``size`` bytes, ``target`` is a link's."""

    kind: str
    mode: int = 0o644
    size: int = 0
    read: t.Callable[[], t.BinaryIO] | None = None
    target: str = ""

    def content(self) -> bytes:
        """Return the whole content of a file."""
        if self.read is None:
            return b""
        with self.read() as stream:
            return stream.read()


class Tree:
    """Paths (relative, ``/``-separated, no leading slash) and what is there. Missing parents are folders of mode 0755."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def add(self, path: str, entry: Entry) -> None:
        """Put *entry* at *path*, over whatever was there.

        :raises ModelshipError: *path* leaves the tree or is no path.
        """
        parts = path.split("/")
        if not path or ".." in parts or "" in parts or "." in parts:
            raise ModelshipError(f"'{path}' is no path inside an image: the package it comes from is malformed")
        for depth in range(1, len(parts)):
            self.entries.setdefault("/".join(parts[:depth]), Entry(FOLDER, 0o755))
        self.entries[path] = entry

    def add_bytes(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Put a file with the content *data* at *path*."""
        self.add(path, Entry(FILE, mode, len(data), lambda: io.BytesIO(data)))

    def add_path(self, path: str, source: str, mode: int = 0o644) -> None:
        """Put the file *source* of this host at *path*."""
        self.add(path, Entry(FILE, mode, os.path.getsize(source), lambda: open(source, "rb")))  # noqa: SIM115

    def items(self) -> list[tuple[str, Entry]]:
        """Every path with its entry, sorted, but a hard link always after the file that it names."""
        return sorted(self.entries.items(), key=lambda item: (item[1].kind == HARDLINK, item[0]))

    def __len__(self) -> int:
        return len(self.entries)


class Excludes:
    """Patterns of :mod:`fnmatch` for paths that are left out; one that begins with ``!`` takes them in again.

    The last pattern that matches decides. ``*`` also matches ``/``.
    """

    def __init__(self, patterns: t.Iterable[str]) -> None:
        self.patterns = [pattern.strip() for pattern in patterns if pattern.strip() and not pattern.startswith("#")]

    def __contains__(self, path: str) -> bool:
        excluded = False
        for pattern in self.patterns:
            keep = pattern.startswith("!")
            if fnmatch.fnmatchcase(path, pattern.removeprefix("!")):
                excluded = not keep
        return excluded
