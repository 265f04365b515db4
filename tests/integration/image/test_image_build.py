"""image_build with Debian's packages and real wheels, run by a real Docker Engine; and the builder docker."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._oci.builders import build_image
from ansible_collections.modelship.core.plugins.module_utils._oci.layout import Layout
from ansible_collections.modelship.core.plugins.module_utils._oci.push import push_image

from .conftest import Registry

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = """
import json, os, sys
import msgspec

def writable(path):
    try:
        open(path + "/probe", "w").close()
    except OSError:
        return False
    return True

print(json.dumps({
    "user": os.getuid(),
    "msgspec": msgspec.json.encode({"a": 1}).decode(),
    "compiled": [module.__cached__ for module in (json, msgspec) if not os.path.exists(module.__cached__)],
    "release": sorted(os.listdir("/opt/modelship/release")),
    "writable": [path for path in ("/", "/opt/modelship/lib") if writable(path)],
}))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A runtime that tells what it sees, one locked wheel, a release; and a cache for all tests of this file."""
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("NO DEBIAN TOOLS: base.bootstrap needs apt-get and dpkg-deb")
    folder = tmp_path_factory.mktemp("inputs")
    lock = (ROOT / "model" / "locks" / "serving-litert.txt").read_text()
    requirement = re.search(r"^msgspec==(?:[^\n]*\\\n)*[^\n]*", lock, flags=re.MULTILINE)
    assert requirement is not None
    (folder / "requirements.txt").write_text(requirement.group(0) + "\n")
    runtime = folder / "modelship_serving"
    runtime.mkdir()
    (runtime / "__init__.py").write_text("")
    (runtime / "__main__.py").write_text(PROGRAM)
    release = folder / "release"
    release.mkdir()
    (release / "release.json").write_text(json.dumps({"name": "digits", "files": {}}))
    return {
        "name": "digits",
        "builder": "oci",
        "cache": str(folder / "cache"),
        "base": {"bootstrap": {}},
        "requirements": str(folder / "requirements.txt"),
        "runtime": str(runtime),
        "release": str(release),
        "python_interpreter": sys.executable,
    }


def build(inputs: dict[str, Any], dest: Path, *, check: bool = False, **options: Any) -> Outcome:
    return build_image({**inputs, "dest": str(dest), **options}, Context(check=check))


@pytest.fixture(scope="module")
def built(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The image and its layout."""
    dest = tmp_path_factory.mktemp("built") / "layout"
    outcome = build(inputs, dest)
    assert outcome.changed
    return dest, outcome.result["image"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A real file system of so many megabytes, in memory."""
    mounted = tmp_path / "small"
    mounted.mkdir()

    def mount(megabytes: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(mounted)]
        refused = subprocess.run(command, capture_output=True, text=True)
        if refused.returncode:
            pytest.skip(f"NO FULL DISK TRIED: mounting is refused here: {refused.stderr.strip()}")
        return mounted

    yield mount
    subprocess.run(["umount", str(mounted)], capture_output=True)


# the package lists do not fit, the packages do not fit, the layers do not fit
@pytest.mark.parametrize("megabytes", [24, 60, 90])
def test_a_full_disk_is_called_so_and_a_larger_one_goes_on(
    inputs: dict[str, Any], small_disk: Callable[[int], Path], tmp_path: Path, megabytes: int
) -> None:
    cache = small_disk(megabytes)
    with pytest.raises(ModelshipError, match="no space left") as caught:
        build(inputs, tmp_path / "layout", cache=str(cache))
    assert caught.value.kind == "disk_full"
    assert not (tmp_path / "layout" / "index.json").exists()
    subprocess.run(["mount", "-o", "remount,size=1g", str(cache)], check=True)
    assert build(inputs, tmp_path / "layout", cache=str(cache)).changed


def test_idempotent(
    inputs: dict[str, Any], built: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dest, image = built
    # Neither the mirror nor pip nor the base's interpreter may be needed for what is there already.
    monkeypatch.setenv("PATH", "/nowhere")
    outcome = build({**inputs, "python_interpreter": "/nowhere/python"}, dest)
    assert not outcome.changed
    assert outcome.result["image"] == image
    assert not build(inputs, dest, check=True).changed


def test_the_same_digest_from_an_empty_cache(
    tmp_path: Path, inputs: dict[str, Any], built: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    _dest, image = built
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    lock = {"bootstrap": {"lock": image["lock"]}}
    previous = os.umask(0o077)
    try:
        again = build(inputs, tmp_path / "layout", cache=str(tmp_path / "cache"), base=lock).result["image"]
    finally:
        os.umask(previous)
    assert again["layers"] == image["layers"]
    assert again["digest"] == image["digest"]


def test_a_version_that_the_mirror_does_not_have(tmp_path: Path, inputs: dict[str, Any]) -> None:
    lock = [{"name": "libc6", "version": "0.1-1", "sha256": "0" * 64}]
    with pytest.raises(ModelshipError, match="no longer has this version") as caught:
        build(inputs, tmp_path / "layout", base={"bootstrap": {"lock": lock}})
    assert caught.value.kind == "package"
    assert "\n" not in caught.value.message


def test_a_package_that_does_not_exist(tmp_path: Path, inputs: dict[str, Any]) -> None:
    with pytest.raises(ModelshipError, match="no package 'no-such-package'"):
        build(inputs, tmp_path / "layout", base={"bootstrap": {"packages": ["no-such-package"]}})


def test_it_runs_read_only_and_without_root(
    docker_engine: str, registry: Registry, built: tuple[Path, dict[str, Any]]
) -> None:
    dest, image = built
    repository = f"{registry.host}/digits"
    reference = push_image({"layout": str(dest), "repository": repository}, Context()).result["push"]["reference"]
    try:
        done = subprocess.run(
            ["docker", "run", "--rm", "--read-only", "--user", "65532", "--cap-drop", "ALL", reference],
            capture_output=True, text=True,
        )  # fmt: skip
        ident = subprocess.run(
            ["docker", "image", "inspect", "--format", "{{.Id}}", reference], capture_output=True, text=True
        ).stdout.strip()
    finally:
        subprocess.run(["docker", "image", "rm", reference], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert ident == image["config_digest"]
    assert json.loads(done.stdout) == {
        "user": 65532,
        "msgspec": '{"a":1}',
        "compiled": [],
        "release": ["release.json"],
        "writable": [],
    }


def test_a_static_program_on_nothing_at_all(docker_engine: str, registry: Registry, tmp_path: Path) -> None:
    program = "/sbin/ldconfig"
    headers = subprocess.run(["readelf", "-l", program], capture_output=True, text=True).stdout
    if not headers or "INTERP" in headers:
        pytest.skip(f"NOT TESTED, {program} is no static program here, or readelf is not installed")
    options: dict[str, Any] = {
        "name": "static",
        "builder": "oci",
        "cache": str(tmp_path / "cache"),
        "base": {"scratch": True},
        "files": [
            {"src": program, "dest": "/opt/program", "mode": "0555"},
            {"link": "../../opt/program", "dest": "/usr/bin/known"},
        ],
        "config": {"entrypoint": ["known", "--version"]},
    }
    assert build(options, tmp_path / "layout").changed
    assert not build(options, tmp_path / "layout").changed
    wanted = {"layout": str(tmp_path / "layout"), "repository": f"{registry.host}/static"}
    reference = push_image(wanted, Context()).result["push"]["reference"]
    try:
        command = ["docker", "run", "--rm", "--read-only", "--cap-drop", "ALL", reference]
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        subprocess.run(["docker", "image", "rm", reference], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ldconfig ")


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Path]:
    """A Dockerfile that needs no base; the images built of it are removed."""
    folder = tmp_path / "context"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY hello /\nENV GREETING=hello\n")
    (folder / ".dockerignore").write_text("notes\n")
    (folder / "hello").write_text(str(tmp_path))
    (folder / "notes").write_text("one")
    yield folder
    images = subprocess.run(
        ["docker", "image", "ls", "--quiet", "--filter", "label=io.modelship.context"], capture_output=True, text=True
    ).stdout.split()
    for ident in images:
        marks = subprocess.run(["docker", "image", "inspect", ident], capture_output=True, text=True).stdout
        if "GREETING=hello" in marks:
            subprocess.run(["docker", "image", "rm", ident], capture_output=True)


def test_builder_docker(docker_engine: str, tmp_path: Path, context: Path, registry: Registry) -> None:
    pytest.importorskip("docker", reason="the Docker SDK for Python is not installed")
    dest = tmp_path / "layout"
    options = {
        "name": "site",
        "builder": "docker",
        "cache": str(tmp_path / "cache"),
        "docker": {"context": str(context)},
    }
    predicted = build(options, dest, check=True)
    assert predicted.changed
    assert predicted.result["image"]["unknown"]
    assert not dest.exists()
    first = build(options, dest)
    assert first.changed
    stored = Layout(str(dest)).stored("site")
    assert stored is not None
    assert "GREETING=hello" in stored.config["config"]["Env"]
    assert not build(options, dest).changed

    (context / "notes").write_text("two")
    assert not build(options, dest).changed

    shutil.rmtree(dest)
    again = build(options, dest)
    assert "had built it before" in again.message
    assert again.result["image"]["digest"] == first.result["image"]["digest"]

    (context / "hello").write_text("changed")
    assert build(options, dest, check=True).changed
    assert build(options, dest).result["image"]["digest"] != first.result["image"]["digest"]
    assert push_image({"layout": str(dest), "repository": f"{registry.host}/site"}, Context()).changed

    (context / "Dockerfile").write_text("FROM scratch\nCOPY absent /\n")
    with pytest.raises(ModelshipError, match="Dockerfile does not build") as caught:
        build(options, dest)
    assert caught.value.kind == "build"
    assert "\n" not in caught.value.message
