# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache: blobs by digest, and records of what was made of which inputs.

``<cache>/blobs/sha256/<hex>`` holds layers, ``<cache>/<kind>/<key>.json`` the records. Everything can be deleted at any time;
it is then made or fetched again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shutil
import tempfile
import time
import typing as t

from .._core.content import canonical_json, parse_digest, sha256_bytes, sha256_file
from .._core.errors import ModelshipError
from .._core.files import explained, write_atomic
from .descriptors import Layer
from .layers import is_settled, settle

#: Part of every key: a change of how layers are made is a change of the inputs.
FORMAT = 1
_STALE = 86_400


def content_key(**inputs: t.Any) -> str:
    """Return the hex name of *inputs*: the sha256 of their canonical JSON."""
    return parse_digest(sha256_bytes(canonical_json({"format": FORMAT, **inputs})))


def checked_blob(path: str, digest: str, size: int) -> bool:
    """Tell whether *path* holds the blob *digest*; hashes it only where somebody has touched the file."""
    if is_settled(path, size):
        return True
    try:
        if os.path.getsize(path) != size or sha256_file(path) != digest:
            return False
        # A folder that is only readable here still serves; it is hashed again next time.
        with contextlib.suppress(OSError):
            settle(path)
    except OSError:
        return False
    return True


class Store:
    """The cache folder *root*, made when something is first written."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.blobs = os.path.join(root, "blobs", "sha256")

    def folder(self, name: str) -> str:
        """Return the path of the folder *name* of the cache, made if absent."""
        path = os.path.join(self.root, name)
        try:
            os.makedirs(path, exist_ok=True)
        except OSError as exc:
            raise ModelshipError(f"cannot use {path} as a cache: {exc.strerror}", kind="file") from exc
        return path

    def sweep(self) -> None:
        """Remove what killed runs left half-written; only what is a day old, for other runs may share the cache."""
        for folder in (os.path.join(self.root, "tmp"), os.path.join(self.root, "roots"), self.blobs):
            with contextlib.suppress(OSError), os.scandir(folder) as found:
                for entry in found:
                    half = entry.name.startswith(".new-") or folder.endswith("tmp")
                    if half and time.time() - entry.stat(follow_symlinks=False).st_mtime > _STALE:
                        shutil.rmtree(entry.path, ignore_errors=True)
                        with contextlib.suppress(OSError):
                            os.unlink(entry.path)

    def blob(self, digest: str) -> str:
        """Return where the blob *digest* is or would be."""
        return os.path.join(self.blobs, parse_digest(digest))

    def record(self, kind: str, key: str) -> t.Any:
        """Return the record *key* of *kind*, or ``None``; an unreadable one counts as absent."""
        try:
            with open(self._record_path(kind, key), encoding="utf-8") as stream:
                return json.load(stream)
        except (OSError, ValueError):
            return None

    def age(self, kind: str, key: str) -> float:
        """Return how long ago the record *key* of *kind* was written, in seconds; 0 where it is absent.

        A record of the future, which a wrong clock leaves, counts as that old: it would otherwise stay young until then.
        """
        with contextlib.suppress(OSError):
            return abs(time.time() - os.stat(self._record_path(kind, key)).st_mtime)
        return 0.0

    def save(self, kind: str, key: str, value: t.Any) -> None:
        """Write the record *key* of *kind*."""
        write_atomic(self._record_path(kind, key), canonical_json(value))

    def _record_path(self, kind: str, key: str) -> str:
        return os.path.join(self.root, kind, key + ".json")

    def layer(self, key: str) -> Layer | None:
        """Return the layer that was made of the inputs *key*, if its blob is there and whole."""
        values = self.record("layers", key)
        try:
            layer = Layer(**values)
        except TypeError:
            return None
        return layer if checked_blob(self.blob(layer.digest), layer.digest, layer.size) else None

    def save_layer(self, key: str, layer: Layer) -> None:
        """Remember that the inputs *key* give *layer*."""
        self.save("layers", key, dataclasses.asdict(layer))

    def adopt(self, path: str, digest: str, size: int) -> None:
        """Copy the file *path*, which is somebody else's, into the cache as the blob *digest*.

        :raises ModelshipError: it is not what the digest says.
        """
        target = self.blob(digest)
        if checked_blob(target, digest, size):
            return
        with explained(path):
            os.makedirs(self.blobs, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.blobs, prefix=".new-")
            os.close(handle)
            try:
                shutil.copyfile(path, temporary)
                if not checked_blob(temporary, digest, size):
                    raise ModelshipError(f"{path} is damaged: it must be the blob {digest}", kind="layout")
                os.replace(temporary, target)
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)


def place(source: str, target: str) -> None:
    """Make *target* the same blob as *source*: a link, or a copy where they are on different file systems."""
    with explained(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".new-")
        os.close(handle)
        os.unlink(temporary)
        try:
            try:
                os.link(source, temporary)
            except OSError as exc:
                if exc.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                    raise
                shutil.copyfile(source, temporary)
                settle(temporary)
            os.replace(temporary, target)
        finally:
            # rename() of two links to one file does nothing and leaves both.
            with contextlib.suppress(OSError):
                os.unlink(temporary)
