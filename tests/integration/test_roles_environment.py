"""``python_environment`` with a real pip and a wheel made here; no network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import typing as t
import zipfile

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._python.environment import STAMP, ensure_environment

pytestmark = pytest.mark.integration


def wheel(folder: pathlib.Path, name: str, version: str, code: str) -> str:
    """Make a wheel (PEP 427) with one module and return its locked requirement."""
    files = {
        f"{name}.py": code,
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},{len(text)}\n"
        for path, text in files.items()
    )
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            archive.writestr(inside, text)
        archive.writestr(f"{name}-{version}.dist-info/RECORD", record + f"{name}-{version}.dist-info/RECORD,,\n")
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


class Bench:
    """An environment in a folder of its own, and wheels for it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        self.path = folder / "home" / "venv"
        self.one = wheel(self.wheels, "ms_one", "1.0", "NUMBER = 1\n")
        self.two = wheel(self.wheels, "ms_two", "1.0", "import ms_one\nNUMBER = 2\n")

    def run(self, requirements: str, *, check: bool = False, **more: t.Any) -> Outcome:
        options = {
            "path": str(self.path),
            "state": "present",
            "requirements": requirements,
            "python": sys.executable,
            "minimum_python": "3.11",
            "wheelhouse": str(self.wheels),
            "large": ["MS.one"],
            "check_imports": ["ms_one"],
            **more,
        }
        return ensure_environment(options, Context(check=check))

    def number(self, module: str) -> str:
        command = [str(self.path / "bin" / "python"), "-c", f"import {module}; print({module}.NUMBER)"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    def entries(self) -> list[str]:
        return sorted(os.listdir(self.path.parent)) if self.path.parent.exists() else []


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("environment"))


@pytest.fixture
def made(bench: Bench) -> Bench:
    bench.run(bench.one + bench.two)
    return bench


def test_check_mode_tells_what_it_would_make(tmp_path: pathlib.Path) -> None:
    fresh = Bench(tmp_path)
    told = fresh.run(fresh.one, check=True)
    assert told.changed
    assert told.difference
    assert told.difference.names == ["ms_one", "python"]
    assert fresh.entries() == []


def test_is_made_once(made: Bench) -> None:
    assert made.number("ms_two") == "2"
    before = (made.path / STAMP).stat().st_mtime_ns
    again = made.run(made.one + made.two)
    assert not again.changed
    assert again.result["environment"]["python"] == str(made.path / "bin" / "python")
    assert (made.path / STAMP).stat().st_mtime_ns == before


def test_a_changed_lock_replaces_it(made: Bench) -> None:
    newer = wheel(made.wheels, "ms_one", "1.1", "NUMBER = 11\n")
    told = made.run(newer + made.two, check=True)
    assert told.changed
    assert told.difference
    assert told.difference.names == ["ms_one"]
    assert made.number("ms_one") == "1"
    assert made.run(newer + made.two).changed
    assert made.number("ms_one") == "11"
    # the old one is deleted, and so is the lock: a link and one directory
    assert len(made.entries()) == 2


@pytest.mark.parametrize(
    ("requirement", "more", "message"),
    [
        (
            "ms_one==1.0 --hash=sha256:" + "0" * 64 + "\n",
            {},
            "a package on the index is not the one that was locked",
        ),
        (
            "ms_gone==1.0 --hash=sha256:" + "0" * 64 + "\n",
            {},
            "Could not find a version that satisfies the requirement ms_gone==1.0",
        ),
        ("", {"check_imports": ["ms_absent"]}, "No module named 'ms_absent'"),
    ],
)
def test_a_failure_leaves_the_old_one(made: Bench, requirement: str, more: dict[str, t.Any], message: str) -> None:
    entries = made.entries()
    with pytest.raises(ModelshipError) as caught:
        made.run(requirement, **more)
    assert message in caught.value.message
    assert "what was there before is untouched" in caught.value.message
    assert made.entries() == entries
    assert made.number("ms_one") == "1"


def test_what_a_killed_run_left_is_removed(made: Bench) -> None:
    left = made.path.parent / f"{made.path.name}-0123456789ab"
    left.mkdir()
    bystander = made.path.parent / f"{made.path.name}-backup"
    bystander.mkdir(exist_ok=True)
    (made.path / STAMP).unlink()  # as where the kill came before the stamp
    assert made.run(made.one + made.two).changed
    assert not left.exists()
    assert bystander.exists()
    assert made.number("ms_two") == "2"
    bystander.rmdir()


def test_a_lost_interpreter_is_repaired(made: Bench) -> None:
    python = made.path / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert made.run(made.one + made.two).changed
    assert made.number("ms_two") == "2"


def test_absent_removes_all_once(made: Bench) -> None:
    assert made.run("", state="absent", check=True).changed
    assert made.number("ms_one") == "1"
    assert made.run("", state="absent").changed
    assert not made.path.parent.exists()
    assert not made.run("", state="absent").changed


def test_bad_input_is_named(tmp_path: pathlib.Path) -> None:
    fresh = Bench(tmp_path)
    old = tmp_path / "old-python"
    answer = {"version": "3.9.2", "implementation": "CPython", "machine": "x", "prefix": "/", "venv": True}
    old.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    old.chmod(0o755)
    bare = tmp_path / "bare-python"
    bare.write_text(f"#!/bin/sh\necho '{json.dumps({**answer, 'version': '3.12.1', 'venv': False})}'\n")
    bare.chmod(0o755)
    for more, message in (
        ({"python": "no-such-python"}, "the interpreter 'no-such-python' is not on this host: install Python 3.11"),
        ({"python": "/bin/false"}, "the interpreter '/bin/false' is no working Python"),
        ({"python": str(old)}, "is Python 3.9.2: install Python 3.11 or later"),
        ({"python": str(bare)}, "install its venv and ensurepip (Debian: python3-venv)"),
        ({"path": str(tmp_path)}, "is there already and was not made here"),
        ({"requirements": "ms_one==1.0\n"}, "'ms_one==1.0' has no --hash"),
    ):
        with pytest.raises(ModelshipError) as caught:
            fresh.run(**{"requirements": fresh.one, **more})
        assert message in caught.value.message
        assert "\n" not in caught.value.message
