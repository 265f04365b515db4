# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing files and folders so that a kill or a full disk loses nothing that was there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import shutil
import stat
import tempfile
import typing as t

from .errors import ModelshipError

#: How often a lock file may be deleted by its holder just before it is locked.
_LOCK_ATTEMPTS = 100


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


def exists(path: str) -> bool:
    """Return whether there is anything at *path*; a dangling link is nothing.

    :raises ModelshipError: kind C(permission): a directory on the way may not be searched, so that nobody knows.
    """
    try:
        os.stat(path)
    except PermissionError as exc:
        raise ModelshipError(
            f"permission denied on {path}: run as root (become: true) or as a user that may read it", kind="permission"
        ) from exc
    except OSError:
        return False
    return True


@contextlib.contextmanager
def locked(path: str, directory_mode: int = 0o777) -> t.Iterator[None]:
    """Hold an exclusive lock on the file *path*, so that two runs at once do not collide.

    The file is created readable for its owner alone, so that no other user can hold the lock, and deleted at the end.
    A file that a killed run left behind is used.

    :param directory_mode: mode of the file's directory where it is missing.

    :raises ModelshipError: kind C(locked): another process holds it; kind C(file): it cannot be created, is a link or not
        a regular file, has further names, or belongs to a user who is neither this one, root, nor the directory's owner.
    """
    with explained(path):
        handle = _open_locked(path, directory_mode)
    try:
        yield
    finally:
        # Deleted before it is unlocked: who opened it meanwhile notices that the path no longer leads to that file.
        with contextlib.suppress(OSError):
            os.unlink(path)
        os.close(handle)


def lock_directory() -> str:
    """Return a directory for lock files that only this user can write, the same one on every run of that user.

    The first of these that can be used: C(/run/modelship) for root, C(modelship) in the runtime directory C(/run/user/UID)
    of other users; C(.cache/modelship/locks) in the home directory; C(/tmp/modelship-UID).

    :raises ModelshipError: none can be used; the message names each with the reason.
    """
    reasons = []
    for path in _lock_directories():
        try:
            _private_directory(path)
        except OSError as exc:
            reasons.append(f"{path}: {exc.strerror or exc}")
        else:
            return path
    raise ModelshipError(
        f"there is no directory for lock files ({'; '.join(reasons)}): make one of them a directory that user {os.geteuid()} "
        "owns and can write",
        kind="file",
    )


@contextlib.contextmanager
def locked_by_name(name: str) -> t.Iterator[None]:
    """Hold the lock *name* of this user in :func:`lock_directory`; the directory is removed when it is empty.

    :raises ModelshipError: see :func:`locked` and :func:`lock_directory`.
    """
    folder = lock_directory()
    try:
        with locked(os.path.join(folder, f"{name}.lock"), 0o700):
            yield
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _lock_directories() -> list[str]:
    user = os.geteuid()
    runtime = f"/run/user/{user}" if user else "/run"
    found = [f"{runtime}/modelship"] if os.path.isdir(runtime) else []
    with contextlib.suppress(KeyError):
        found.append(os.path.join(pwd.getpwuid(user).pw_dir, ".cache", "modelship", "locks"))
    return [*found, f"/tmp/modelship-{user}"]  # noqa: S108 - checked to be this user's own


def _private_directory(path: str) -> None:
    """Create the directory *path* with mode 0700 where it is missing; make sure that it is this user's own.

    :raises OSError: it cannot be created, is a link, or belongs to somebody else.
    """
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise OSError(errno.ENOTDIR, "is not a directory")
    if found.st_uid != os.geteuid():
        raise OSError(errno.EPERM, f"belongs to user {found.st_uid}")
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.chmod(path, 0o700)


def _open_locked(path: str, directory_mode: int) -> int:
    """Return a descriptor of the locked file *path*.

    :raises ModelshipError: another process holds the lock, or the file is not trusted.
    :raises OSError: the file cannot be created.
    """
    folder = os.path.dirname(path) or "."
    for _attempt in range(_LOCK_ATTEMPTS):
        os.makedirs(folder, directory_mode, exist_ok=True)
        try:
            handle = _open_trusted(path, folder)
        except FileNotFoundError:  # another run has just removed the directory
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, path):
                return handle
        except BlockingIOError as exc:
            os.close(handle)
            raise ModelshipError(
                f"another run is working here (it holds {path}): wait for it to end, then run again", kind="locked"
            ) from exc
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # the run that held it has deleted the file
    raise ModelshipError(f"other runs keep taking the lock {path}: wait for them to end, then run again", kind="locked")


def _open_trusted(path: str, folder: str) -> int:
    # O_NONBLOCK: opening somebody's named pipe must not wait
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        handle = os.open(path, flags, 0o600)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise _untrusted(path, "is not a regular file") from exc
        raise
    try:
        found, user = os.fstat(handle), os.geteuid()
        _check_trusted(path, found, {user, 0, os.stat(folder).st_uid})
        if stat.S_IMODE(found.st_mode) != 0o600 and (user in (0, found.st_uid)):
            os.fchmod(handle, 0o600)  # an earlier version let others read it, and so hold it
    except BaseException:
        os.close(handle)
        raise
    return handle


def _check_trusted(path: str, found: os.stat_result, owners: set[int]) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _untrusted(path, "is not a regular file")
    if found.st_uid not in owners:
        raise _untrusted(path, f"belongs to user {found.st_uid}")
    if found.st_nlink > 1:  # another file of that owner, which would lose its mode
        raise _untrusted(path, "is a hard link to another file")


def _untrusted(path: str, why: str) -> ModelshipError:
    return ModelshipError(f"the lock file {path} {why}: remove it, then run again; nothing was changed", kind="file")


def _is_at(handle: int, path: str) -> bool:
    """Return whether *path* still leads to the open file *handle*."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False
