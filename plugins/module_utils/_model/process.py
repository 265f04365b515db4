# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Running a child process that reports in lines, and that never outlives its parent."""

from __future__ import annotations

import collections
import contextlib
import ctypes
import dataclasses
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import typing as t

from .._core.errors import ModelshipError
from .._core.files import explained

_CHUNK = 1 << 16
#: A line longer than this is no report: bytes.
_LONGEST_LINE = 64 << 20
#: How much of what the child writes to stderr is kept: bytes.
_TAIL = 16 << 10
#: How often the loop looks whether the child has ended, in seconds.
_TICK = 0.5
#: How long a child that is told to end may take before it is killed, in seconds.
_GRACE = 3.0

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a child ended.

    :param code: its exit status; negative where a signal ended it.
    :param log: the last lines it wrote to stderr.
    """

    code: int
    log: list[str]


class StartError(ModelshipError):
    """The program cannot be run at all."""


class StoppedError(ModelshipError):
    """The run was told to stop, or nobody reads its answer any more."""

    def __init__(self, message: str) -> None:
        super().__init__(message, kind="interrupted")


def run_lines(
    argv: list[str],
    *,
    stdin: bytes,
    environment: t.Mapping[str, str],
    on_line: t.Callable[[bytes], None],
    timeout: float | None = None,
) -> Finished:
    """Run *argv* with *stdin* as its input and hand each line of its stdout to *on_line*.

    The child leads a process group of its own, which is ended when this process gets SIGTERM, SIGINT or SIGHUP, when
    the reader of this process's stdout goes away (an interrupted Ansible run), when *timeout* seconds have passed, and
    when *on_line* raises; the kernel kills the child where this process is killed (Linux, ``PR_SET_PDEATHSIG``).

    :raises StartError: *argv* is no program that can be run.
    :raises ModelshipError: the time is up (kind ``timeout``) or the run was told to stop (kind ``interrupted``).
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:  # the parent died before the line above
                os._exit(1)

    with _input(stdin) as request, _signals_raise():
        try:
            child = subprocess.Popen(
                argv,
                stdin=request,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(environment),
                cwd="/",
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as exc:
            raise StartError(exc.strerror or str(exc)) from exc
        try:
            return _follow(child, on_line, timeout)
        finally:
            _end(child)


@contextlib.contextmanager
def _input(data: bytes) -> t.Iterator[t.IO[bytes]]:
    """Yield a file, not a pipe: a child that never reads its input cannot block this process."""
    with contextlib.ExitStack() as stack:
        with explained(tempfile.gettempdir()):
            request = stack.enter_context(tempfile.TemporaryFile())
            request.write(data)
            request.seek(0)
        yield request


def _follow(child: subprocess.Popen[bytes], on_line: t.Callable[[bytes], None], timeout: float | None) -> Finished:
    if child.stdout is None:
        raise AssertionError
    if child.stderr is None:
        raise AssertionError
    out, err = child.stdout.fileno(), child.stderr.fileno()
    deadline = None if timeout is None else time.monotonic() + timeout
    rest = b""
    tail: collections.deque[bytes] = collections.deque()
    poller = select.poll()
    poller.register(out, select.POLLIN)
    poller.register(err, select.POLLIN)
    poller.register(1, 0)  # asks only for the news that nobody reads this process's answer
    open_pipes = {out, err}
    while open_pipes:
        left = _TICK if deadline is None else min(_TICK, deadline - time.monotonic())
        if left <= 0:
            raise ModelshipError(f"stopped after {timeout:g} s, the limit set by timeout", kind="timeout")
        ended = child.poll() is not None
        events = poller.poll(left * 1000)
        for handle, event in events:
            if handle == 1:
                poller.unregister(1)
                if event & (select.POLLERR | select.POLLHUP):
                    raise StoppedError("stopped: nobody waits for the answer any more")
                continue
            data = os.read(handle, _CHUNK)
            if not data:
                poller.unregister(handle)
                open_pipes.discard(handle)
            elif handle == err:
                tail.append(data)
                while sum(map(len, tail)) - len(tail[0]) >= _TAIL:
                    tail.popleft()
            else:
                *lines, rest = (rest + data).split(b"\n")
                if len(rest) > _LONGEST_LINE:
                    raise ModelshipError("the process writes without end and reports nothing", kind="internal")
                for line in lines:
                    on_line(line)
        if ended and not events:  # a grandchild may hold the pipes open for ever
            break
    if rest:
        on_line(rest)
    while child.poll() is None:  # its output has ended, so it is about to
        if deadline is not None and time.monotonic() > deadline:
            raise ModelshipError(f"stopped after {timeout:g} s, the limit set by timeout", kind="timeout")
        time.sleep(0.01)
    text = b"".join(tail)[-_TAIL:].decode(errors="replace")
    return Finished(code=child.returncode, log=[line for line in text.splitlines() if line.strip()])


def _end(child: subprocess.Popen[bytes]) -> None:
    """Make sure that the child's process group is gone, and close the pipes."""
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            pass
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdout, child.stderr):
        if stream is not None:
            stream.close()


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


@contextlib.contextmanager
def _signals_raise() -> t.Iterator[None]:
    """While the body runs, SIGTERM, SIGINT and SIGHUP raise :class:`StoppedError` once; later ones are ignored."""
    caught = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def handler(number: int, _frame: object) -> None:
        for other in caught:
            signal.signal(other, signal.SIG_IGN)
        raise StoppedError(f"stopped by {signal.Signals(number).name}")

    before = {number: signal.signal(number, handler) for number in caught}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous if previous is not None else signal.SIG_DFL)
