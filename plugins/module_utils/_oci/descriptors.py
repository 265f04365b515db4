# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON documents of an OCI image: descriptors, manifest, configuration.

Source: OCI image specification 1.1 (``manifest.md``, ``config.md``, ``descriptor.md``).
"""

from __future__ import annotations

import dataclasses
import typing as t

from .._core.values import is_integer

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

#: Every media type that a manifest request accepts.
MANIFEST_TYPES = (MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX)

#: Layer media types of pulled images, mapped to the OCI type that a built image gives them.
LAYER_TYPES = {LAYER: LAYER, LAYER_GZIP: LAYER_GZIP, DOCKER_LAYER: LAYER_GZIP}

#: Annotation of a layer's descriptor in the manifest: ``base``, ``dependencies``, ``runtime``, ``files`` or ``release``.
ROLE = "io.modelship.role"

EPOCH = "1970-01-01T00:00:00Z"


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer of an image.

    :param role: ``base``, ``dependencies``, ``runtime``, ``files`` or ``release``.
    :param digest: ``sha256:…`` of the blob as stored and pushed.
    :param diff_id: ``sha256:…`` of the uncompressed tar archive.
    :param size: bytes of the blob.
    :param uncompressed_size: bytes of the tar archive.
    """

    role: str
    digest: str
    diff_id: str
    size: int
    uncompressed_size: int
    media_type: str = LAYER_GZIP

    def descriptor(self) -> dict[str, t.Any]:
        """Return the layer's descriptor for the manifest."""
        return {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
            "annotations": {ROLE: self.role},
        }

    def as_result(self) -> dict[str, t.Any]:
        """Return what the module returns of this layer."""
        values = dataclasses.asdict(self)
        del values["media_type"]
        return values


def manifest(config_digest: str, config_size: int, layers: t.Sequence[Layer]) -> dict[str, t.Any]:
    """Return the image manifest that names a configuration and *layers*, lowest first."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": config_digest, "size": config_size},
        "layers": [layer.descriptor() for layer in layers],
    }


def configuration(
    architecture: str, settings: dict[str, t.Any], layers: t.Sequence[Layer], variant: str = ""
) -> dict[str, t.Any]:
    """Return the image configuration: *settings* is its ``config`` object (``Env``, ``User``, …)."""
    document: dict[str, t.Any] = {
        "architecture": architecture,
        "os": "linux",
        "created": EPOCH,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": EPOCH, "created_by": f"modelship image_build: {layer.role}"} for layer in layers],
    }
    if variant:
        document["variant"] = variant
    return document


def is_descriptor(value: t.Any) -> bool:
    """Tell whether *value*, read from somebody's JSON, has what a descriptor must have."""
    return (
        isinstance(value, dict)
        and isinstance(value.get("digest"), str)
        and is_integer(value.get("size"))
        and value["size"] >= 0
        and isinstance(value.get("mediaType"), str)
    )
