"""``python -m tests.soak``: the trials of reliability at full length, about a quarter of an hour.

Needs what the integration tests of the runtime need (``MODELSHIP_TRAINER_PYTHON`` with the onnx package). Prints figures as
it goes, and ends with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from . import checks


def main() -> int:
    """Run the trials and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="of overload")
    parser.add_argument("--requests", type=int, default=1_000_000, help="for the trial of memory")
    parser.add_argument("--kills", type=int, default=20, help="of workers under load")
    parser.add_argument("--only", choices=("memory", "killed", "overload", "slowloris"), help="one trial alone")
    options = parser.parse_args()
    trials = {
        "killed": checks.Trial("workers killed under load", lambda path: checks.killed(path, options.kills)),
        "slowloris": checks.Trial("slow clients", lambda path: checks.slowloris(path, min(60, options.minutes * 6))),
        "memory": checks.Trial("memory over many requests", lambda path: checks.memory(path, options.requests)),
        "overload": checks.Trial("twice the load", lambda path: checks.overload(path, options.minutes * 60)),
    }
    failed = 0
    for name, trial in trials.items():
        if options.only in (None, name):
            failed += not _tell(trial)
    return 1 if failed else 0


def _tell(trial: checks.Trial) -> bool:
    print(f"{trial.title} ...", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        try:
            figures = trial.run(Path(folder))
        except (AssertionError, TimeoutError) as exc:
            print(f"  FAILED after {time.monotonic() - began:.0f} s: {exc}", flush=True)
            return False
    for key, value in figures.items():
        print(f"  {key:20} {f'{value:.4g}' if isinstance(value, float) else value}", flush=True)
    print(f"  held, {time.monotonic() - began:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
