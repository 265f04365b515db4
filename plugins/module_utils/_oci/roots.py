# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file tree of a base on this host's disk, to look into it and to run its own Python interpreter for compiling."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import os
import re
import shutil
import tarfile
import typing as t

from .._core.errors import ModelshipError
from .._core.files import explained, new_folder
from .descriptors import Layer
from .store import Store, content_key


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a base holds.

    :param python: its interpreter's path (``/usr/bin/python3.11``), or ``""``.
    :param python_version: ``3.11``, or ``""``.
    :param libc: ``glibc``, ``musl`` or ``""``.
    :param libc_version: ``2.36``, or ``""``.
    """

    python: str = ""
    python_version: str = ""
    libc: str = ""
    libc_version: str = ""

    @property
    def python3(self) -> str:
        """The interpreter without its version, as an entrypoint names it."""
        return os.path.join(os.path.dirname(self.python), "python3") if self.python else "/usr/bin/python3"


class Root:
    """The unpacked tree of *layers*; unpacked when it is first asked for, and kept in the cache."""

    def __init__(self, store: Store, layers: t.Sequence[Layer]) -> None:
        self._store = store
        self._layers = layers
        self.key = content_key(root=[layer.diff_id for layer in layers])

    def path(self) -> str:
        """Return the folder, unpacked on first use.

        :raises ModelshipError: a layer is no tar archive or leaves the folder.
        """
        path = os.path.join(self._store.folder("roots"), self.key)
        if not os.path.isdir(path):
            try:
                with new_folder(path) as folder:
                    for layer in self._layers:
                        unpack(self._store.blob(layer.digest), folder)
            except ModelshipError:
                # Another run may have put the same tree there at the same time.
                if not os.path.isdir(path):
                    raise
        return path

    def facts(self) -> Facts:
        """Return what the base holds; looked up once."""
        values = self._store.record("facts", self.key)
        with contextlib.suppress(TypeError):
            return Facts(**values)
        facts = look(self.path())
        self._store.save("facts", self.key, dataclasses.asdict(facts))
        return facts

    def known_facts(self) -> Facts | None:
        """Return what the base holds if that was looked up before."""
        values = self._store.record("facts", self.key)
        return Facts(**values) if isinstance(values, dict) else None


def unpack(blob: str, root: str) -> None:
    """Unpack the layer *blob* over the folder *root*: files, folders and links with whiteouts applied, owned by the caller.

    Set-user-id bits, device nodes and owners are left out. Source: OCI image specification 1.1, ``layer.md``.

    :raises ModelshipError: the blob is no tar archive, or a path leads out of *root*.
    """
    real_root = os.path.realpath(root)
    with explained(root):
        try:
            with tarfile.open(blob, "r:*") as archive:
                for member in archive:
                    _unpack_member(archive, member, real_root)
        except tarfile.TarError as exc:
            raise ModelshipError(
                f"the base layer {blob} is not a tar archive ({exc}): use another base", kind="base"
            ) from exc


def _inside(root: str, name: str) -> str:
    name = os.path.normpath("/" + name).lstrip("/")
    parent = os.path.realpath(os.path.join(root, os.path.dirname(name)))
    if parent != root and not parent.startswith(root + os.sep):
        raise ModelshipError(f"the base layer's path '{name}' leads out of the image: use another base", kind="base")
    return os.path.join(parent, os.path.basename(name))


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, root: str) -> None:
    path = _inside(root, member.name)
    if path.rstrip("/") == root or member.ischr() or member.isblk() or member.isfifo():
        return
    name = os.path.basename(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if name == ".wh..wh..opq":
        for other in os.listdir(os.path.dirname(path)):
            _remove(os.path.join(os.path.dirname(path), other))
    elif name.startswith(".wh."):
        _remove(os.path.join(os.path.dirname(path), name[4:]))
    elif member.isdir():
        if os.path.islink(path) or not os.path.isdir(path):
            _remove(path)
            os.mkdir(path)
        os.chmod(path, member.mode & 0o777 | 0o700)
    else:
        _remove(path)
        if member.issym():
            os.symlink(member.linkname, path)
        elif member.islnk():
            os.link(_inside(root, member.linkname), path)
        else:
            source = archive.extractfile(member)
            if source is None:
                raise AssertionError
            with source, open(path, "wb") as stream:
                shutil.copyfileobj(source, stream, 1 << 20)
            os.chmod(path, member.mode & 0o777 | 0o400)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def look(root: str) -> Facts:
    """Find the interpreter and the C library in the tree *root*."""
    python = version = ""
    for folder in ("usr/local/bin", "usr/bin"):
        found = [
            (int(match.group(1)), path)
            for path in glob.glob(os.path.join(glob.escape(root), folder, "python3.*"))
            if (match := re.fullmatch(r"python3\.(\d+)", os.path.basename(path)))
        ]
        if found:
            minor, path = max(found)
            python, version = "/" + os.path.relpath(path, root), f"3.{minor}"
            break
    libc = libc_version = ""
    if glob.glob(os.path.join(glob.escape(root), "lib", "ld-musl-*")):
        libc, libc_version = "musl", "1.2"
    else:
        for pattern in ("lib/*/libc.so.6", "usr/lib/*/libc.so.6", "lib64/libc.so.6", "usr/lib64/libc.so.6"):
            for path in glob.glob(os.path.join(glob.escape(root), pattern)):
                with open(path, "rb") as stream:
                    match_bytes = re.search(rb"GNU C Library[^\0]*? release version (\d+\.\d+)", stream.read())
                if match_bytes:
                    return Facts(python, version, "glibc", match_bytes.group(1).decode())
    return Facts(python, version, libc, libc_version)
