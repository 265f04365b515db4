"""Serving compared: the same model, the same requests, one process each, in turns so that a busy moment hits both."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from . import load
from .figures import Figure, smaller
from .stand import KEPT, ROOT, BenchError, Stand, command, free_port

SECTION = "Serving one model, one process, 8 connections"
CONTESTANT = "Flask app that calls Keras' model.predict for each request"
LOCK = ROOT / "requirements" / "bench.txt"
CONNECTIONS = 8
SECONDS = 4.0
ROUNDS = 2


def measure(stand: Stand, release: Path, keras_model: Path, trainer: str) -> list[Figure]:
    """Serve *release* with this interpreter, and *keras_model* with the *trainer*'s interpreter and Flask.

    :raises BenchError: a server does not start, or gives another answer than 200.
    """
    body = sample(release)
    contestants: dict[str, tuple[list[str], dict[str, str]]] = {
        "naive": ([trainer, str(Path(__file__).with_name("naive_app.py")), str(keras_model)], _naive(trainer)),
        "ours": ([sys.executable, "-m", "modelship_serving"], _ours(release)),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for number in range(ROUNDS):
        for name, (argv, environment) in contestants.items():
            stand.say(f"serving, round {number + 1} of {ROUNDS}: {name}")
            found[name].append(_turn(stand, name, argv, environment, body))
    ours = {key: _best(found["ours"], key) for key in found["ours"][0]}
    naive = {key: _best(found["naive"], key) for key in found["naive"][0]}
    ratio = ours["rate"] / naive["rate"]
    return [
        Figure(SECTION, "requests a second", "/s", ours["rate"], naive["rate"], ("100 x", ratio >= 100)),
        smaller(SECTION, "p50 latency", "ms", ours["p50"], naive["p50"]),
        smaller(SECTION, "p99 latency", "ms", ours["p99"], naive["p99"]),
        smaller(SECTION, "process start to first answer", "s", ours["start"], naive["start"]),
        smaller(SECTION, "resident memory", "MB", ours["memory"], naive["memory"]),
    ]


def sample(release: Path) -> bytes:
    """Return a request's body: one sample of whole numbers, four fifths zeros, as an image of a digit has."""
    spec = json.loads((release / "release.json").read_text())["signature"]["inputs"][0]
    size = 1
    for axis in spec["shape"][1:]:
        size *= axis
    source = random.Random(1)  # noqa: S311 - the same body in every run
    values = [0 if source.random() < 0.8 else source.randrange(256) for _ in range(size)]
    return json.dumps({spec["name"]: values}).encode()


def first_answer(port: int, body: bytes, alive: Callable[[], str | None]) -> None:
    """Return when a request to 127.0.0.1:*port* is answered with 200.

    :param alive: returns ``None``, or why no answer can come any more.
    :raises BenchError: no answer, or another.
    """
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            result = load.run(port, body, connections=1, seconds=0)
        except (OSError, load.LoadError):
            reason = alive()
            if reason is not None:
                raise BenchError(reason) from None
            time.sleep(0.005)
            continue
        if result.failures:
            raise BenchError("a server answers the sample with another status than 200")
        return
    raise BenchError("a server gives no answer within 120 s")


def _best(turns: list[dict[str, float]], key: str) -> float:
    values = [turn[key] for turn in turns]
    return max(values) if key == "rate" else min(values)


def _naive(trainer: str) -> dict[str, str]:
    # Flask lies beside the trainer, not in it: what trains is not changed by what is measured.
    target = KEPT / "naive"
    marker = target / "bench.txt"
    if not marker.is_file() or marker.read_bytes() != LOCK.read_bytes():
        command(
            *(trainer, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes"),
            *("--upgrade", "--target", target, "-r", LOCK),
        )
        marker.write_bytes(LOCK.read_bytes())
    return {"PYTHONPATH": str(target), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


def _ours(release: Path) -> dict[str, str]:
    return {
        "MODELSHIP_RELEASE": str(release),
        "MODELSHIP_HOST": "127.0.0.1",
        "MODELSHIP_LOG_LEVEL": "warning",
        "PYTHONPATH": str(ROOT / "model" / "src"),
    }


def _turn(stand: Stand, name: str, argv: list[str], environment: dict[str, str], body: bytes) -> dict[str, float]:
    port = free_port()
    log = stand.folder / f"{name}.log"
    if name == "naive":
        argv = [*argv, str(port)]
    began = time.perf_counter()
    with _process(argv, {**os.environ, **environment, "MODELSHIP_PORT": str(port)}, log) as process:
        first_answer(port, body, lambda: None if process.poll() is None else f"{name} ended: {log.read_text()[-1500:]}")
        start = time.perf_counter() - began
        # Not counted: the first second warms caches on both sides.
        load.run(port, body, connections=CONNECTIONS, seconds=1)
        result = load.run(port, body, connections=CONNECTIONS, seconds=SECONDS)
        if result.failures:
            raise BenchError(f"{name}: {result.failures} of {result.requests} answers are not 200")
        memory = _resident(process.pid) / 1e6
    return {"rate": result.rate, "p50": result.p50 * 1e3, "p99": result.p99 * 1e3, "start": start, "memory": memory}


@contextlib.contextmanager
def _process(argv: list[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            argv, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield process
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
                break


def _resident(pid: int) -> int:
    """Return the resident bytes of the process and its descendants."""
    total = 0
    with contextlib.suppress(OSError):  # one that has just ended
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_resident(int(child)) for child in (task / "children").read_text().split())
    return total
