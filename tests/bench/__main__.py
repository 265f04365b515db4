"""``make bench``: figures of this collection and of what one would write without it, side by side in one run.

Every time is the best of several turns, and contestants take turns, so that a busy moment of the machine hits both. The
table goes to stdout, what is going on to stderr, and all single measurements to ``.cache/bench/figures.json``. The exit code
is 1 where a goal is missed or a figure could not be measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import signal
import sys
import time
from typing import Any

from .stand import KEPT, ROOT, BenchError, Stand

# The collection as Ansible sees it, and importable from here.
sys.path.insert(0, str(ROOT / ".build"))

from . import image, kubernetes, runs, serving
from .figures import Figure, table

CONTESTANTS = {
    **serving.SECTIONS,
    image.SECTION: image.CONTESTANT,
    image.IN_PLAYBOOK: image.IN_PLAYBOOK_CONTESTANT,
    runs.SECTION: runs.CONTESTANT,
    kubernetes.SECTION: kubernetes.CONTESTANT,
    kubernetes.IN_PLAYBOOK: kubernetes.IN_PLAYBOOK_CONTESTANT,
}


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _servers(stand: Stand, trainer: str, options: argparse.Namespace) -> serving.Result:
    release, keras = serving.released(stand, trainer)
    return serving.measure(stand, release, keras, trainer, options.seconds, options.rounds)


def main() -> int:
    """Measure, print, write down."""
    # So that a SIGTERM takes everything back as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("part", nargs="?", choices=["all", "serving"], default="all", help="only this part")
    parser.add_argument("--seconds", type=_positive, default=serving.SECONDS, help="of each measurement of a server")
    parser.add_argument("--rounds", type=_positive, default=serving.ROUNDS, help="turns of each server")
    options = parser.parse_args()
    trainer = shutil.which(os.environ.get("MODELSHIP_TRAINER_PYTHON", ""))
    if not trainer:
        print(
            "MODELSHIP_TRAINER_PYTHON must name an interpreter with TensorFlow: `make bench` sets it", file=sys.stderr
        )
        return 1
    figures: list[Figure] = []
    times: dict[str, list[float]] = {}
    servers: serving.Result | None = None
    failures: list[str] = []
    began = time.monotonic()
    try:
        with Stand() as stand:
            if options.part == "serving":
                servers = _servers(stand, trainer, options)
                figures += servers.figures
            else:
                line = runs.measure(stand, trainer)
                for part in ("serving", "image"):
                    try:
                        if part == "serving":
                            servers = _servers(stand, trainer, options)
                            figures += servers.figures
                        else:
                            rows, times = image.measure(stand, line.release)
                            figures += rows
                    except BenchError as exc:
                        failures.append(f"{part}: {exc}")
                figures += line.figures
                try:
                    figures += kubernetes.measure(stand)
                except BenchError as exc:
                    failures.append(f"kubernetes: {exc}")
    except BenchError as exc:
        failures.append(str(exc))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if figures:
        print(f"\n{os.cpu_count()} cores, {platform.machine()}, load {os.getloadavg()[0]:.1f}, ", end="")
        print(f"{time.monotonic() - began:.0f} s; contestants take turns, each time is its best (starts: the median);")
        print("ratio: how many times better modelship is, below 1: worse; goal `less`: better than the contestant\n")
        if servers is not None:
            failures += servers.unjudged
            print(
                f"One worker each, {options.rounds} rounds of {options.seconds} s; by requests a second at 8 connections\n"
            )
            print(servers.overview + "\n")
            for label, reason in servers.left_out.items():
                print(f"left out: {label}: {reason}")
        print(table(figures, CONTESTANTS))
        document: dict[str, Any] = {
            "figures": [{**dataclasses.asdict(each), "times_better": each.times_better} for each in figures],
            "seconds": times,
            "servers": servers.document if servers else {},
            "servers_left_out": servers.left_out if servers else {},
            "failures": failures,
        }
        (KEPT / "figures.json").write_text(json.dumps(document, indent=1) + "\n")
        print(f"\nAs JSON, with each turn's time: {(KEPT / 'figures.json').relative_to(ROOT)}")
    for failure in failures:
        print(f"NOT MEASURED: {failure}", file=sys.stderr)
    missed = [each.name.strip() for each in figures if each.goal and not each.goal[1]]
    if missed:
        print(f"MISSED: {'; '.join(missed)}", file=sys.stderr)
    return 1 if failures or missed else 0


if __name__ == "__main__":
    sys.exit(main())
