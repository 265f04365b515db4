"""Serving compared, side by side in one run: same machine, same model, same requests.

    python tests/bench/serving.py --keras model.keras --release RELEASE \
        --naive-python PYTHON --serving-python PYTHON

``--naive-python`` has TensorFlow and Flask, ``--serving-python`` what model/locks/serving-*.txt list. Each may be left out
(environment: MODELSHIP_NAIVE_PYTHON, MODELSHIP_SERVING_PYTHON); a contestant without an interpreter is left out, loudly.
Contestants take turns, and the turns are repeated (``--rounds``), so that a busy moment of the machine hits them all; the
best round of each counts. A new contestant is one more function in ``CONTESTANTS``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import load


@dataclasses.dataclass(frozen=True)
class Start:
    """How to start a contestant: a command, and what it adds to the environment."""

    command: list[str]
    environment: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Row:
    """What one contestant reached; ``start`` is seconds from its start to its first right answer, ``rss`` bytes."""

    name: str
    result: load.Result
    start: float
    rss: int


Options = argparse.Namespace


def naive(options: Options, port: int) -> Start | None:
    """Flask and ``model.predict``."""
    if not (options.naive_python and options.keras):
        return None
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return Start([options.naive_python, str(HERE / "naive_app.py"), options.keras, str(port)], quiet)


def modelship(options: Options, port: int) -> Start | None:
    """The serving runtime of this repository, one worker."""
    if not (options.serving_python and options.release):
        return None
    source = str(HERE.parents[1] / "model" / "src")
    environment = {
        "MODELSHIP_RELEASE": options.release,
        "MODELSHIP_HOST": "127.0.0.1",
        "MODELSHIP_PORT": str(port),
        "MODELSHIP_LOG_LEVEL": "warning",
        "PYTHONPATH": source,
    }
    return Start([options.serving_python, "-m", "modelship_serving"], environment)


#: The first is what the others are compared with.
CONTESTANTS: dict[str, Callable[[Options, int], Start | None]] = {
    "Flask + model.predict": naive,
    "modelship": modelship,
}


def sample(release: str | None) -> bytes:
    """Return a request body: one sample of whole numbers, four fifths zeros, as an image of a digit has."""
    size, name = 784, "image"
    if release:
        spec = json.loads((Path(release) / "release.json").read_text())["signature"]["inputs"][0]
        name, size = spec["name"], 1
        for axis in spec["shape"][1:]:
            size *= axis
    source = random.Random(1)  # noqa: S311 - the same body in every run
    values = [0 if source.random() < 0.8 else source.randrange(256) for _ in range(size)]
    return json.dumps({name: values}).encode()


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def first_answer(process: subprocess.Popen[bytes], port: int, body: bytes, began: float, log: Path) -> float:
    """Wait for the first answer; return the seconds since *began*.

    :raises SystemExit: the contestant ended or does not answer with 200.
    """
    while time.perf_counter() - began < 120:
        if process.poll() is not None:
            raise SystemExit(f"it ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            result = load.run(port, body, connections=1, seconds=0)
        except (OSError, load.LoadError):
            time.sleep(0.005)
            continue
        if result.failures:
            raise SystemExit("it does not answer the request with 200")
        return time.perf_counter() - began
    raise SystemExit("no answer within 120 s")


def resident(pid: int) -> int:
    """Return the resident bytes of the process and its descendants."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(resident(int(child)) for child in (task / "children").read_text().split())
    except OSError:
        pass  # it has just ended
    return total


def measure(name: str, options: Options, body: bytes) -> Row | None:
    """Start a contestant, load it, stop it; ``None`` where its interpreter was not given."""
    port = free_port()
    start = CONTESTANTS[name](options, port)
    if start is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        began = time.perf_counter()
        with log.open("wb") as stream:
            process = subprocess.Popen(
                start.command,
                env={**os.environ, **start.environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            ready = first_answer(process, port, body, began, log)
            load.run(port, body, connections=options.connections, seconds=options.seconds / 4)
            result = load.run(port, body, connections=options.connections, seconds=options.seconds)
            return Row(name, result, ready, resident(process.pid))
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def table(rows: list[Row]) -> str:
    """Return the figures as a Markdown table; ratios compare with the first row."""
    base = rows[0].result
    lines = [
        "| server | requests/s | p50 ms | p99 ms | memory MB | start to first answer s | rate | p99 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        found = row.result
        lines.append(
            f"| {row.name} | {found.rate:,.0f} | {found.p50 * 1e3:.2f} | {found.p99 * 1e3:.2f} | {row.rss / 1e6:.0f} | "
            f"{row.start:.2f} | {found.rate / base.rate:,.1f} x | 1/{base.p99 / found.p99:,.0f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run the comparison; the exit code is 1 where an answer was not 200 or a demanded ratio was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--keras", help="the Keras model that the naive app loads")
    parser.add_argument("--release", help="folder of a litert or onnx release of the same model")
    parser.add_argument("--naive-python", default=os.environ.get("MODELSHIP_NAIVE_PYTHON"))
    parser.add_argument("--serving-python", default=os.environ.get("MODELSHIP_SERVING_PYTHON"))
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0, help="of load on each contestant, each round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", action="append", choices=list(CONTESTANTS), help="may be given several times")
    parser.add_argument("--at-least", type=float, default=0, help="times the first one's rate that the last must reach")
    parser.add_argument("--json", help="file to write the figures to")
    options = parser.parse_args()
    body = sample(options.release)
    best: dict[str, Row] = {}
    for _ in range(options.rounds):
        for name in options.only or list(CONTESTANTS):
            row = measure(name, options, body)
            if row is None:
                print(f"LEFT OUT: {name}: its interpreter or its model was not given", file=sys.stderr)
                continue
            if name not in best or row.result.rate > best[name].result.rate:
                best[name] = row
    rows = list(best.values())
    if not rows:
        parser.error("nothing to measure: give at least one interpreter and its model")
    how = f"best of {options.rounds} rounds of {options.seconds:g} s"
    print(f"{options.connections} connections, {len(body)} bytes of JSON a request, {how}")
    print(table(rows))
    if options.json:
        Path(options.json).write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
    ratio = rows[-1].result.rate / rows[0].result.rate
    if options.at_least and (len(rows) < 2 or ratio < options.at_least):
        print(f"MISSED: {ratio:,.0f} times the rate, at least {options.at_least:g} were demanded", file=sys.stderr)
        return 1
    return 1 if any(row.result.failures for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
