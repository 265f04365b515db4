"""Running programs, ``docker`` above all, with one clear line when they fail."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path


class ClusterError(Exception):
    """The cluster cannot be had; the message says why and what to do."""


def say(text: str) -> None:
    """Tell people at the terminal what is going on."""
    print(f"cluster: {text}", file=sys.stderr, flush=True)


def run(
    *words: str | Path,
    data: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> str:
    """Run a program and return what it wrote to stdout; *data* is its stdin, *timeout* in seconds.

    :raises ClusterError: it is not installed, took too long, or failed; the message has its last lines.
    """
    argv = [str(word) for word in words]
    shown = " ".join(argv[:5])
    try:
        done = subprocess.run(argv, input=data or b"", capture_output=True, env=env, cwd=cwd, timeout=timeout)
    except FileNotFoundError as exc:
        raise ClusterError(f"{argv[0]} is not installed: install it and run again") from exc
    except subprocess.TimeoutExpired as exc:
        raise ClusterError(f"{shown} … did not end within {timeout:.0f} s") from exc
    except OSError as exc:
        raise ClusterError(f"{argv[0]} cannot be run: {exc.strerror}") from exc
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")
        if "No space left on device" in said or "no space left on device" in said:
            raise ClusterError(f"{shown} … found no space left on the disk: free some and run again")
        tail = "\n".join(said.strip().splitlines()[-15:])
        raise ClusterError(f"{shown} … ended with {done.returncode}:\n{tail}")
    return done.stdout.decode(errors="replace")


def docker(*words: str | Path, data: bytes | None = None, timeout: float | None = None) -> str:
    """Run ``docker`` and return its stdout.

    :raises ClusterError: no Docker Engine answers, or the command failed.
    """
    try:
        return run("docker", *words, data=data, timeout=timeout)
    except ClusterError as exc:
        if "Cannot connect to the Docker daemon" in str(exc):
            raise ClusterError("no Docker Engine runs here: start it (`make stand` does) and run again") from exc
        raise


def until(what: str, seconds: float, ready: Callable[[], bool], pause: float = 0.2) -> None:
    """Wait until *ready* says true.

    :raises ClusterError: it did not within *seconds*.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(pause)
