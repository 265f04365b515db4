# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Confined processes: programs that read or run what nobody here vouches for.

A confined process is unprivileged (root becomes :data:`launcher.NOBODY`, all capabilities are dropped, ``no_new_privs``),
has no network, sees only the files that it is given, is denied the system calls that only attacks need (seccomp), has
limits of memory, CPU time, files and processes, and is killed together with all that it started. Files and network are
taken away by namespaces, or, where the kernel or a container refuses these, by Landlock. Where neither works, the
program is not started. Standard library only; docs/security.md says what this is used for.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import sys
import typing as t

from . import launcher
from .errors import ModelshipError

#: The ways to take files and network away, the stronger first.
WAYS = ("namespaces", "landlock")
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a confined process may use.

    :param memory: bytes, of private memory: of each process, and of all of them together.
    :param cpu: seconds of CPU time of each process.
    :param file: bytes of one file; :param disk: bytes of all that is written to the writable directories.
    :param files: open files of each process.
    :param processes: processes and threads of the unprivileged user.
    """

    memory: int
    cpu: int
    file: int
    disk: int
    files: int = 4096
    processes: int = 4096


@dataclasses.dataclass(frozen=True)
class Outside:
    """How to run the same program where its root cannot be made the process's root.

    :param program: the command; :param environment: further variables.
    """

    program: t.Sequence[str]
    environment: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Confinement:
    """What a confined process is given. All paths are absolute; they are the same inside.

    :param limits: see :class:`Limits`.
    :param read: files and directories that it may read, besides the system's programs and libraries.
    :param write: directories that it may write; they must belong to the unprivileged user (:meth:`give`).
    :param links: symbolic links to make (path -> target) so that paths given by them are found.
    :param mountpoint: an empty directory, on which its file system is put together; needed unless *root* is given.
    :param root: a directory that becomes its read-only root, instead of the above.
    :param outside: with *root* and an unprivileged user under Landlock, what to run instead.
    :param environment: the program's variables; ``None``: those that the launcher is started with.
    :param ways: of :data:`WAYS`, in order of preference.
    """

    limits: Limits
    read: t.Sequence[str] = ()
    write: t.Sequence[str] = ()
    links: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    mountpoint: str = ""
    root: str = ""
    outside: Outside | None = None
    environment: t.Mapping[str, str] | None = None
    ways: t.Sequence[str] = WAYS

    def command(self, program: t.Sequence[str]) -> list[str]:
        """Return the command that runs *program* confined; stdin, stdout, stderr and environment are passed on.

        It must be started by this process, without a shell between.
        """
        specification = {
            "limits": dataclasses.asdict(self.limits),
            "read": [_checked(path) for path in self.read],
            "write": [_checked(path) for path in self.write],
            "links": dict(self.links),
            "mountpoint": self.mountpoint,
            "root": self.root,
            "outside": dataclasses.asdict(self.outside) if self.outside else None,
            "environment": None if self.environment is None else dict(self.environment),
            "ways": list(self.ways),
            "parent": os.getpid(),
        }
        return [sys.executable, "-I", "-S", "-c", _source(), json.dumps(specification), *program]


def _checked(path: str) -> str:
    """Return *path*, which must not be the whole file system."""
    if not os.path.isabs(path) or os.path.normpath(path) == "/":
        raise AssertionError(f"a confined process cannot be given {path!r}")
    return os.path.normpath(path)


def _source() -> str:
    """Return the launcher's source, also where Ansible runs this out of a zip file."""
    loader = importlib.util.find_spec(launcher.__name__).loader  # type: ignore[union-attr]
    source = loader.get_source(launcher.__name__)  # type: ignore[union-attr]
    if source is None:
        raise AssertionError("the launcher has no source")
    return str(source)


def give(path: str) -> None:
    """Make the directory or file *path* belong to the user that confined processes run as."""
    if os.geteuid() == 0:
        os.chown(path, launcher.NOBODY, launcher.NOBODY)


#: What a user can do where no confinement is possible.
REMEDY = (
    "allow namespaces (sysctl user.max_user_namespaces; for a container --cap-add SYS_ADMIN or --security-opt "
    "seccomp=unconfined) or use a kernel with Landlock (5.13 or later)"
)


def failure(code: int, log: t.Sequence[str]) -> ModelshipError | None:
    """Return the error that the launcher reported by exit status *code* and a line in *log*, or ``None``.

    Its kind is ``limit`` where the process used too much, ``confinement`` where it cannot be confined, and ``start`` where
    the program itself cannot be run; its message is then the program and the reason.

    :param log: the lines of stderr.
    """
    if code not in (launcher.LIMIT, launcher.FAILED):
        return None
    line = next((line for line in reversed(log) if line.startswith(launcher.MARK)), "")
    kind, _colon, message = line.removeprefix(launcher.MARK).partition(": ")
    if kind == "limit":
        return ModelshipError(message, kind="limit")
    if kind == "unavailable":
        return ModelshipError(
            f"this host offers no way to confine the process ({message}): {REMEDY}; nothing was changed",
            kind="confinement",
        )
    if kind == "error":
        return ModelshipError(f"the process cannot be confined ({message}); nothing was changed", kind="confinement")
    if kind == "start":
        return ModelshipError(message, kind="start")
    return None


def links_of(path: str) -> tuple[str, dict[str, str]]:
    """Follow *path* link by link; return the file at its end, and the links met (path -> target)."""
    links: dict[str, str] = {}
    current, parts = "/", [part for part in path.split("/") if part]
    for _unused in range(512):
        if not parts:
            break
        part = parts.pop(0)
        if part in (".", ".."):
            current = os.path.dirname(current) if part == ".." else current
            continue
        place = os.path.join(current, part)
        if os.path.islink(place):
            target = os.readlink(place)
            links[place] = target
            parts = [each for each in target.split("/") if each] + parts
            current = "/" if target.startswith("/") else current
        else:
            current = place
    return current, links
