# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A base layer made of Debian packages, unpacked straight from the ``.deb`` files: no root, no chroot, no daemon.

The packages are unpacked, not configured: no maintainer script runs. What a serving image needs of them is written here.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import shutil
import subprocess
import tarfile
import tempfile
import typing as t

from .._core.content import sha256_file
from .._core.errors import ModelshipError
from .._core.files import explained, no_space, says_no_space
from .apt import Package, deb_path
from .descriptors import Layer
from .layers import write_layer
from .store import Store
from .tree import FILE, FOLDER, HARDLINK, SYMLINK, Entry, Excludes, Tree

#: Left out of a base by default: what only people at a terminal and package management read.
DEFAULT_EXCLUDES = (
    "usr/share/doc/*",
    "!usr/share/doc/*/copyright",
    "usr/share/man/*",
    "usr/share/info/*",
    "usr/share/locale/*",
    "usr/share/lintian/*",
    "usr/share/bug/*",
    "usr/share/bash-completion/*",
    "usr/share/menu/*",
    "usr/share/pixmaps/*",
    "usr/share/applications/*",
    "usr/share/python3/*",
    "usr/share/debhelper/*",
    "usr/share/perl5/*",
    "usr/lib/*/gconv/*",
    "usr/lib/*/perl*",
    "usr/lib/python3*/pydoc_data/*",
    "etc/cron*",
    "etc/init.d/*",
)

#: Packages that others depend on for the sake of maintainer scripts and package management, which an image never runs.
DEFAULT_OMIT = (
    "dpkg",
    "tar",
    "debconf",
    "mawk",
    "perl-base",
    "init-system-helpers",
    "adduser",
    "lsb-base",
    "sysvinit-utils",
)

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_USERS = """root:x:0:0:root:/root:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
nonroot:x:65532:65532:nonroot:/nonexistent:/usr/sbin/nologin
"""
_GROUPS = "root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\n"
# Without it the C library asks the name server before /etc/hosts.
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"
_BUNDLE = "etc/ssl/certs/ca-certificates.crt"


def base_layer(store: Store, packages: t.Sequence[Package], excludes: t.Sequence[str], *, compress: bool) -> Layer:
    """Unpack *packages*, whose files are in the cache, into one layer of the cache.

    :raises ModelshipError: a package's file is not what its sha256 says, or cannot be unpacked.
    """
    with tempfile.TemporaryDirectory(dir=store.folder("tmp")) as folder, contextlib.ExitStack() as stack:
        tree = _skeleton()
        left_out = Excludes(excludes)
        with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            unpacked = list(pool.map(lambda package: _unpack(store, package, folder), sorted(packages)))
        for package, (archive, control) in zip(sorted(packages), unpacked, strict=True):
            _add_archive(tree, stack.enter_context(tarfile.open(archive)), left_out)
            tree.add_bytes(f"var/lib/dpkg/status.d/{package.name}", control)
        _add_certificates(tree)
        _drop_empty_folders(tree, left_out)
        return write_layer(tree, "base", store.blobs, compress=compress)


def _skeleton() -> Tree:
    tree = Tree()
    for name, mode in (
        ("tmp", 0o1777),
        ("var/tmp", 0o1777),
        ("proc", 0o755),
        ("sys", 0o755),
        ("dev", 0o755),
        ("run", 0o755),
    ):
        tree.add(name, Entry(FOLDER, mode))
    tree.add("root", Entry(FOLDER, 0o700))
    for name, text in (("passwd", _USERS), ("group", _GROUPS), ("nsswitch.conf", _NSSWITCH)):
        tree.add_bytes(f"etc/{name}", text.encode())
    return tree


def _verified_copy(store: Store, package: Package, folder: str) -> str:
    """Copy the ``.deb`` of *package* to the private directory *folder* and return its path.

    The copy is what is hashed and unpacked: another user of a shared cache cannot exchange the file in between.
    """
    source = deb_path(store, package)
    copy = os.path.join(folder, os.path.basename(source))
    with explained(source):
        shutil.copyfile(source, copy)
    if sha256_file(copy) != f"sha256:{package.sha256}":
        raise ModelshipError(
            f"{source} is not {package.name} {package.version} (its sha256 is not the lock's): remove it and run again",
            kind="hash_mismatch",
        )
    return copy


def _unpack(store: Store, package: Package, folder: str) -> tuple[str, bytes]:
    """Return the path of the plain tar archive of *package*'s files, and its control paragraph."""
    deb = _verified_copy(store, package, folder)
    archive = os.path.join(folder, os.path.basename(deb) + ".tar")
    with explained(archive), open(archive, "wb") as stream:
        done = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], stdout=stream, stderr=subprocess.PIPE, check=False)
    control = subprocess.run(["dpkg-deb", "--field", deb], capture_output=True, check=False)
    if done.returncode or control.returncode:
        said = (done.stderr or control.stderr).decode(errors="replace").strip()
        if says_no_space(said):
            raise no_space(archive)
        raise ModelshipError(
            f"{deb_path(store, package)} cannot be unpacked ({''.join(said.splitlines()[-1:])}): remove it and run again",
            kind="package",
        )
    return archive, control.stdout


def _merged(path: str) -> str:
    first, _unused, rest = path.partition("/")
    return f"usr/{path}" if rest and first in _MERGED else path


def _add_archive(tree: Tree, archive: tarfile.TarFile, excludes: Excludes) -> None:
    for member in archive:
        path = _merged(member.name.removeprefix("./").strip("/"))
        if path in ("", ".") or path in _MERGED or path in excludes:
            continue
        first = path.split("/")[0]
        # Set-user-id programs have no place where no privilege may be gained.
        mode = member.mode & 0o1777
        if member.isdir():
            if path not in tree.entries or tree.entries[path].kind != FOLDER:
                tree.add(path, Entry(FOLDER, mode if mode & 0o1000 else mode & 0o755))
        elif member.isreg():
            tree.add(path, Entry(FILE, mode & 0o755, member.size, _reader(archive, member)))
        elif member.issym():
            tree.add(path, Entry(SYMLINK, target=member.linkname))
        elif member.islnk():
            tree.add(path, Entry(HARDLINK, mode & 0o755, target=_merged(member.linkname.removeprefix("./"))))
        if path.startswith("usr/") and path.count("/") > 1 and path.split("/")[1] in _MERGED:
            first = path.split("/")[1]
            tree.entries.setdefault(first, Entry(SYMLINK, target=f"usr/{first}"))


def _reader(archive: tarfile.TarFile, member: tarfile.TarInfo) -> t.Callable[[], t.BinaryIO]:
    return lambda: t.cast(t.BinaryIO, archive.extractfile(member))


def _add_certificates(tree: Tree) -> None:
    """Do what the script of ca-certificates does: one bundle of the package's own authorities; the host's stay out."""
    prefix = "usr/share/ca-certificates/"
    bundle = b"".join(
        entry.content().rstrip(b"\n") + b"\n"
        for path, entry in tree.items()
        if path.startswith(prefix) and path.endswith(".crt") and entry.kind == FILE
    )
    if bundle:
        tree.add_bytes(_BUNDLE, bundle)
        # Where OpenSSL looks by default.
        tree.add("usr/lib/ssl/cert.pem", Entry(SYMLINK, target=f"/{_BUNDLE}"))


def _drop_empty_folders(tree: Tree, excludes: Excludes) -> None:
    """Drop the folders that are empty only because their content was left out."""
    used: set[str] = set()
    for path, entry in tree.entries.items():
        if entry.kind != FOLDER:
            parts = path.split("/")
            used.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
    for path in [path for path, entry in tree.entries.items() if entry.kind == FOLDER and path not in used]:
        if f"{path}/x" in excludes or path.startswith("usr/share/doc/"):
            del tree.entries[path]
