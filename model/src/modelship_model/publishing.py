# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``publish`` command: a release that a confined process made is checked, byte by byte, and taken over.

Nothing here reads a model; files are hashed and copied. The confined process is not believed: its release must be whole,
hold ordinary files only, and be made of the very inputs that are hashed here again.
"""

from __future__ import annotations

import os
import shutil
import stat
import typing as t

from .errors import ModelError
from .events import Events
from .hashing import sha256_file, sha256_json, tree_files
from .release import Draft, Manifest, find_release, latest_release, open_release
from .request import optional, required


def run(request: dict[str, t.Any], _events: Events) -> dict[str, t.Any]:
    """Answer the ``publish`` command (docs/formats.md)."""
    releases, inputs = required(request, "releases", str), required(request, "inputs", dict)
    name, kind = required(request, "name", str), required(request, "kind", str)
    check_inputs(inputs, request)
    draft = optional(request, "draft", str)
    if draft is None:
        existing = find_release(releases, name, inputs["digest"])
        return {
            "existing": existing["path"] if existing else None,
            "latest": latest_release(releases, name, kind),
        }
    check_files(draft)
    manifest = open_release(draft)
    if (manifest.get("name"), manifest.get("kind"), manifest.get("inputs")) != (name, kind, inputs):
        raise _differs("its release is not of the inputs that were planned")
    if kind == "import":
        _check_model(draft, manifest)
    with Draft(releases, name) as copy:
        for file in manifest["files"]:
            shutil.copyfile(os.path.join(draft, file), copy.path(file))
        made = copy.publish({key: value for key, value in manifest.items() if key not in ("schema", "files")})
    return {"release": made}


def check_inputs(inputs: dict[str, t.Any], request: dict[str, t.Any]) -> None:
    """Hash again what can be hashed without reading a model, and compare.

    :raises ModelError: the digests differ (kind ``internal``).
    """
    if inputs.get("digest") != sha256_json({key: value for key, value in inputs.items() if key != "digest"}):
        raise _differs("the digest of the inputs is wrong")
    samples, model, parent = (optional(request, field, str) for field in ("samples", "model", "release"))
    if samples and inputs.get("data") != sha256_json({"samples": sha256_file(samples)}):
        raise _differs("the digest of the samples is wrong")
    if model and inputs.get("options", {}).get("model") != _model_digest(model):
        raise _differs("the digest of the model is wrong")
    if parent and inputs.get("parent") != "sha256:" + os.path.basename(os.path.abspath(parent)):
        raise _differs("the digest of the release is wrong")


def check_files(folder: str) -> None:
    """:raises ModelError: *folder* holds something else than directories and ordinary files (kind ``internal``)."""
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            mode = os.lstat(os.path.join(place, name)).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                raise _differs(f"'{name}' is a link or a special file")


def _check_model(draft: str, manifest: Manifest) -> None:
    path = os.path.join(draft, manifest["model"]["path"])
    if _model_digest(path) != manifest["inputs"]["options"]["model"]:
        raise _differs("the model in its release is not the one that was given")


def _model_digest(path: str) -> str:
    return sha256_json(tree_files(path) if os.path.isdir(path) else sha256_file(path))


def _differs(what: str) -> ModelError:
    return ModelError(
        "internal", f"the confined process returned something that does not hold: {what}; nothing was kept"
    )
