"""Runs ``ansible-test sanity`` on the built collection: ``python run.py COLLECTION.tar.gz WORK_FOLDER``.

ansible-test wants the collection at ``ansible_collections/<namespace>/<name>``, drops the environment's pip settings, and
downloads a pip bootstrap script; all three are set up here in a folder of our own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

PIP_BOOTSTRAP = "get_pip_24_2.py"


def pip_configuration() -> str:
    """Return the host's own pip settings (files and environment) as the text of one configuration file."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    settings = {}
    for line in listing.stdout.splitlines():
        name, separator, value = line.partition("=")
        section, dot, option = name.partition(".")
        if section in (":env:", "global", "install") and option and separator and dot:
            settings[option.lstrip(".")] = value.strip("'")
    return "[global]\n" + "".join(f"{option} = {value}\n" for option, value in sorted(settings.items()))


def main() -> int:
    """Set up and run; the exit status is ansible-test's."""
    archive, work = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    collection = work / "ansible_collections" / "modelship" / "core"
    shutil.rmtree(collection, ignore_errors=True)
    collection.mkdir(parents=True)
    with tarfile.open(archive) as bundle:
        bundle.extractall(collection, filter="data")
    # ansible-test lists files through git where it can, which is how it tells them from its own output
    (collection / ".gitignore").write_text("/tests/output/\n")
    subprocess.run(["git", "init", "-q"], cwd=collection, check=True)
    subprocess.run(["git", "add", "-A"], cwd=collection, check=True)

    home = work / "home"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).parent / "bootstrap_pip.py", cache / PIP_BOOTSTRAP)
    pip_home = home / ".config" / "pip"
    pip_home.mkdir(parents=True, exist_ok=True)
    (pip_home / "pip.conf").write_text(pip_configuration())

    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    ansible_test = Path(sys.executable).parent / "ansible-test"
    command = [str(ansible_test), "sanity", "--venv", "--python", python, "--color", "no", *sys.argv[3:]]
    return subprocess.call(command, cwd=collection, env={**os.environ, "HOME": str(home)})


if __name__ == "__main__":
    sys.exit(main())
