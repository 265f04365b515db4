# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing so that a kill or a full disk loses nothing, and locks that die with their process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import typing as t
import zipfile

from .errors import ModelError

#: The earliest time a zip entry can carry; it stands for "no time".
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_atomic(path: str, data: bytes) -> None:
    """Replace the file at *path* in one step; readers see the old or the new content, never a part."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def locked(path: str, doing: str, *, wait: bool = False) -> t.Iterator[None]:
    """Hold an exclusive lock on the file *path* (made if absent) for the body.

    :param doing: what another process that holds it would be doing, for the message.
    :param wait: wait for the other process rather than fail.
    :raises ModelError: another process holds it (kind ``request``).
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # for its owner alone: who can read a lock file can hold it
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise ModelError("request", f"another process is {doing} (it holds {path}): wait for it to end") from None
        yield
    finally:
        os.close(handle)


def write_zip(path: str, entries: t.Iterable[tuple[str, bytes]], *, compress: bool) -> None:
    """Write a zip whose bytes depend on nothing but *entries*: fixed times, modes and order."""
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries:
            info = zipfile.ZipInfo(name, _ZIP_EPOCH)
            info.external_attr = 0o644 << 16
            info.compress_type = method
            archive.writestr(info, data)
