# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An OCI image layout on disk: several images by name, each blob once.

Source: OCI image specification 1.1, ``image-layout.md``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import typing as t

from .._core.content import canonical_json, parse_digest, sha256_bytes
from .._core.errors import ModelshipError
from .._core.files import explained, write_atomic
from . import descriptors
from .layers import is_settled, settle
from .store import checked_blob, place

_NAME = "org.opencontainers.image.ref.name"


@dataclasses.dataclass(frozen=True)
class StoredImage:
    """An image of a layout: the bytes that its digest names, and the documents they hold."""

    digest: str
    manifest_bytes: bytes
    manifest: dict[str, t.Any]
    config_bytes: bytes
    config: dict[str, t.Any]

    @property
    def config_digest(self) -> str:
        """``sha256:…`` of the configuration."""
        return t.cast(str, self.manifest["config"]["digest"])

    @property
    def blobs(self) -> list[dict[str, t.Any]]:
        """Descriptors of what a registry must have before the manifest: layers, lowest first, then the configuration."""
        return [*self.manifest["layers"], self.manifest["config"]]


class Layout:
    """The OCI layout in the folder *path*, which need not exist yet."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._blobs = os.path.join(path, "blobs", "sha256")

    def blob(self, digest: str) -> str:
        """Return where the blob *digest* is or would be."""
        return os.path.join(self._blobs, parse_digest(digest))

    def exists(self) -> bool:
        """Tell whether there is a layout at all."""
        return os.path.exists(os.path.join(self.path, "index.json"))

    def entries(self) -> list[dict[str, t.Any]]:
        """Return the descriptors of ``index.json``; none where there is no layout.

        :raises ModelshipError: ``index.json`` is not one of a layout.
        """
        path = os.path.join(self.path, "index.json")
        try:
            with open(path, encoding="utf-8") as stream:
                entries = json.load(stream)["manifests"]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise ModelshipError(
                f"{path} is not the index of an OCI layout: remove {self.path} and build again"
            ) from exc
        if not isinstance(entries, list) or not all(descriptors.is_descriptor(entry) for entry in entries):
            raise ModelshipError(f"{path} is not the index of an OCI layout: remove {self.path} and build again")
        return entries

    def entry(self, name: str) -> dict[str, t.Any] | None:
        """Return the descriptor of the image called *name*, or ``None``."""
        for entry in self.entries():
            if (entry.get("annotations") or {}).get(_NAME) == name:
                return entry
        return None

    def document(self, digest: str) -> bytes:
        """Return the bytes of the JSON blob *digest*, checked.

        :raises ModelshipError: it is missing or not what its digest says.
        """
        path = self.blob(digest)
        try:
            with open(path, "rb") as stream:
                data = stream.read()
        except OSError as exc:
            raise ModelshipError(
                f"{path} is missing from the OCI layout: build the image again", kind="layout"
            ) from exc
        if sha256_bytes(data) != digest:
            raise ModelshipError(f"{path} is damaged (its sha256 is another): build the image again", kind="layout")
        return data

    def image(self, digest: str) -> StoredImage:
        """Return the image whose manifest is *digest*.

        :raises ModelshipError: manifest or configuration are missing, damaged or of another kind.
        """
        manifest_bytes = self.document(digest)
        try:
            manifest = json.loads(manifest_bytes)
            config_bytes = self.document(manifest["config"]["digest"])
            config = json.loads(config_bytes)
            whole = isinstance(config, dict) and all(
                descriptors.is_descriptor(layer) for layer in [*manifest["layers"], manifest["config"]]
            )
        except (ValueError, KeyError, TypeError) as exc:
            raise ModelshipError(
                f"{digest} in {self.path} is not an image manifest: name the digest of one image", kind="layout"
            ) from exc
        if not whole:
            raise ModelshipError(
                f"the manifest {digest} in {self.path} is malformed: build the image again", kind="layout"
            )
        return StoredImage(digest, manifest_bytes, manifest, config_bytes, config)

    def stored(self, name: str) -> StoredImage | None:
        """Return the image called *name*, or ``None`` where it is absent or any part of it is missing or damaged."""
        try:
            entry = self.entry(name)
            image = self.image(entry["digest"]) if entry else None
        except ModelshipError:
            return None
        if image and all(checked_blob(self.blob(blob["digest"]), blob["digest"], blob["size"]) for blob in image.blobs):
            return image
        return None

    def install(
        self,
        name: str,
        manifest: dict[str, t.Any],
        config: bytes,
        platform: dict[str, str],
        source: t.Callable[[str], str],
    ) -> str:
        """Make *manifest* the image called *name* and return its digest.

        :param source: gives the path of a layer's blob by its digest; it is linked, or copied from another file system.
        :raises ModelshipError: the disk is full or the folder cannot be written; the image that was there is intact.
        """
        data = canonical_json(manifest).rstrip(b"\n")
        digest = sha256_bytes(data)
        with explained(self.path):
            os.makedirs(self._blobs, exist_ok=True)
            for layer in manifest["layers"]:
                self._take(source(layer["digest"]), layer)
            for document in (config, data):
                self._write(document)
        entry = {
            "mediaType": descriptors.MANIFEST,
            "digest": digest,
            "size": len(data),
            "annotations": {_NAME: name},
            "platform": platform,
        }
        others = [other for other in self.entries() if (other.get("annotations") or {}).get(_NAME) != name]
        write_atomic(os.path.join(self.path, "oci-layout"), b'{"imageLayoutVersion":"1.0.0"}\n')
        index = {"schemaVersion": 2, "mediaType": descriptors.INDEX, "manifests": [*others, entry]}
        write_atomic(os.path.join(self.path, "index.json"), canonical_json(index))
        self._drop_unused()
        return digest

    def _take(self, source: str, descriptor: dict[str, t.Any]) -> None:
        target = self.blob(descriptor["digest"])
        if not is_settled(target, descriptor["size"]):
            place(source, target)

    def _write(self, data: bytes) -> None:
        path = self.blob(sha256_bytes(data))
        if not is_settled(path, len(data)):
            write_atomic(path, data)
            settle(path)

    def _drop_unused(self) -> None:
        """Remove the blobs that no image of the layout uses any more; keep all where one image cannot be read."""
        used: set[str] = set()
        try:
            for entry in self.entries():
                used.add(parse_digest(entry["digest"]))
                image = self.image(entry["digest"])
                used.update(parse_digest(blob["digest"]) for blob in image.blobs)
        except ModelshipError:
            return
        for name in os.listdir(self._blobs):
            if name not in used:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self._blobs, name))
