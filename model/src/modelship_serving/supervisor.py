# SPDX-License-Identifier: GPL-3.0-or-later
"""The process over several workers: forks them, replaces one that dies or is stuck, passes signals on.

Signals are blocked and taken one by one (``sigtimedwait``), so none of them interrupts anything. Their handlers are for
the workers, which have them from the start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import time
import traceback
import typing as t
from collections.abc import Callable, Sequence

from .errors import StartError
from .logs import Log
from .metrics import Row

_ENDING = (signal.SIGTERM, signal.SIGINT)
_TAKEN = (*_ENDING, signal.SIGHUP, signal.SIGCHLD)
#: How often workers are looked at. A worker's loop turns about as often.
_LOOK_SECONDS = 1.0
#: Looks at which a worker's event loop has not turned since the one before, until the worker is taken for stuck. Far more
#: than a loop is held up by what is run in it (milliseconds: longer runs of the model are those of a thread); not a time
#: by the clock, so that it does not go on while the whole container is paused.
_STUCK_LOOKS = 30
#: A worker is begun anew at most this often; one that cannot get ready again after twice the time each time, up to the most.
_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 1.0, 30.0


@dataclasses.dataclass
class _Slot:
    """The place of a worker, and of those that follow it."""

    number: int
    row: Row
    pid: int = 0
    since: float = 0.0
    #: It has been ready once: what the server is made of works, and an end has other reasons.
    proved: bool = False
    #: How many ended one after the other before they were ready.
    failures: int = 0
    due: float = 0.0
    beats: int = 0
    looks: int = 0


class Supervisor:
    """Keeps workers running.

    :param work: the whole life of the worker of a number, in a process of its own; returns its exit code.
    :param rows: what each worker says of itself.
    """

    def __init__(self, work: Callable[[int], int], rows: Sequence[Row], log: Log) -> None:
        self._work = work
        self._log = log
        self._slots = [_Slot(number, row) for number, row in enumerate(rows)]
        # Workers say here why they cannot start.
        self._reports_out, self._reports_in = os.pipe()
        os.set_blocking(self._reports_out, False)
        self._mask: set[t.Any] = set()
        self._failure = ""

    def run(self) -> None:
        """Begin the workers and return once SIGTERM or SIGINT has come, or a worker could not even start."""
        # Were it ignored, as a parent may leave it, nobody would hear of a worker's end.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)
        for slot in self._slots:
            self._start(slot)
        look = time.monotonic() + _LOOK_SECONDS
        while not self._failure:
            now = time.monotonic()
            due = min([look, *(slot.due for slot in self._slots if not slot.pid)])
            info = signal.sigtimedwait(_TAKEN, max(0.0, due - now))
            if info is not None and info.si_signo in _ENDING:
                return
            if info is not None and info.si_signo == signal.SIGHUP:
                self._send(signal.SIGHUP)
            self._reap()
            now = time.monotonic()
            for slot in self._slots:
                if not slot.pid and slot.due <= now and not self._failure:
                    self._start(slot)
            if now >= look:
                look = now + _LOOK_SECONDS
                self._look()

    def stop(self, seconds: float) -> int:
        """Pass SIGTERM on, wait so long for the workers to end, and return the exit code.

        :raises StartError: a worker could not even start.
        """
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self._living() and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait([signal.SIGCHLD], min(left, _LOOK_SECONDS))
            for pid, _status in _ended():
                self._forget(pid)
        self._send(signal.SIGKILL)
        if self._failure:
            raise StartError(self._failure)
        return 0

    # --- workers ---

    def _start(self, slot: _Slot) -> None:
        slot.since = time.monotonic()
        slot.beats = slot.looks = 0
        try:
            slot.pid = os.fork()
        except OSError as exc:
            self._over(slot, {"error": f"cannot fork: {exc.strerror}"})
            return
        if slot.pid:
            return
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
            code = self._work(slot.number)
        except StartError as exc:
            os.write(self._reports_in, str(exc).encode()[:4000] + b"\n")
        except Exception as exc:  # noqa: BLE001 - told in the log, as nobody else hears of it
            lines = "".join(traceback.format_exception(exc))
            self._log.error("worker failed", worker=slot.number, error=repr(exc), traceback=lines)
        finally:
            os._exit(code)

    def _reap(self) -> None:
        for pid, status in _ended():
            slot = self._forget(pid)
            if slot is None:
                continue  # as PID 1: an orphan that was ours to reap
            report = self._report()
            self._over(slot, {"code": os.waitstatus_to_exitcode(status), **({"error": report} if report else {})})

    def _over(self, slot: _Slot, why: dict[str, t.Any]) -> None:
        """Have a worker follow the one that ended; or give up where none has ever got ready in its place."""
        now = time.monotonic()
        if slot.row.ready:
            slot.proved, slot.failures = True, 0
            slot.due = slot.since + _PAUSE_SECONDS  # one that dies at once must not eat the machine
        else:
            slot.due = now + min(_PAUSE_SECONDS * 2**slot.failures, _MOST_PAUSE_SECONDS)
            slot.failures += 1
        slot.row.reset()  # what it had in flight is gone
        if not slot.proved:
            code = f"worker {slot.number} ended with code {why.get('code')} before it was ready"
            self._failure = self._failure or why.get("error", code)
            return
        pause = round(max(0.0, slot.due - now), 1)
        self._log.error("worker ended, starting another", worker=slot.number, pause_seconds=pause, **why)

    def _report(self) -> str:
        """Return why a worker could not start; several would say the same, so only the first counts."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self._reports_out, 65536).decode(errors="replace").splitlines()[0]
        return ""

    def _look(self) -> None:
        """Kill workers that are stuck: of these nobody else hears as long as others answer the probes."""
        for slot in self._slots:
            beats = slot.row.beats
            if not slot.pid or not slot.row.ready or beats != slot.beats:
                slot.beats, slot.looks = beats, 0
                continue
            slot.looks += 1
            if slot.looks >= _STUCK_LOOKS:
                slot.looks = 0
                self._log.error("worker is stuck, killing it", worker=slot.number, seconds=_STUCK_LOOKS * _LOOK_SECONDS)
                _kill(slot.pid, signal.SIGKILL)

    def _living(self) -> list[int]:
        return [slot.pid for slot in self._slots if slot.pid]

    def _send(self, number: signal.Signals) -> None:
        for pid in self._living():
            _kill(pid, number)

    def _forget(self, pid: int) -> _Slot | None:
        for slot in self._slots:
            if slot.pid == pid:
                slot.pid = 0
                return slot
        return None


def _ended() -> list[tuple[int, int]]:
    """Return the processes that have ended, with their statuses."""
    found = []
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            found.append(ended)
    return found


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
