# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The failures a user can act on, and how the code of a project is blamed for its own."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
import re
import traceback
import typing as t

#: Classes of failure, as docs/formats.md lists them.
KINDS = ("request", "project", "parameter", "data", "release", "environment", "internal")


class ModelError(Exception):
    """A failure with one line for the user.

    :param kind: one of :data:`KINDS`.
    :param message: one line that names the offending value and says what to do.
    :param trace: traceback trimmed to the project's own frames, or ``None``.
    """

    def __init__(self, kind: str, message: str, trace: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = " ".join(message.split())
        self.trace = trace


def did_you_mean(word: str, known: t.Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of *known*, or the list of what is known."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    return f"; known: {', '.join(names)}" if names else "; none is known"


def first_line(error: BaseException, limit: int = 300) -> str:
    """Return the first telling line of an exception's text, at most *limit* characters."""
    for line in str(error).splitlines():
        if line.strip():
            return line.strip()[:limit]
    return type(error).__name__


#: What libraries tell their own callers to do: options and functions that nobody who runs this package can reach.
_ADVICE = re.compile(
    r"allow_pickle|pickle\.load|safe_mode|enable_unsafe|custom_objects|register_keras_serializable|trusted|raise an issue|"
    r"github\.com|https?://|\bplease\b|\bupgrad|^(?:try|make sure|consider|you (?:may|can|should|might)|if you|use|set|"
    r"pass|install|did you)\b",
    re.IGNORECASE,
)


def reason_of(error: BaseException, limit: int = 300) -> str:
    """Return why a library failed, without its advice: the first line of its text, at most *limit* characters.

    Libraries advise their callers to pass options of their own functions, which a user of this package cannot do.
    """
    sentences = re.split(r"(?<=[.!?])\s+", first_line(error, 4 * limit))
    kept = " ".join(sentence for sentence in sentences if not _ADVICE.search(sentence))
    return kept[:limit].rstrip() or type(error).__name__


def trimmed_traceback(error: BaseException, root: str) -> str | None:
    """Format *error* with only the frames whose files lie below *root*; ``None`` where there are none."""
    inside = os.path.join(os.path.realpath(root), "")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if os.path.realpath(frame.filename).startswith(inside)
    ]
    if not frames and not isinstance(error, SyntaxError):
        return None
    lines = ["Traceback (the project's frames):\n", *traceback.format_list(frames)]
    lines += traceback.format_exception_only(type(error), error)
    return "".join(lines)


class NotApplicable(Exception):  # noqa: N818 - an outcome, not a fault
    """A method of compression that cannot make this model smaller, and why.

    :param reason: one line that depends on nothing but the model, since it is written into the release.
    :param detail: what the tool said, for the log only.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@contextlib.contextmanager
def blame_project(root: str, doing: str) -> t.Iterator[None]:
    """Turn what the project's code raises while *doing* something into a ``project`` error with its own frames.

    Out of memory, a full disk and our own errors pass through.
    """
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except (Exception, SystemExit) as exc:
        if disk_full(exc):
            raise
        trace = trimmed_traceback(exc, root)
        raise ModelError("project", f"{doing} failed: {type(exc).__name__}: {first_line(exc)}", trace) from exc


def disk_full(error: BaseException) -> bool:
    """Tell whether *error* says that the disk is full; libraries wrap ENOSPC in errors of their own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error)
    return "No space left on device" in text or "errno = 28" in text
