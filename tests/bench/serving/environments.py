"""A virtual environment for each lock file, kept until that or the interpreter changes."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from ..stand import KEPT, Stand, command

FOLDER = KEPT / "environments"


def python_of(stand: Stand, lock: Path) -> Path:
    """Return the interpreter of an environment that holds what *lock* lists, and nothing else.

    :raises BenchError: a package cannot be installed.
    """
    name = lock.stem
    content = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = FOLDER / f"{name}-{content}"
    python, complete = folder / "bin" / "python", folder / "complete"
    if complete.is_file():
        return python
    stand.say(f"serving: installing {name}")
    for old in FOLDER.glob(f"{name}-*"):
        shutil.rmtree(old)
    command(sys.executable, "-m", "venv", folder)
    # Without dependencies: a lock names every package that is wanted.
    command(
        *(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", "--require-hashes"),
        *("-r", lock),
    )
    complete.touch()
    return python
