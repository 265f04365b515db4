"""Running programs, ``docker`` above all, with one clear line when they fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from . import settings


class ClusterError(Exception):
    """The cluster cannot be had; the message says why and what to do."""


_BEGAN = time.monotonic()


def say(text: str) -> None:
    """Tell people at the terminal what is going on, with the seconds since the start."""
    print(f"cluster {time.monotonic() - _BEGAN:5.1f} s: {text}", file=sys.stderr, flush=True)


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


def play(playbook: str, variables: Mapping[str, object]) -> None:
    """Run *playbook* of this folder on this machine, with the checkout's own collection.

    :raises ClusterError: Ansible is not installed, or a task failed.
    """
    beside = Path(sys.executable).parent / "ansible-playbook"
    program = str(beside) if beside.exists() else shutil.which("ansible-playbook")
    if not program:
        raise ClusterError("ansible-playbook is not installed: `make setup` installs it")
    environment = {**os.environ, "ANSIBLE_CONFIG": str(settings.ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    given = json.dumps({"ansible_python_interpreter": sys.executable, **variables})
    run(
        program, "-i", "localhost,", "-c", "local", "-e", given, settings.HERE / playbook,
        env=environment, cwd=settings.ROOT,
    )  # fmt: skip


def until(what: str, seconds: float, ready: Callable[[], bool], pause: float = 0.2) -> None:
    """Wait until *ready* says true.

    :raises ClusterError: it did not within *seconds*.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(pause)
