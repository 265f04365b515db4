# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing files and folders so that a kill or a full disk loses nothing that was there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import typing as t

from .errors import ModelshipError


def no_space(where: str) -> ModelshipError:
    """Return the error for a full disk met while writing *where*."""
    return ModelshipError(
        f"no space left while writing {where}: free some space or choose another folder; "
        "nothing that was there before has been changed",
        kind="disk_full",
    )


def says_no_space(output: str) -> bool:
    """Tell whether a program that failed with *output* met a full disk."""
    return "No space left on device" in output


@contextlib.contextmanager
def explained(path: str) -> t.Iterator[None]:
    """Turn an ``OSError`` about *path* into a :class:`ModelshipError` that says what to do."""
    try:
        yield
    except OSError as exc:
        where = exc.filename or path
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(where) from exc
        raise ModelshipError(f"cannot use {where}: {exc.strerror or exc}", kind="file") from exc


def write_atomic(path: str, data: bytes, mode: int = 0o644) -> None:
    """Replace the file at *path* by *data* in one step; readers see the old or the new file, never a part.

    :raises ModelshipError: the disk is full or the folder cannot be written; the old file is intact.
    """
    folder = os.path.dirname(path) or "."
    with explained(path):
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, mode)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


@contextlib.contextmanager
def new_folder(path: str) -> t.Iterator[str]:
    """Build a folder under a temporary name beside *path* and rename it to *path* when the body succeeds.

    Yields the temporary folder. What a killed run left behind is never taken for the finished folder.

    :raises ModelshipError: the disk is full or the parent cannot be written; nothing is left behind.
    """
    parent = os.path.dirname(path)
    with explained(path):
        os.makedirs(parent, exist_ok=True)
        temporary = tempfile.mkdtemp(dir=parent, prefix=".new-")
        try:
            os.chmod(temporary, 0o755)
            yield temporary
            os.rename(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextlib.contextmanager
def locked(path: str) -> t.Iterator[None]:
    """Hold an exclusive lock on the file *path* (made if absent), so that two runs at once do not collide.

    :raises ModelshipError: another process holds it.
    """
    with explained(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ModelshipError(
                f"another run is working here (it holds {path}): wait for it to end, then run again", kind="locked"
            ) from exc
        yield
    finally:
        os.close(handle)
