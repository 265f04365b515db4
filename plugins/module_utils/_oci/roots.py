# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file tree of a base on this host's disk, to look into it and to run its own Python interpreter for compiling."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import shutil
import stat
import tarfile
import typing as t
import zlib

from .._core.errors import ModelshipError
from .._core.files import explained, new_folder
from .descriptors import Layer
from .store import Store, content_key

#: Paths that a base may unpack to.
MAX_ENTRIES = 2_000_000
#: Errors of the system for names and links that a layer has and no file system can hold.
_MALFORMED = frozenset(
    {
        errno.ENOENT,
        errno.EPERM,
        errno.EINVAL,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EMLINK,
    }
)
#: Characters of a layer's path in messages.
_SHOWN = 120


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
        """Return the directory, unpacked on first use.

        :raises ModelshipError: a layer is not a tar archive, has a malformed whiteout, or is larger than its limits.
        """
        path = os.path.join(self._store.folder("roots"), self.key)
        if not os.path.isdir(path):
            try:
                with new_folder(path) as folder:
                    budget = Budget()
                    for layer in self._layers:
                        unpack(self._store.blob(layer.digest), folder, budget)
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


@dataclasses.dataclass
class Budget:
    """What the layers of one base may still unpack to.

    :param entries: paths; a base image with CUDA and all its documentation has some 100,000.
    :raises ModelshipError: by :meth:`spend`, where a layer has more.
    """

    entries: int = MAX_ENTRIES

    def spend(self, blob: str) -> None:
        """Count one path of the layer *blob*."""
        self.entries -= 1
        if self.entries < 0:
            raise ModelshipError(
                f"the base layer {blob} has too many files (the base has more than {MAX_ENTRIES:,} in all): use another base",
                kind="base",
            )


def unpack(blob: str, root: str, budget: Budget | None = None) -> None:
    """Unpack the layer *blob* over the directory *root*: files, directories and links with whiteouts applied.

    Everything is owned by the caller; set-user-id bits, device nodes and owners are left out. Links are followed as a process
    inside *root* would follow them, so that nothing is written outside. Source: OCI image specification 1.1, ``layer.md``.

    :param budget: shared by all layers of a base; by default the layer has one of its own.
    :raises ModelshipError: the blob is not a tar archive, plain or gzip, an entry of it is malformed or sparse, or it has more
        paths than *budget* allows.
    """
    real_root = os.path.realpath(root)
    budget = budget or Budget()
    written: set[str] = set()
    with explained(root):
        try:
            with _opened(blob) as archive:
                for member in archive:
                    budget.spend(blob)
                    _unpack_member(archive, member, real_root, written)
        # besides its own errors, tarfile raises these for malformed headers and for what ends early
        except (tarfile.TarError, ValueError, EOFError, zlib.error) as exc:
            reason = " ".join(str(exc).split())
            raise ModelshipError(
                f"the base layer {blob} is not a tar archive ({reason}): use another base", kind="base"
            ) from exc


def _opened(blob: str) -> tarfile.TarFile:
    """Open the archive *blob*, plain or gzip; other compressions could unpack to more than was measured of it."""
    with open(blob, "rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    return tarfile.open(blob, "r:gz") if packed else tarfile.open(blob, "r:")


def resolve(root: str, path: str) -> str:
    """Follow the links of *path* as a process inside *root* would; absolute targets and ``..`` stay inside."""
    current = root
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for _unused in range(256):
        if not parts:
            return current
        part = parts.pop(0)
        if part == "..":
            current = root if current == root else os.path.dirname(current)
            continue
        current = os.path.join(current, part)
        if os.path.islink(current):
            target = os.readlink(current)
            parts = [each for each in target.split("/") if each not in ("", ".")] + parts
            current = root if target.startswith("/") else os.path.dirname(current)
    raise ModelshipError(
        f"the base's path '{path[:_SHOWN]}' is a loop of symbolic links, or too deep: use another base", kind="base"
    )


def _inside(root: str, name: str) -> str:
    """Return the path of the archive's *name* below *root*; its directory is resolved, its last part is not."""
    folder, base = os.path.split(os.path.normpath("/" + name).lstrip("/"))
    return os.path.join(resolve(root, folder), base)


def _whiteout(name: str, member: str) -> str:
    """Return what the whiteout *name* (``.wh.<name>``) of the archive's path *member* deletes.

    :raises ModelshipError: it names the directory itself or its parent.
    """
    deleted = name.removeprefix(".wh.")
    if deleted in ("", ".", ".."):
        raise ModelshipError(
            f"the base layer's whiteout '{member}' names no file of its directory: use another base", kind="base"
        )
    return deleted


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, root: str, written: set[str]) -> None:
    """Unpack *member* below *root*.

    :param written: paths of this layer so far with their directories; its own whiteouts do not hide them.
    """
    try:
        _unpack_entry(archive, member, root, written)
    except OSError as exc:
        if exc.errno not in _MALFORMED:
            raise
        named = f", a link to '{member.linkname[:_SHOWN]}'," if member.linkname else ""
        raise ModelshipError(
            f"the base layer's entry '{member.name[:_SHOWN]}'{named} cannot be unpacked ({(exc.strerror or '').lower()}): "
            "use another base",
            kind="base",
        ) from exc


def _unpack_entry(archive: tarfile.TarFile, member: tarfile.TarInfo, root: str, written: set[str]) -> None:
    if member.sparse is not None:
        raise ModelshipError(
            f"the base layer's entry '{member.name[:_SHOWN]}' is a sparse file of {member.size:,} bytes, which images must not "
            "hold: use another base",
            kind="base",
        )
    path = _inside(root, member.name)
    if path.rstrip("/") == root or member.ischr() or member.isblk() or member.isfifo():
        return
    folder, name = os.path.split(path)
    _make_directories(root, folder)
    if name == ".wh..wh..opq":
        for other in os.listdir(folder):
            _hide(os.path.join(folder, other), written)
        return
    if name.startswith(".wh..wh."):
        return  # reserved for the storage driver that wrote the layer (AUFS)
    if name.startswith(".wh."):
        _hide(os.path.join(folder, _whiteout(name, member.name)), written)
        return
    if member.isdir():
        if os.path.islink(path) or not os.path.isdir(path):
            _remove(path)
            os.mkdir(path)
        os.chmod(path, member.mode & 0o777 | 0o700)
    else:
        _remove(path)
        if member.issym():
            os.symlink(member.linkname, path)
        elif member.islnk():
            os.link(_inside(root, member.linkname), path, follow_symlinks=False)
        else:
            source = archive.extractfile(member)
            if source is None:
                raise AssertionError
            with source, open(path, "wb") as stream:
                shutil.copyfileobj(source, stream, 1 << 20)
            os.chmod(path, member.mode & 0o777 | 0o400)
    while path != root and path not in written:
        written.add(path)
        path = os.path.dirname(path)


def _hide(path: str, written: set[str]) -> None:
    """Remove *path* as far as it is of lower layers, which a whiteout hides wherever it stands in its own layer."""
    if path not in written:
        _remove(path)
    elif os.path.isdir(path) and not os.path.islink(path):
        for name in os.listdir(path):
            _hide(os.path.join(path, name), written)


def _make_directories(root: str, folder: str) -> None:
    """Make the resolved directory *folder* below *root*; a file in its way is replaced, as a later layer may do."""
    if folder != root and not os.path.isdir(folder):
        _make_directories(root, os.path.dirname(folder))
        _remove(folder)
        os.mkdir(folder, 0o755)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def look(root: str) -> Facts:
    """Find the interpreter and the C library in the tree *root*, following links inside it only."""
    python = version = ""
    for folder in ("usr/local/bin", "usr/bin"):
        found = [
            (int(match.group(1)), name)
            for name in _names(root, folder)
            if (match := re.fullmatch(r"python3\.(\d+)", name))
        ]
        if found:
            minor, name = max(found)
            python, version = f"/{folder}/{name}", f"3.{minor}"
            break
    if any(name.startswith("ld-musl-") for name in _names(root, "lib")):
        return Facts(python, version, "musl", "1.2")
    for folder in ("lib", "usr/lib", "lib64", "usr/lib64"):
        for name in _names(root, folder):
            places = [f"{folder}/{name}"] if name == "libc.so.6" else [f"{folder}/{name}/libc.so.6"]
            for place in places:
                match_bytes = re.search(rb"GNU C Library[^\0]*? release version (\d+\.\d+)", _head(root, place))
                if match_bytes:
                    return Facts(python, version, "glibc", match_bytes.group(1).decode())
    return Facts(python, version)


def _names(root: str, folder: str) -> list[str]:
    """Return the sorted names in the directory *folder* of the tree *root*; none where it is not a directory."""
    with contextlib.suppress(OSError, ModelshipError):
        return sorted(os.listdir(resolve(root, folder)))
    return []


def _head(root: str, path: str) -> bytes:
    """Return the first 16 MiB of the regular file *path* of the tree *root*; nothing where it is not one."""
    with contextlib.suppress(OSError, ModelshipError):
        place = resolve(root, path)
        if stat.S_ISREG(os.lstat(place).st_mode):
            with open(place, "rb") as stream:
                return stream.read(1 << 24)
    return b""
