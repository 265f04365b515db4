# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``image_build`` returns and shows of an image."""

from __future__ import annotations

import dataclasses
import typing as t

from .._core.diff import Difference
from .._core.redaction import redact_mapping
from .apt import Package
from .descriptors import ROLE, Layer
from .layout import StoredImage
from .settings import PACKAGES


def human(size: int) -> str:
    """Return *size* bytes for people, in units of 1000."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def image_result(
    digest: str,
    config_digest: str,
    layout: str,
    layers: t.Sequence[Layer],
    documents: int,
    inputs: dict[str, t.Any],
    lock: t.Sequence[Package],
) -> dict[str, t.Any]:
    """Return the documented result dict ``image``; *documents* is the size of manifest and configuration in bytes."""
    result = {
        "digest": digest,
        "config_digest": config_digest,
        "layout": layout,
        "layers": [layer.as_result() for layer in layers],
        "size": sum(layer.size for layer in layers) + documents,
        "uncompressed_size": sum(layer.uncompressed_size for layer in layers),
        "inputs": inputs,
    }
    if lock:
        result["lock"] = [dataclasses.asdict(package) for package in lock]
    return result


def _layer_name(number: int, role: str) -> str:
    return f"layer {number} ({role})"


def _shown(settings: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    shown = {key: value for key, value in settings.items() if key != "Env"}
    shown["Env"] = redact_mapping(dict(item.partition("=")[::2] for item in settings.get("Env") or []))
    if "Labels" in shown:
        shown["Labels"] = {name: value for name, value in shown["Labels"].items() if name != PACKAGES}
    return shown


def _packages(settings: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Return the Debian packages of the base with their versions, as the image's label names them."""
    return dict(item.partition("=")[::2] for item in ((settings.get("Labels") or {}).get(PACKAGES) or "").split())


def differences(
    header: str,
    before: StoredImage | None,
    digest: str,
    layers: t.Sequence[Layer],
    settings: dict[str, t.Any],
    unknown: t.Mapping[str, str],
) -> Difference:
    """Return image, layers with sizes, configuration and Debian packages before and after.

    *unknown* are the parts that are not known, by name, with the reason.

    Empty *settings* mean that they are not known.
    """
    difference = Difference(header)
    old_layers: dict[str, t.Any] = {}
    old_settings: dict[str, t.Any] = {}
    old_packages: dict[str, str] = {}
    if before is not None:
        for number, layer in enumerate(before.manifest["layers"], 1):
            role = (layer.get("annotations") or {}).get(ROLE, "layer")
            old_layers[_layer_name(number, role)] = {"digest": layer["digest"], "size": human(layer["size"])}
        old_settings = _shown(before.config.get("config") or {})
        old_packages = _packages(before.config.get("config") or {})
    difference.add("image", before.digest if before else None, digest)
    new_layers: dict[str, t.Any] = {}
    if unknown:
        # Numbers would be guesses: compare what is known by its digest.
        known = {layer.digest for layer in layers}
        for name, value in old_layers.items():
            if value["digest"] not in known:
                difference.add(name, value, None)
        for name, why in unknown.items():
            difference.add(f"{name}, new", None, f"unknown until built: {why}")
    else:
        new_layers = {
            _layer_name(number, layer.role): {"digest": layer.digest, "size": human(layer.size)}
            for number, layer in enumerate(layers, 1)
        }
        for name in sorted(old_layers.keys() | new_layers.keys()):
            difference.add(name, old_layers.get(name), new_layers.get(name))
    if not settings:
        return difference
    new_settings = _shown(settings)
    for name in sorted(old_settings.keys() | new_settings.keys()):
        difference.add(f"config.{name}", old_settings.get(name), new_settings.get(name))
    new_packages = _packages(settings)
    if before is not None and (new_packages or not unknown):
        for name in sorted(old_packages.keys() | new_packages.keys()):
            difference.add(f"package {name}", old_packages.get(name), new_packages.get(name))
    return difference
