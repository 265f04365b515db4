"""The process over the workers: what it does when they die."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving import supervisor
from modelship_serving.errors import StartError
from modelship_serving.logs import Log
from modelship_serving.metrics import Counters, SharedCells
from modelship_serving.supervisor import Supervisor


class Server:
    """A supervisor in a process of its own; what its workers do is up to *live*, told the worker and which life it is."""

    def __init__(self, folder: Path, workers: int, live: Callable[[int, int], None]) -> None:
        self.counters = Counters(workers)
        self._lives = SharedCells(workers, 2)
        self._errors = folder / "stderr"
        self._live = live
        rows = [self.counters.row(number) for number in range(workers)]
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(os.open(self._errors, os.O_CREAT | os.O_WRONLY), 2)
            code = 99
            try:
                for number in (signal.SIGTERM, signal.SIGINT):
                    signal.signal(number, lambda *_unused: os._exit(0))
                over = Supervisor(self._work, rows, Log())
                over.run()
                code = over.stop(5)
            except StartError as exc:
                os.write(2, f"{exc}\n".encode())
                code = 1
            finally:
                os._exit(code)

    def _work(self, number: int) -> int:
        cells = self._lives.row(number)
        cells[0] += 1
        cells[1] = os.getpid()
        self._live(number, cells[0])
        row = self.counters.row(number)
        row.set_ready()
        while True:
            row.beat()
            time.sleep(0.01)

    def lives(self, worker: int) -> int:
        return self._lives.row(worker)[0]

    def worker(self, worker: int) -> int:
        return self._lives.row(worker)[1]

    def ready(self, *workers: int) -> bool:
        return all(self.counters.row(number).ready for number in workers)

    def wait(self) -> int:
        _pid, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def said(self) -> list[str]:
        return self._errors.read_text().splitlines()

    def events(self, message: str) -> list[dict[str, Any]]:
        return [event for event in map(json.loads, self.said()) if event["message"] == message]


Make = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setattr(supervisor, "_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(supervisor, "_MOST_PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(supervisor, "_LOOK_SECONDS", 0.05)
    made: list[Server] = []

    def make(workers: int, live: Callable[[int, int], None] = lambda _worker, _life: None) -> Server:
        made.append(Server(tmp_path, workers, live))
        return made[-1]

    yield make
    for server in made:
        if server.pid:
            os.kill(server.pid, signal.SIGKILL)
            server.wait()
        for number in range(2):
            if (pid := server.worker(number)) and Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_worker_that_dies_is_replaced_and_sigterm_ends_all(serve: Make):
    server = serve(2)
    until(lambda: server.ready(0, 1))
    os.kill(server.worker(0), signal.SIGKILL)
    until(lambda: server.lives(0) == 2 and server.ready(0))
    assert server.lives(1) == 1
    assert [event["code"] for event in server.events("worker ended, starting another")] == [-9]
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait() == 0
    assert not Path(f"/proc/{server.worker(0)}").exists()


def test_a_worker_that_cannot_start_ends_the_start_with_its_reason(serve: Make):
    def live(worker: int, _life: int) -> None:
        if worker == 1:
            raise StartError("the model cannot be loaded")

    server = serve(2, live)
    assert server.wait() == 1
    assert server.said() == ["the model cannot be loaded"]


def test_a_worker_that_is_killed_while_it_starts_ends_the_start(serve: Make):
    server = serve(2, lambda worker, _life: os._exit(7) if worker else None)
    assert server.wait() == 1
    assert server.said() == ["worker 1 ended with code 7 before it was ready"]


def test_a_successor_that_dies_before_it_is_ready_leaves_the_others_alone(serve: Make):
    """As the killer of processes without memory does it."""

    def live(worker: int, life: int) -> None:
        if worker == 0 and life == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if worker == 0 and life in (3, 4):
            raise StartError("no memory")
        if worker == 0 and life == 5:
            raise ZeroDivisionError("a fault")

    server = serve(2, live)
    until(lambda: server.ready(0, 1))
    other = server.worker(1)
    os.kill(server.worker(0), signal.SIGKILL)
    until(lambda: server.lives(0) > 1)
    # While it backs off, the end of another one is noticed at once.
    os.kill(other, signal.SIGKILL)
    until(lambda: server.lives(1) == 2)
    assert server.lives(0) < 5
    until(lambda: server.lives(0) == 6 and server.ready(0, 1))
    ended = [event for event in server.events("worker ended, starting another") if event["worker"] == 0]
    assert [event["code"] for event in ended] == [-9, -9, 1, 1, 1]
    assert [event["pause_seconds"] for event in ended[1:]] == [0.1, 0.2, 0.3, 0.3]
    assert [event.get("error") for event in ended] == [None, None, "no memory", "no memory", None]
    assert [event["error"] for event in server.events("worker failed")] == ["ZeroDivisionError('a fault')"]
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait() == 0


def test_a_worker_whose_loop_is_stuck_is_killed(serve: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "_STUCK_LOOKS", 6)
    server = serve(2)
    until(lambda: server.ready(0, 1))
    time.sleep(0.4)
    assert (server.lives(0), server.lives(1)) == (1, 1)
    os.kill(server.worker(1), signal.SIGSTOP)
    until(lambda: server.lives(1) == 2 and server.ready(0, 1))
    assert server.lives(0) == 1
    assert [event["worker"] for event in server.events("worker is stuck, killing it")] == [1]


def test_many_ends_at_once_and_a_signal_with_them(serve: Make):
    """The supervisor is told to end while its workers end by themselves: none is there any more that could be told."""
    for _turn in range(5):
        server = serve(2)
        until(lambda: server.ready(0, 1))  # noqa: B023 - called at once
        for number in range(2):
            os.kill(server.worker(number), signal.SIGKILL)
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait() == 0
        assert "Traceback" not in "\n".join(server.said())
