# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The dependencies layer: wheels fetched by the host's pip under a lock of hashes, unpacked by ourselves.

pip brings the host's own configuration (index, proxy, certificates); it never runs for the host's interpreter here, always for
the one in the image. Source of the wheel's layout: PyPA binary distribution format.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import typing as t
import zipfile

from .._core.content import sha256_file
from .._core.errors import ModelshipError
from .._core.files import explained, no_space, says_no_space
from .roots import Facts
from .store import Store
from .tree import FILE, Entry, Excludes, Tree

LIBRARY = "opt/modelship/lib"

_MACHINES = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "arm": "armv7l",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "386": "i686",
}

# Runs in the interpreter whose pip fetches: pip evaluates markers for that interpreter, so they are evaluated here for the
# image's, with pip's own parser.
_MARKERS = r"""
import json, re, sys
from pip._vendor.packaging.markers import Marker
lines, environment = json.load(sys.stdin)
kept = []
for line in lines:
    head, options = (line.split(" --hash", 1) + [""])[:2] if " --hash" in line else (line, "")
    match = re.match(r"^([^;#]*?)\s*;\s*(.*?)\s*$", head)
    if match and not line.startswith("-"):
        if not Marker(match.group(2)).evaluate(environment):
            continue
        line = match.group(1) + (" --hash" + options if options else "")
    kept.append(line)
json.dump(kept, sys.stdout)
"""


def platforms(facts: Facts, architecture: str) -> list[str]:
    """Return pip's platform tags that a base can run, the newest first (PEP 600, PEP 656)."""
    machine = _MACHINES.get(architecture, architecture)
    if facts.libc == "musl":
        return [f"musllinux_1_{minor}_{machine}" for minor in (2, 1)]
    minor = int((facts.libc_version or "2.17").split(".")[1])
    tags = [f"manylinux_2_{each}_{machine}" for each in range(minor, 4, -1)]
    legacy = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    return tags + [f"{name}_{machine}" for least, name in legacy.items() if minor >= least]


def logical_lines(text: str) -> list[str]:
    """Return the requirements of a requirements file, continuation lines joined, comments dropped."""
    joined = re.sub(r"\\\r?\n", " ", text)
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines())
    return [re.sub(r"\s+", " ", line) for line in lines if line]


def check_locked(path: str) -> list[str]:
    """Return the requirements of the file *path*, checked that every one is pinned to hashes.

    :raises ModelshipError: one is not, or the file cannot be read.
    """
    with explained(path), open(path, encoding="utf-8") as stream:
        lines = logical_lines(stream.read())
    for line in lines:
        if not line.startswith("-") and "--hash" not in line:
            raise ModelshipError(
                f"{path}: '{line.split(';')[0].strip()}' has no --hash; lock the file (pip-compile --generate-hashes, or "
                "uv pip compile --generate-hashes)",
                kind="missing_hash",
            )
    return lines


def fetch(
    store: Store, requirements: str, python: str, python_version: str, tags: t.Sequence[str], architecture: str
) -> list[str]:
    """Fetch the wheels of the file *requirements* into the cache and return their paths, sorted by name.

    What the cache has is not fetched again; where it has all, no network is needed.

    :param python: the host's interpreter whose pip fetches.
    :raises ModelshipError: a hash is missing or another, there is no wheel for the platform, or the registry does not answer.
    """
    lines = _for_image(check_locked(requirements), python, python_version, architecture)
    wheels = store.folder("wheels")
    with tempfile.TemporaryDirectory(dir=store.folder("tmp")) as folder:
        selected = os.path.join(folder, "selected")
        os.mkdir(selected)
        lock = os.path.join(folder, "requirements.txt")
        with open(lock, "w", encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")
        target = [item for tag in tags for item in ("--platform", tag)]
        command = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:",
                   "--no-input", "--disable-pip-version-check", "--implementation", "cp",
                   "--python-version", python_version, *target, "--dest", selected, "--requirement", lock]  # fmt: skip
        found = os.listdir(wheels) and not _pip([*command, "--no-index", "--find-links", wheels])
        if not found:
            problem = _pip([*command, "--find-links", wheels])
            if problem:
                raise _explain(problem, requirements, python, python_version, architecture)
        names = sorted(name for name in os.listdir(selected) if name.endswith(".whl"))
        with explained(wheels):
            for name in names:
                os.replace(os.path.join(selected, name), os.path.join(wheels, name))
    return [os.path.join(wheels, name) for name in names]


def _for_image(lines: list[str], python: str, python_version: str, architecture: str) -> list[str]:
    if not any(";" in line for line in lines):
        return lines
    environment = {
        "implementation_name": "cpython",
        "implementation_version": python_version + ".0",
        "os_name": "posix",
        "platform_machine": _MACHINES.get(architecture, architecture),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": python_version + ".0",
        "python_version": python_version,
        "sys_platform": "linux",
        "extra": "",
    }
    done = _call([python, "-c", _MARKERS], json.dumps([lines, environment]))
    if done.returncode:
        raise (
            _no_pip(python)
            if "No module named" in done.stderr
            else ModelshipError(f"requirements: a marker is malformed ({done.stderr.strip().splitlines()[-1]})")
        )
    return t.cast("list[str]", json.loads(done.stdout))


def _call(command: list[str], given: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8"},
        )
    except OSError as exc:
        raise ModelshipError(
            f"the interpreter {command[0]} does not run ({exc.strerror}): set python_interpreter to one that has pip",
            kind="tool_missing",
        ) from exc


def _pip(command: list[str]) -> str:
    """Run pip and return what it said if it failed, else nothing."""
    done = _call(command)
    return (done.stderr + done.stdout).strip() or "pip failed" if done.returncode else ""


def _no_pip(python: str) -> ModelshipError:
    return ModelshipError(
        f"{python} has no pip: install it there (Debian package python3-pip), or set python_interpreter to one that has it",
        kind="tool_missing",
    )


def _explain(output: str, requirements: str, python: str, python_version: str, architecture: str) -> ModelshipError:
    if says_no_space(output):
        return no_space("the wheels that pip fetches (the cache, or pip's temporary folder)")
    if "No module named pip" in output:
        return _no_pip(python)
    if "DO NOT MATCH THE HASHES" in output:
        match = re.search(r"^\s+(\S+)(?: .*)?(?: from .*)?:?\n\s+Expected sha256", output, flags=re.MULTILINE)
        name = match.group(1).rstrip(":") if match else "a wheel"
        return ModelshipError(
            f"{requirements}: {name} has another sha256 than the lock names; it was changed on its way or the lock is old: "
            "check where it comes from, then lock anew",
            kind="hash_mismatch",
        )
    if "require-hashes mode" in output:
        match = re.search(r"^\s+(\S+==\S+) --hash", output, flags=re.MULTILINE)
        name = match.group(1) if match else "a requirement"
        return ModelshipError(f"{requirements}: {name} is not locked by a hash: lock it anew", kind="missing_hash")
    if re.search(
        r"NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError|Max retries exceeded|NameResolution", output
    ):
        return ModelshipError(
            "the package index does not answer: check the network and the pip configuration of this host (pip config list)",
            kind="network",
        )
    match = re.search(r"No matching distribution found for (\S+)", output)
    if match:
        return ModelshipError(
            f"{requirements}: there is no wheel of {match.group(1)} for Python {python_version} on linux/{architecture} "
            "with the hashes of the lock: lock another version, or use another base",
            kind="no_wheel",
        )
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    return ModelshipError(
        f"{requirements}: pip: {(errors or output.splitlines())[-1].removeprefix('ERROR: ')}", kind="requirements"
    )


def describe(wheels: t.Iterable[str]) -> list[dict[str, str]]:
    """Return name, version and sha256 of each wheel (PEP 427 file names)."""
    found = []
    for path in wheels:
        name, version = os.path.basename(path).split("-")[:2]
        found.append(
            {"name": name.replace("_", "-"), "version": version, "sha256": sha256_file(path).removeprefix("sha256:")}
        )
    return found


def wheels_tree(wheels: t.Sequence[str], excludes: Excludes) -> Tree:
    """Return the tree of *wheels* below ``/opt/modelship/lib``; *excludes* match paths relative to that folder.

    Scripts, headers and data files outside the library are left out, and so is ``RECORD``, which they would make wrong.

    :raises ModelshipError: a wheel is no zip archive.
    """
    tree = Tree()
    for path in wheels:
        try:
            with zipfile.ZipFile(path) as archive:
                for info in archive.infolist():
                    place = _place(info.filename)
                    if place and not info.is_dir() and place not in excludes:
                        executable = (info.external_attr >> 16) & 0o111
                        entry = Entry(
                            FILE, 0o755 if executable else 0o644, info.file_size, _member(path, info.filename)
                        )
                        tree.add(f"{LIBRARY}/{place}", entry)
        except (OSError, zipfile.BadZipFile) as exc:
            raise ModelshipError(
                f"{path} is not a wheel ({exc}): remove it and run again", kind="requirements"
            ) from exc
    return tree


def _member(path: str, name: str) -> t.Callable[[], t.BinaryIO]:
    def read() -> t.BinaryIO:
        # The member's stream keeps the archive's file open as long as it lives.
        with contextlib.closing(zipfile.ZipFile(path)) as archive:
            return t.cast(t.BinaryIO, archive.open(name))

    return read


def _place(name: str) -> str:
    first, _unused, rest = name.partition("/")
    if first.endswith(".data"):
        scheme, _unused, inside = rest.partition("/")
        return inside if scheme in ("purelib", "platlib") else ""
    if first.endswith(".dist-info") and rest in ("RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED"):
        return ""
    return name


def default_interpreter() -> str:
    """Return the interpreter that runs this module, whose pip fetches unless another is named."""
    return sys.executable
