"""A server as a process group: started, waited for, weighed, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..stand import BenchError

_PATIENCE = 120.0


@contextlib.contextmanager
def running(argv: list[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program; end its whole process group when the context is left.

    :raises BenchError: it is not installed.
    """
    with log.open("wb") as stream:
        try:
            process = subprocess.Popen(
                argv,
                env=environment,
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        except OSError as exc:
            raise BenchError(f"{argv[0]} cannot be run ({exc.strerror}): `make stand` installs it") from exc
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
                break
        # whatever its first process left behind
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def wait_for(ask: Callable[[], object], alive: Callable[[], str | None]) -> None:
    """Return once ``ask()`` no longer raises :class:`OSError`, or :class:`ValueError` for a wrong answer.

    :param alive: returns ``None``, or why no answer can come any more.
    :raises BenchError: no right answer comes.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            ask()
        except (OSError, ValueError) as exc:
            reason = alive()
            if reason is None and time.monotonic() > end:
                reason = f"no right answer within {_PATIENCE:.0f} s: {exc}"
            if reason is not None:
                raise BenchError(reason) from None
            time.sleep(0.005)
        else:
            return


def family(pid: int) -> Iterator[Path]:
    """Yield the folder in ``/proc`` of a process and of each of its descendants."""
    folder = Path(f"/proc/{pid}")
    yield folder
    with contextlib.suppress(OSError):  # one that has just ended
        for task in (folder / "task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def resident(pid: int) -> int:
    """Return the resident bytes of the process and its descendants, pages that they share counted for each."""
    total = 0
    for folder in family(pid):
        with contextlib.suppress(OSError):
            for line in (folder / "status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
    return total


def processor_seconds(pid: int) -> float:
    """Return the processor time that the process and its descendants have taken so far, threads that have ended included.

    In steps of the clock tick, but exact within them: the kernel scales the two to the time that it has scheduled.
    """
    total = 0
    for folder in family(pid):
        with contextlib.suppress(OSError):
            # after the name, which may hold anything: utime and stime are fields 14 and 15 (proc(5))
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")
