# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever else a user wants applied and removed together with the deployment (``kubernetes.extra_resources``)."""

from __future__ import annotations

import typing as t

from .._core.errors import ModelshipError
from .objects import DEPLOYMENT, Key, Object, custom_kinds, key_of, place

Namespaced = t.Callable[[str, str], bool]


def extra_resources(
    name: str, resources: t.Sequence[t.Any], namespace: str, taken: t.Iterable[Key], namespaced: Namespaced
) -> list[Object]:
    """Return *resources* with the label of the deployment *name*, each in *namespace* where it is in none.

    What is ``None`` is skipped: an empty document of a YAML file.

    :param taken: keys of the deployment's own objects.
    :param namespaced: tells whether objects of an apiVersion and kind live in namespaces; not asked about the kinds of
        CustomResourceDefinitions that are among *resources*, which the server may not know yet.
    :raises ModelshipError: one of them is no object, or is there twice; the message has its index.
    """
    owners = dict.fromkeys(taken, "the deployment's own objects")
    given = {index: item for index, item in enumerate(resources) if item is not None}
    found = {index: _identified(item, f"kubernetes.extra_resources[{index}]") for index, item in given.items()}
    customs = custom_kinds(found.values())
    for index, obj in found.items():
        where = f"kubernetes.extra_resources[{index}]"
        kind = (obj["apiVersion"], obj["kind"])
        metadata = obj["metadata"]
        place(obj, namespace if (customs[kind] if kind in customs else namespaced(*kind)) else None)
        metadata["labels"] = {**(metadata.get("labels") or {}), DEPLOYMENT: name}
        key = key_of(obj)
        if key in owners:
            raise ModelshipError(f"{where} is refused: {key} is among {owners[key]} already")
        owners[key] = f"the extra resources (index {index})"
    return list(found.values())


def _identified(item: t.Any, where: str) -> Object:
    if not isinstance(item, dict):
        raise ModelshipError(
            f"{where} is not a Kubernetes object but of type {type(item).__name__}: give a mapping with apiVersion, kind and "
            "metadata.name (of the text of a file, from_yaml_all makes such mappings)"
        )
    if str(item.get("kind")).endswith("List") and isinstance(item.get("items"), list):
        raise ModelshipError(f"{where} is a {item['kind']}: give its items instead")
    metadata = item.get("metadata")
    for field, value in (
        ("apiVersion", item.get("apiVersion")),
        ("kind", item.get("kind")),
        ("metadata.name", metadata.get("name") if isinstance(metadata, dict) else None),
    ):
        if value and not isinstance(value, str):
            raise ModelshipError(f"{where}.{field} is of type {type(value).__name__}, not text: write it in quotes")
        if not value:
            raise ModelshipError(
                f"{where} has no {field}: a Kubernetes object needs apiVersion, kind and metadata.name"
            )
    metadata = t.cast(Object, metadata)
    if not isinstance(metadata.get("namespace") or "", str):
        raise ModelshipError(f"{where}.metadata.namespace is not text: write it in quotes")
    for field in ("labels", "annotations"):
        values = metadata.get(field) or {}
        if not isinstance(values, dict):
            raise ModelshipError(
                f"{where}.metadata.{field} is of type {type(values).__name__}: give a mapping of texts"
            )
        for name, value in values.items():
            if not isinstance(value, str | None):
                raise ModelshipError(
                    f"{where}.metadata.{field}.{name} is of type {type(value).__name__}, not text: write it in quotes"
                )
    return t.cast(Object, _without_nulls(item))


def _without_nulls(value: t.Any) -> t.Any:
    """Return a copy of *value* without fields that are null: the server drops them, and they would always differ."""
    if isinstance(value, dict):
        return {name: _without_nulls(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
