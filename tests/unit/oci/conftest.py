"""A small base image on disk, and a release, made by hand: nothing here needs a network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.content import canonical_json, sha256_bytes
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._oci import descriptors
from ansible_collections.modelship.core.plugins.module_utils._oci.build import build_image
from ansible_collections.modelship.core.plugins.module_utils._oci.layers import write_layer
from ansible_collections.modelship.core.plugins.module_utils._oci.layout import Layout
from ansible_collections.modelship.core.plugins.module_utils._oci.platforms import parse_platform
from ansible_collections.modelship.core.plugins.module_utils._oci.tree import Tree


@pytest.fixture
def base_layout(tmp_path: Path) -> Path:
    """An OCI layout with one image for this host: a single text file, and a configuration with ``Env`` and ``Cmd``."""
    tree = Tree()
    tree.add_bytes("etc/motd", b"hello\n")
    blobs = tmp_path / "base-blobs"
    layer = write_layer(tree, "base", str(blobs))
    platform = parse_platform(None)
    settings = {"Env": ["PATH=/bin", "LANG=C.UTF-8"], "Cmd": ["/bin/true"]}
    config = canonical_json(descriptors.configuration(platform.architecture, settings, [layer])).rstrip(b"\n")
    manifest = descriptors.manifest(sha256_bytes(config), len(config), [layer])
    layout = Layout(str(tmp_path / "base"))
    layout.install("base", manifest, config, platform.as_document(), lambda digest: str(blobs / digest.split(":")[1]))
    return tmp_path / "base"


@pytest.fixture
def make_release(tmp_path: Path) -> Callable[[bytes], Path]:
    """Make a release of a model with the given bytes; return its folder."""

    def make(model: bytes) -> Path:
        manifest = {
            "name": "digits",
            "files": {"model/model.tflite": {"sha256": hashlib.sha256(model).hexdigest(), "size": len(model)}},
        }
        data = json.dumps(manifest).encode()
        folder = tmp_path / "releases" / "digits" / hashlib.sha256(data).hexdigest()
        (folder / "model").mkdir(parents=True)
        (folder / "release.json").write_bytes(data)
        (folder / "model" / "model.tflite").write_bytes(model)
        return folder

    return make


@pytest.fixture
def build(tmp_path: Path, base_layout: Path) -> Callable[..., Outcome]:
    """Run the logic of image_build on the small base; options override."""

    def run(*, check: bool = False, **options: Any) -> Outcome:
        parameters: dict[str, Any] = {
            "name": "digits",
            "dest": str(tmp_path / "layout"),
            "cache": str(tmp_path / "cache"),
            "base": {"layout": str(base_layout)},
            **options,
        }
        return build_image(parameters, Context(check=check))

    return run
