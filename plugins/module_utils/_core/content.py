# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Naming things by content: canonical JSON, sha256 of bytes, files and source trees."""

from __future__ import annotations

import hashlib
import json
import os
import typing as t

from .errors import ModelshipError

_CHUNK = 1 << 20

#: Names that never belong to a source tree's content.
IGNORED_NAMES = frozenset({"__pycache__"})


def canonical_json(value: t.Any) -> bytes:
    """Encode *value* as canonical JSON: UTF-8, sorted keys, no spaces, one newline at the end.

    :raises ValueError: for NaN and infinities, which have no JSON form.
    """
    return (
        json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()


def sha256_bytes(data: bytes) -> str:
    """Return ``sha256:<hex>`` of *data*."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha256_file(path: str) -> str:
    """Return ``sha256:<hex>`` of the file at *path*."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()


def is_ignored(name: str) -> bool:
    """Tell whether a file or folder called *name* is no part of a source tree's content."""
    return name in IGNORED_NAMES or name.startswith(".") or name.endswith(".pyc")


def tree_files(root: str) -> dict[str, str]:
    """Map each regular file below *root* (relative, ``/``-separated) to its ``sha256:<hex>``.

    ``__pycache__``, ``*.pyc`` and names with a leading dot are left out; links are followed to files.

    :raises ModelshipError: *root* is not a folder.
    """
    if not os.path.isdir(root):
        raise ModelshipError(f"{root} is not a folder: check the path")
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not is_ignored(name))
        for name in sorted(files):
            if not is_ignored(name):
                path = os.path.join(folder, name)
                found[os.path.relpath(path, root).replace(os.sep, "/")] = sha256_file(path)
    return found


def tree_digest(root: str) -> str:
    """Return the digest of a source tree: the sha256 of the canonical JSON of :func:`tree_files`."""
    return sha256_bytes(canonical_json(tree_files(root)))


def is_plain_file(root: str, relative: str) -> bool:
    """Whether *relative* is a regular file below the directory *root*, reached without a symbolic link.

    What is named by its content must also be there itself: the target of a link may change, or lie elsewhere.
    """
    path = root
    for part in relative.split("/"):
        path = os.path.join(path, part)
        if part in ("", ".", "..") or os.path.islink(path):
            return False
    return os.path.isfile(path)


def is_digest(value: str) -> bool:
    """Whether *value* is ``sha256:<64 hex>``."""
    prefix, _colon, digits = value.partition(":")
    return prefix == "sha256" and len(digits) == 64 and not set(digits) - set("0123456789abcdef")


def parse_digest(value: str) -> str:
    """Return the hex part of ``sha256:<64 hex>``.

    :raises ModelshipError: *value* is not such a digest.
    """
    if not is_digest(value):
        raise ModelshipError(f"'{value}' is not a digest: it must be sha256: and 64 lower-case hexadecimal digits")
    return value.partition(":")[2]
