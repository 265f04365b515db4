"""image_build without network: idempotence, prediction, one layer a part, errors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.content import canonical_json, sha256_bytes
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Outcome
from ansible_collections.modelship.core.plugins.module_utils._oci import descriptors
from ansible_collections.modelship.core.plugins.module_utils._oci.layers import write_layer
from ansible_collections.modelship.core.plugins.module_utils._oci.layout import Layout
from ansible_collections.modelship.core.plugins.module_utils._oci.platforms import parse_platform
from ansible_collections.modelship.core.plugins.module_utils._oci.tree import Tree

Build = Callable[..., Outcome]
MakeRelease = Callable[[bytes], Path]


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    folder = tmp_path / "modelship_serving"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "__main__.py").write_text("print('serving')\n")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"never in an image")
    return folder


def settings_of(tmp_path: Path) -> dict[str, Any]:
    image = Layout(str(tmp_path / "layout")).stored("digits")
    assert image is not None
    settings: dict[str, Any] = image.config["config"]
    return settings


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def test_second_run_changes_nothing(tmp_path: Path, build: Build, make_release: MakeRelease, runtime: Path) -> None:
    options: dict[str, Any] = {"release": str(make_release(b"model")), "runtime": str(runtime), "bytecode": False}
    first = build(**options)
    assert first.changed
    assert [layer["role"] for layer in first.result["image"]["layers"]] == ["base", "runtime", "release"]
    before = snapshot(tmp_path / "layout")
    second = build(**options)
    assert not second.changed
    assert second.result == first.result
    assert not second.difference
    assert snapshot(tmp_path / "layout") == before


def test_same_digest_from_another_cache_and_other_times(
    tmp_path: Path, build: Build, make_release: MakeRelease, runtime: Path
) -> None:
    options: dict[str, Any] = {"release": str(make_release(b"model")), "runtime": str(runtime), "bytecode": False}
    first = build(**options)
    os.utime(runtime / "__main__.py", (1, 1))
    (runtime / "__main__.py").chmod(0o600)
    second = build(**options, dest=str(tmp_path / "other"), cache=str(tmp_path / "other-cache"))
    assert second.changed
    assert second.result["image"]["digest"] == first.result["image"]["digest"]


def test_a_new_release_makes_one_new_layer(build: Build, make_release: MakeRelease, runtime: Path) -> None:
    options: dict[str, Any] = {"runtime": str(runtime), "bytecode": False}
    first = build(**options, release=str(make_release(b"old"))).result["image"]
    outcome = build(**options, release=str(make_release(b"new")))
    second = outcome.result["image"]
    assert second["layers"][:-1] == first["layers"][:-1]
    assert second["layers"][-1]["digest"] != first["layers"][-1]["digest"]
    assert "built anew: release" in outcome.message
    assert outcome.difference is not None
    assert [name for name in outcome.difference.names if name.startswith("layer")] == ["layer 3 (release)"]


def test_check_mode_predicts_the_digest_where_all_layers_are_known(
    tmp_path: Path, build: Build, make_release: MakeRelease
) -> None:
    old, new = str(make_release(b"old")), str(make_release(b"new"))
    digests = {release: build(release=release).result["image"]["digest"] for release in (old, new)}
    before = snapshot(tmp_path)
    predicted = build(release=old, check=True)
    assert predicted.changed
    assert predicted.result["image"]["digest"] == digests[old]
    assert "unknown" not in predicted.result["image"]
    assert not build(release=new, check=True).changed
    assert snapshot(tmp_path) == before


def test_check_mode_before_anything_exists_names_what_is_unknown(tmp_path: Path, build: Build) -> None:
    before = snapshot(tmp_path)
    outcome = build(
        check=True,
        runtime=str(tmp_path / "none"),
        requirements=str(tmp_path / "none.txt"),
        requirements_exclude=["*.pyi", str(tmp_path / "none-excludes.txt")],
        release="",
    )
    image = outcome.result["image"]
    assert outcome.changed
    assert image["digest"] == ""
    assert set(image["unknown"]) == {"base", "base (bytecode)", "dependencies", "runtime", "release"}
    assert image["unknown"]["release"] == "there is no release yet"
    assert str(tmp_path / "none") in image["unknown"]["runtime"]
    assert snapshot(tmp_path) == before


def test_configuration(tmp_path: Path, build: Build, make_release: MakeRelease, runtime: Path) -> None:
    release = make_release(b"model")
    config = {"env": {"MODELSHIP_WORKERS": 2, "LANG": "C"}, "labels": {"team": "a"}, "stop_signal": "SIGINT"}
    build(release=str(release), runtime=str(runtime), bytecode=False, config=config)
    settings = settings_of(tmp_path)
    assert settings["User"] == "65532:65532"
    assert settings["Entrypoint"] == ["/usr/bin/python3", "-m", "modelship_serving"]
    assert "Cmd" not in settings
    assert settings["ExposedPorts"] == {"8080/tcp": {}}
    assert settings["StopSignal"] == "SIGINT"
    environment = dict(item.split("=", 1) for item in settings["Env"])
    assert environment["PYTHONPATH"] == "/opt/modelship/app:/opt/modelship/lib"
    assert environment["PATH"] == "/bin"
    assert environment["LANG"] == "C"
    assert environment["MODELSHIP_WORKERS"] == "2"
    assert settings["Labels"] == {
        "org.opencontainers.image.title": "digits",
        "io.modelship.name": "digits",
        "io.modelship.release": f"sha256:{release.name}",
        "team": "a",
    }


def test_an_image_of_base_and_configuration_alone(tmp_path: Path, build: Build) -> None:
    build(config={"entrypoint": ["/usr/sbin/haproxy"], "exposed_ports": [80, "443/tcp"], "user": "0"})
    settings = settings_of(tmp_path)
    assert settings["Entrypoint"] == ["/usr/sbin/haproxy"]
    assert settings["ExposedPorts"] == {"80/tcp": {}, "443/tcp": {}}
    assert settings["User"] == "0"
    assert "io.modelship.release" not in settings["Labels"]


def test_secrets_in_the_environment_are_not_shown(build: Build) -> None:
    outcome = build(config={"env": {"API_TOKEN": "hunter2"}})
    assert outcome.difference is not None
    assert "hunter2" not in json.dumps(outcome.difference.as_result())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"requirements": "/none.txt"}, "requirements: /none.txt is not a file"),
        ({"runtime": "/none"}, "runtime: /none is not a Python package"),
        ({"release": ""}, "release: the path is empty"),
        ({"release": "/none"}, "release: /none has no release.json"),
        ({"platform": "windows/amd64"}, "platform: 'windows/amd64'"),
        ({"platform": "linux/riscv64"}, "the base is for"),
        ({"base": {"layout": "/none"}}, "no OCI layout with an image in /none"),
        ({"base": {}}, "base: name one of bootstrap, image and layout"),
        ({"config": {"exposed_ports": ["http"]}}, "config.exposed_ports: 'http'"),
        ({"config": {"env": {"A": [1]}}}, "config.env.A"),
    ],
)
def test_bad_input_is_named(build: Build, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelshipError, match=message.replace("(", r"\(")) as caught:
        build(**options)
    assert "\n" not in caught.value.message


def test_a_base_without_python_says_to_set_bytecode_false(build: Build, runtime: Path) -> None:
    with pytest.raises(ModelshipError, match="set bytecode: false"):
        build(runtime=str(runtime))


def test_a_damaged_release_is_refused_and_the_image_stays(
    tmp_path: Path, build: Build, make_release: MakeRelease
) -> None:
    release = make_release(b"model")
    digest = build(release=str(release)).result["image"]["digest"]
    (release / "model" / "model.tflite").write_bytes(b"modem")
    with pytest.raises(ModelshipError, match="is damaged") as caught:
        build(release=str(release))
    assert caught.value.kind == "release"
    stored = Layout(str(tmp_path / "layout")).stored("digits")
    assert stored is not None
    assert stored.digest == digest


def test_a_release_whose_manifest_is_damaged_is_refused(build: Build, make_release: MakeRelease) -> None:
    release = make_release(b"model")
    (release / "release.json").write_text("{}")
    with pytest.raises(ModelshipError, match="its sha256 is not the folder's name"):
        build(release=str(release))


def test_compression_none_gives_plain_layers(build: Build, make_release: MakeRelease) -> None:
    image = build(release=str(make_release(b"model")), compression="none").result["image"]
    assert image["layers"][-1]["digest"] == image["layers"][-1]["diff_id"]
    assert image["layers"][-1]["size"] == image["layers"][-1]["uncompressed_size"]


def test_what_a_killed_run_left_is_swept_when_it_is_old(
    tmp_path: Path, build: Build, make_release: MakeRelease
) -> None:
    build()
    blobs, temporary = tmp_path / "cache/blobs/sha256", tmp_path / "cache/tmp"
    temporary.mkdir()
    (temporary / "old").mkdir()
    for name, times in (("old", (1, 1)), ("young", None)):
        (blobs / f".new-{name}").write_bytes(b"half")
        os.utime(blobs / f".new-{name}", times)
    os.utime(temporary / "old", (1, 1))
    build(release=str(make_release(b"model")))
    assert not (temporary / "old").exists()
    assert [path.name for path in blobs.iterdir() if path.name.startswith(".")] == [".new-young"]


def image_layout(folder: Path, blobs: Path, tree: Tree, platforms: tuple[str, ...]) -> dict[str, str]:
    """Make a layout with an image of *tree* for each platform; return their digests."""
    layer = write_layer(tree, "base", str(blobs))
    layout, digests = Layout(str(folder)), {}
    for text in platforms:
        platform = parse_platform(text)
        config = canonical_json(descriptors.configuration(platform.architecture, {}, [layer])).rstrip(b"\n")
        manifest = descriptors.manifest(sha256_bytes(config), len(config), [layer])
        digests[text] = layout.install(
            text, manifest, config, platform.as_document(), lambda digest: str(blobs / digest.split(":")[1])
        )
    return digests


def test_the_image_of_the_platform_is_taken(tmp_path: Path, build: Build) -> None:
    tree = Tree()
    tree.add_bytes("etc/motd", b"hello")
    digests = image_layout(tmp_path / "many", tmp_path / "many-blobs", tree, ("linux/amd64", "linux/arm64"))
    base = {"layout": str(tmp_path / "many")}
    for platform, digest in digests.items():
        assert build(base=base, platform=platform).result["image"]["inputs"]["base"]["layout"] == digest
    with pytest.raises(ModelshipError, match="has no image for linux/s390x: it has linux/amd64, linux/arm64"):
        build(base=base, platform="linux/s390x")


def test_an_interpreter_that_does_not_run_here_says_to_set_bytecode_false(
    tmp_path: Path, build: Build, runtime: Path
) -> None:
    tree = Tree()
    tree.add_bytes("usr/bin/python3.11", b"\x7fELF for another machine", 0o755)
    tree.add_bytes("usr/lib/python3.11/os.py", b"x = 1\n")
    image_layout(tmp_path / "foreign", tmp_path / "foreign-blobs", tree, ("linux/arm64",))
    options: dict[str, Any] = {
        "base": {"layout": str(tmp_path / "foreign")},
        "platform": "linux/arm64",
        "runtime": str(runtime),
    }
    with pytest.raises(
        ModelshipError, match=r"python3\.11 does not run on this host .*; set bytecode: false"
    ) as caught:
        build(**options)
    assert caught.value.kind == "bytecode"
    assert build(**options, bytecode=False).changed


@pytest.mark.parametrize("name", ["model/model.tflite", "model", "release.json"])
def test_a_link_in_a_release_is_refused_whatever_its_target_holds(
    tmp_path: Path, build: Build, make_release: MakeRelease, name: str
) -> None:
    release = make_release(b"model")
    (release / name).rename(tmp_path / "moved")
    (release / name).symlink_to(tmp_path / "moved")
    with pytest.raises(ModelshipError, match="is a link or not a regular file"):
        build(release=str(release))
    assert not (tmp_path / "layout" / "index.json").exists()


@pytest.mark.parametrize("form", ["keras", "savedmodel", "skops"])
@pytest.mark.parametrize("check", [False, True])
def test_a_release_that_cannot_be_served_is_refused_before_anything_is_built(
    tmp_path: Path, build: Build, make_release: MakeRelease, runtime: Path, form: str, check: bool
) -> None:
    release = make_release(b"model")
    manifest = json.loads((release / "release.json").read_text())
    folder = tmp_path / "trained"
    release.rename(folder)
    (folder / "release.json").write_text(json.dumps({**manifest, "model": {"format": form}}))
    with pytest.raises(ModelshipError, match=f"is {form}, .*litert and onnx.*model_compress") as caught:
        build(release=str(folder), runtime=str(runtime), bytecode=False, check=check)
    assert caught.value.kind == "release"
    assert not (tmp_path / "cache").exists()
    outcome = build(release=str(folder), bytecode=False)
    assert outcome.changed, "an image without the serving runtime may hold any release"


@pytest.mark.parametrize("form", ["litert", "onnx"])
def test_a_release_that_can_be_served_is_built(
    tmp_path: Path, build: Build, make_release: MakeRelease, runtime: Path, form: str
) -> None:
    release = make_release(b"model")
    manifest = json.loads((release / "release.json").read_text())
    folder = tmp_path / "compressed"
    release.rename(folder)
    (folder / "release.json").write_text(json.dumps({**manifest, "model": {"format": form}}))
    assert build(release=str(folder), runtime=str(runtime), bytecode=False).changed
