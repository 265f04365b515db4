# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases as modules return them, and what differs between two of them."""

from __future__ import annotations

import json
import os
import typing as t

from .._core.diff import Difference
from .._core.errors import ModelshipError

#: Stands in a diff for what cannot be known without acting.
UNKNOWN = "known only after the run"

Manifest = dict[str, t.Any]


def read_manifest(path: str) -> Manifest:
    """Return the ``release.json`` of the release folder *path*.

    :raises ModelshipError: there is none, or it is not one (kind ``release``).
    """
    name = os.path.join(path, "release.json")
    try:
        with open(name, "rb") as stream:
            manifest = json.load(stream)
    except OSError as exc:
        raise ModelshipError(f"{path} is not a release: cannot read {name}: {exc.strerror}", kind="release") from exc
    except ValueError as exc:
        raise ModelshipError(f"{name} is damaged: {exc}: make the release again", kind="release") from exc
    if not isinstance(manifest, dict) or "model" not in manifest or "name" not in manifest:
        raise ModelshipError(f"{name} is not a release's description: check the path", kind="release")
    return manifest


def describe(path: str, manifest: Manifest) -> dict[str, t.Any]:
    """Return a release as the documented result dict ``release``. A release folder's name is its digest."""
    return {
        "name": manifest["name"],
        "digest": "sha256:" + os.path.basename(os.path.normpath(path)),
        "path": path,
        "kind": manifest.get("kind"),
        "format": manifest["model"].get("format"),
        "size": manifest["model"].get("size"),
        "metrics": manifest.get("metrics") or {},
        "signature": manifest.get("signature"),
        "parameters": manifest.get("parameters") or {},
        "inputs": manifest.get("inputs") or {},
        "git": manifest.get("git"),
        "compression": manifest.get("compression"),
    }


def predicted(kind: str, plan: t.Mapping[str, t.Any] | None = None) -> dict[str, t.Any]:
    """Return the result dict of a release that check mode did not make: what cannot be known is null."""
    plan = plan or {}
    return {
        "name": plan.get("name"),
        "digest": None,
        "path": None,
        "kind": kind,
        "format": None,
        "size": None,
        "metrics": {},
        "signature": None,
        "parameters": plan.get("parameters") or {},
        "inputs": plan.get("inputs") or {},
        "git": None,
        "compression": None,
    }


def flatten(inputs: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Name the parts of a release's ``inputs`` one by one: ``code``, ``parameters.epochs``, ``environment.keras`` …"""
    flat: dict[str, t.Any] = {}
    for name, value in inputs.items():
        if name == "digest":
            continue
        if isinstance(value, dict):
            flat.update({f"{name}.{key}": item for key, item in value.items()})
        else:
            flat[name] = value
    return flat


def compare_inputs(old: t.Mapping[str, t.Any] | None, new: t.Mapping[str, t.Any], difference: Difference) -> list[str]:
    """Record in *difference* which inputs differ, name by name, and return their names in words.

    :param old: the inputs of the latest release, ``None`` where there is none.
    :returns: such as ``["code", "parameters.epochs (8 -> 9)"]``; empty where *old* is ``None``.
    """
    before, after = flatten(old or {}), flatten(new)
    for name in sorted(before.keys() | after.keys()):
        difference.add(name, before.get(name), after.get(name))
    if old is None:
        return []
    return [_words(name, before.get(name), after.get(name)) for name in difference.names]


def _words(name: str, old: t.Any, new: t.Any) -> str:
    shown = [json.dumps(value, ensure_ascii=False) for value in (old, new)]
    # digests and long lists say nothing to a person
    if any(len(text) > 40 for text in shown):
        return name
    return f"{name} ({' -> '.join('none' if text == 'null' else text for text in shown)})"


def compare_results(
    old: t.Mapping[str, t.Any] | None, new: t.Mapping[str, t.Any] | None, difference: Difference
) -> None:
    """Record how digest, size and metrics differ between two ``release`` dicts; *new* ``None`` is not known yet."""
    for name in ("digest", "size"):
        difference.add(name, old and old[name], UNKNOWN if new is None else new[name])
    before = dict(old["metrics"]) if old else {}
    if new is None:
        difference.add("metrics", before or None, UNKNOWN)
        return
    for name in sorted(before.keys() | new["metrics"].keys()):
        difference.add(f"metrics.{name}", before.get(name), new["metrics"].get(name))
