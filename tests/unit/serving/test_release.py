from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving.errors import StartError
from modelship_serving.release import load_release

MODEL = b"not really a model"


def write(root: Path, **changes: Any) -> Path:
    manifest: dict[str, Any] = {
        "schema": "modelship.release/1",
        "name": "digits",
        "kind": "compress",
        "signature": {
            "inputs": [{"name": "image", "dtype": "float32", "shape": [-1, 2], "range": [0, 255]}],
            "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [-1, 3]}],
            "labels": ["a", "b", "c"],
        },
        "model": {"format": "litert", "path": "model/model.tflite", "size": len(MODEL)},
        "files": {"model/model.tflite": {"sha256": hashlib.sha256(MODEL).hexdigest(), "size": len(MODEL)}},
        **changes,
    }
    data = json.dumps(manifest).encode()
    folder = root / hashlib.sha256(data).hexdigest()
    (folder / "model").mkdir(parents=True)
    (folder / "model/model.tflite").write_bytes(MODEL)
    (folder / "release.json").write_bytes(data)
    return folder


def test_a_good_release_is_read(tmp_path: Path):
    folder = write(tmp_path)
    release = load_release(str(folder))
    assert release.digest == f"sha256:{folder.name}"
    assert release.version == folder.name[:12]
    assert release.model_path == str(folder / "model/model.tflite")
    assert release.signature.inputs[0].shape == (-1, 2)


def test_a_changed_byte_is_refused(tmp_path: Path):
    folder = write(tmp_path)
    (folder / "model/model.tflite").write_bytes(MODEL.upper())
    with pytest.raises(StartError, match=r"model\.tflite does not match release\.json"):
        load_release(str(folder))


def test_a_missing_file_is_refused(tmp_path: Path):
    folder = write(tmp_path)
    (folder / "model/model.tflite").unlink()
    with pytest.raises(StartError, match=r"cannot read .*model\.tflite"):
        load_release(str(folder))


@pytest.mark.parametrize("name", ["model/model.tflite", "model"])
def test_a_link_in_a_release_is_refused_whatever_its_target_holds(tmp_path: Path, name: str):
    folder = write(tmp_path)
    (folder / name).rename(tmp_path / "moved")
    (folder / name).symlink_to(tmp_path / "moved")
    with pytest.raises(StartError, match=r"model\.tflite is a symbolic link"):
        load_release(str(folder))


def test_a_changed_manifest_is_refused_by_the_folders_name(tmp_path: Path):
    folder = write(tmp_path)
    path = folder / "release.json"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StartError, match="does not match its folder's name"):
        load_release(str(folder))
    renamed = folder.rename(tmp_path / "release")  # as in an image, where the name says nothing
    assert load_release(str(renamed)).name == "digits"


def test_a_link_does_not_hide_the_folders_name(tmp_path: Path):
    folder = write(tmp_path)
    path = folder / "release.json"
    path.write_bytes(path.read_bytes() + b" ")
    link = tmp_path / "current"
    link.symlink_to(folder)
    with pytest.raises(StartError, match="does not match its folder's name"):
        load_release(str(link))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "modelship.release/9"}, "schema 'modelship.release/9'"),
        ({"model": {"format": "keras", "path": "model/model.tflite"}}, "model.format 'keras' cannot be served"),
        ({"model": {"format": "litert", "path": "other"}}, "model.path 'other'"),
        ({"files": {"../x": {"sha256": "0" * 64, "size": 1}}}, r"'\.\./x' lies outside"),
        ({"files": {"/etc/passwd": {"sha256": "0" * 64, "size": 1}}}, "'/etc/passwd' lies outside"),
        ({"files": 3}, "not a release's manifest"),
        ({"signature": {"inputs": [], "outputs": []}}, "at least one input"),
        (
            {
                "signature": {
                    "inputs": [{"name": "text", "dtype": "float32", "shape": [-1, -1]}],
                    "outputs": [{"name": "y", "dtype": "float32", "shape": [-1, 1]}],
                }
            },
            "input 'text' has shape",
        ),
    ],
)
def test_a_release_that_cannot_be_served_is_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(StartError, match=message):
        load_release(str(write(tmp_path, **changes)))


def test_a_missing_release_says_which_variable_to_set(tmp_path: Path):
    with pytest.raises(StartError, match="MODELSHIP_RELEASE"):
        load_release(str(tmp_path / "absent"))
