"""Dependencies: locks, markers, what of a wheel goes into the image, and what pip's failures mean."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._oci import wheels
from ansible_collections.modelship.core.plugins.module_utils._oci.roots import Facts
from ansible_collections.modelship.core.plugins.module_utils._oci.store import Store
from ansible_collections.modelship.core.plugins.module_utils._oci.tree import Excludes

WHEEL = "demo-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder of wheels that pip can find, with one wheel."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("demo/__init__.py", "x = 1\n")
        archive.writestr("demo/tests/test_x.py", "")
        tool = zipfile.ZipInfo("demo/tool")
        tool.external_attr = 0o755 << 16
        archive.writestr(tool, "#!")
        archive.writestr("demo-1.0.data/platlib/demo/native.so", "ELF")
        archive.writestr("demo-1.0.data/scripts/demo", "#!python")
        archive.writestr("demo-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
        archive.writestr("demo-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("demo-1.0.dist-info/RECORD", "")
    return folder


@pytest.fixture
def offline(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip as a site would configure it that has no index, only a folder of wheels."""
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(index)), ("PIP_CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(name, value)


def lock(tmp_path: Path, text: str) -> str:
    path = tmp_path / "requirements.txt"
    path.write_text(text)
    return str(path)


def fetch(tmp_path: Path, requirements: str) -> list[str]:
    return wheels.fetch(Store(str(tmp_path / "cache")), requirements, sys.executable, "3.11", ["linux_x86_64"], "amd64")


def sha256(index: Path) -> str:
    return hashlib.sha256((index / WHEEL).read_bytes()).hexdigest()


def test_what_of_a_wheel_goes_into_the_image(index: Path) -> None:
    tree = wheels.wheels_tree([str(index / WHEEL)], Excludes(["*/tests/*"]))
    files = {
        path.removeprefix("opt/modelship/lib/"): entry.mode for path, entry in tree.items() if entry.kind == "file"
    }
    assert files == {
        "demo/__init__.py": 0o644,
        "demo/tool": 0o755,
        "demo/native.so": 0o644,
        "demo-1.0.dist-info/METADATA": 0o644,
        "demo-1.0.dist-info/WHEEL": 0o644,
    }
    assert tree.entries["opt/modelship/lib/demo/__init__.py"].content() == b"x = 1\n"


@pytest.mark.usefixtures("offline")
def test_wheels_are_fetched_once_and_then_come_from_the_cache(tmp_path: Path, index: Path) -> None:
    requirements = lock(tmp_path, f"demo==1.0 \\\n    --hash=sha256:{sha256(index)}\n    # via nothing\n")
    (first,) = fetch(tmp_path, requirements)
    assert wheels.describe([first]) == [{"name": "demo", "version": "1.0", "sha256": sha256(index)}]
    (index / WHEEL).unlink()
    assert fetch(tmp_path, requirements) == [first]


@pytest.mark.usefixtures("offline")
def test_markers_are_those_of_the_image_not_of_the_host(tmp_path: Path, index: Path) -> None:
    zeros = "0" * 64
    requirements = lock(
        tmp_path,
        f"demo==1.0 ; python_version == '3.11' and platform_machine == 'x86_64' --hash=sha256:{sha256(index)}\n"
        f"other==1.0 ; sys_platform == 'win32' --hash=sha256:{zeros}\n"
        f"another==1.0 ; python_version < '3.11' \\\n --hash=sha256:{zeros}\n",
    )
    assert [Path(path).name for path in fetch(tmp_path, requirements)] == [WHEEL]


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("demo==1.0\n", "missing_hash", "'demo==1.0' has no --hash"),
        ("demo==1.0 --hash=sha256:" + "0" * 64 + "\n", "hash_mismatch", "demo"),
        (
            "absent==2.0 --hash=sha256:" + "0" * 64 + "\n",
            "no_wheel",
            r"no wheel of absent==2\.0 for Python 3\.11 on linux/amd64",
        ),
        ("demo==1.0 ; nonsense --hash=sha256:" + "0" * 64 + "\n", "input", "marker is malformed"),
    ],
)
def test_failures_name_the_requirement_in_one_line(tmp_path: Path, text: str, kind: str, message: str) -> None:
    with pytest.raises(ModelshipError, match=message) as caught:
        fetch(tmp_path, lock(tmp_path, text))
    assert caught.value.kind == kind
    assert "\n" not in caught.value.message


def test_an_index_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setenv("PIP_RETRIES", "1")
    # Port 9 (discard) of this machine: nothing listens there.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(ModelshipError, match="package index does not answer") as caught:
        fetch(tmp_path, lock(tmp_path, "demo==1.0 --hash=sha256:" + "0" * 64 + "\n"))
    assert caught.value.kind == "network"


def test_an_interpreter_without_pip(tmp_path: Path, index: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    python.chmod(0o755)
    requirements = lock(tmp_path, f"demo==1.0 --hash=sha256:{sha256(index)}\n")
    with pytest.raises(ModelshipError, match="has no pip: install it there"):
        wheels.fetch(Store(str(tmp_path / "cache")), requirements, str(python), "3.11", ["linux_x86_64"], "amd64")


def test_platform_tags() -> None:
    tags = wheels.platforms(Facts(libc="glibc", libc_version="2.28"), "amd64")
    assert tags[0] == "manylinux_2_28_x86_64"
    assert "manylinux_2_29_x86_64" not in tags
    assert tags[-3:] == ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    assert wheels.platforms(Facts(libc="musl", libc_version="1.2"), "arm64")[0] == "musllinux_1_2_aarch64"
