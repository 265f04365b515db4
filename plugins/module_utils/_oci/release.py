# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The release as the image's last layer. Format: ``docs/formats.md``, "Release"."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing as t

from .._core.content import is_plain_file, sha256_bytes, sha256_file
from .._core.errors import ModelshipError
from .tree import Tree

PLACE = "opt/modelship/release"
#: The model formats that the serving runtime reads.
SERVABLE = ("litert", "onnx")


@dataclasses.dataclass(frozen=True)
class Release:
    """A release folder whose every file is what its manifest says.

    :param format: of its model, such as ``onnx``; empty where the manifest does not say.
    """

    path: str
    digest: str
    name: str
    files: tuple[str, ...]
    format: str = ""

    def tree(self) -> Tree:
        """Return the tree of the release layer."""
        tree = Tree()
        for name in ("release.json", *self.files):
            tree.add_path(f"{PLACE}/{name}", os.path.join(self.path, name))
        return tree


def verified_release(path: str) -> Release:
    """Read and check the release in the folder *path*.

    :raises ModelshipError: it is no release, or a file is missing or not what its sha256 says.
    """
    manifest_path = os.path.join(path, "release.json")
    if os.path.islink(manifest_path):
        raise _link(manifest_path)
    try:
        with open(manifest_path, "rb") as stream:
            data = stream.read()
    except OSError as exc:
        raise ModelshipError(
            f"release: {path} has no release.json ({exc.strerror}): give the folder of a release", kind="release"
        ) from exc
    digest = sha256_bytes(data)
    folder = os.path.basename(os.path.realpath(path))
    if re.fullmatch(r"[0-9a-f]{64}", folder) and digest != f"sha256:{folder}":
        raise ModelshipError(
            f"release: {manifest_path} is damaged (its sha256 is not the folder's name): train again", kind="release"
        )
    try:
        manifest: t.Any = json.loads(data)
        name, files = str(manifest["name"]), dict(manifest["files"])
        model = manifest.get("model")
        form = str(model.get("format") or "") if isinstance(model, dict) else ""
        wanted = {file: (str(entry["sha256"]), int(entry["size"])) for file, entry in files.items()}
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelshipError(f"release: {manifest_path} is not the manifest of a release", kind="release") from exc
    for file, (sha256, size) in sorted(wanted.items()):
        where = os.path.join(path, file)
        if os.path.isabs(file) or ".." in file.split("/"):
            raise ModelshipError(
                f"release: {manifest_path} names '{file}', which is outside of the release", kind="release"
            )
        if not os.path.lexists(where):
            raise ModelshipError(f"release: {where} is missing: train again", kind="release")
        if not is_plain_file(path, file):
            raise _link(where)
        if os.path.getsize(where) != size or sha256_file(where) != f"sha256:{sha256}":
            raise ModelshipError(
                f"release: {where} is damaged (its sha256 is not the one in release.json): train again", kind="release"
            )
    return Release(path, digest, name, tuple(sorted(wanted)), form)


def _link(path: str) -> ModelshipError:
    return ModelshipError(
        f"release: {path} is a link or not a regular file: copy the release with its files themselves (cp -rL), or train again",
        kind="release",
    )
