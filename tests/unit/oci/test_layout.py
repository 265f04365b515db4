"""OCI layouts: what is installed is found again, damage is noticed, what nobody uses goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Outcome
from ansible_collections.modelship.core.plugins.module_utils._oci.layout import Layout


def test_a_built_layout_is_what_the_specification_says(tmp_path: Path, build: Callable[..., Outcome]) -> None:
    image = build().result["image"]
    folder = tmp_path / "layout"
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((folder / "index.json").read_text())["manifests"]
    assert entry["digest"] == image["digest"]
    manifest = json.loads((folder / "blobs/sha256" / image["digest"].split(":")[1]).read_text())
    assert manifest["config"]["digest"] == image["config_digest"]
    assert [layer["digest"] for layer in manifest["layers"]] == [layer["digest"] for layer in image["layers"]]
    config = json.loads((folder / "blobs/sha256" / image["config_digest"].split(":")[1]).read_text())
    assert config["rootfs"]["diff_ids"] == [layer["diff_id"] for layer in image["layers"]]
    assert config["created"] == "1970-01-01T00:00:00Z"


def test_two_images_share_a_layout_and_unused_blobs_go(
    tmp_path: Path, build: Callable[..., Outcome], make_release: Callable[[bytes], Path]
) -> None:
    other = build(name="other").result["image"]
    old = build(release=str(make_release(b"old"))).result["image"]
    new = build(release=str(make_release(b"new"))).result["image"]
    layout = Layout(str(tmp_path / "layout"))
    assert {entry["digest"] for entry in layout.entries()} == {other["digest"], new["digest"]}
    assert layout.stored("other") is not None
    assert not Path(layout.blob(old["layers"][-1]["digest"])).exists()
    assert Path(layout.blob(new["layers"][-1]["digest"])).exists()


def test_a_damaged_blob_is_noticed_and_made_good(tmp_path: Path, build: Callable[..., Outcome]) -> None:
    image = build().result["image"]
    layout = Layout(str(tmp_path / "layout"))
    blob = Path(layout.blob(image["layers"][0]["digest"]))
    blob.chmod(0o644)
    data = blob.read_bytes()
    blob.write_bytes(data[:-1] + b"?")
    assert layout.stored("digits") is None
    again = build()
    assert again.changed
    assert again.result["image"]["digest"] == image["digest"]
    assert blob.read_bytes() == data
    assert not build().changed


def test_a_file_that_is_no_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("[]")
    with pytest.raises(ModelshipError, match=r"index\.json is not the index of an OCI layout"):
        Layout(str(tmp_path)).entries()
