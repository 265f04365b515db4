# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Naming things by content. The same rules as the orchestration side's, which this package must not import."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import typing as t


def canonical_json(value: t.Any) -> bytes:
    """Encode *value* as canonical JSON (docs/formats.md).

    :raises ValueError: for NaN and infinities, which have no JSON form.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def sha256_bytes(data: bytes | memoryview) -> str:
    """Return ``sha256:<hex>`` of *data*."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha256_json(value: t.Any) -> str:
    """Return ``sha256:<hex>`` of the canonical JSON of *value*."""
    return sha256_bytes(canonical_json(value))


def sha256_file(path: str) -> str:
    """Return ``sha256:<hex>`` of the file at *path*."""
    with open(path, "rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def tree_files(root: str, leave_out: t.Collection[str] = ()) -> dict[str, str]:
    """Map each regular file below *root* (relative, ``/``-separated) to its ``sha256:<hex>``.

    ``__pycache__``, ``*.pyc``, names with a leading dot and the relative paths in *leave_out* are left out.
    """
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not _ignored(name))
        for name in sorted(files):
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, root).replace(os.sep, "/")
            if _ignored(name) or relative in leave_out:
                continue
            if stat.S_ISREG(os.stat(path).st_mode):  # reading a pipe would wait for ever
                found[relative] = sha256_file(path)
    return found


def _ignored(name: str) -> bool:
    return name == "__pycache__" or name.startswith(".") or name.endswith(".pyc")
