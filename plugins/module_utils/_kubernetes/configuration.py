# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment and files of the pods: a ConfigMap and a Secret, named by their content and immutable.

Pods of two revisions keep each their own, so that a rollback has image and configuration together.
"""

from __future__ import annotations

import base64
import re
import typing as t

from .._core.content import canonical_json, sha256_bytes
from .._core.errors import ModelshipError
from .._core.secret_values import is_secret
from .objects import Object
from .scope import Scope

#: What the API server takes in one ConfigMap or Secret, in bytes of its values.
_MOST_BYTES = 1 << 20


class Configuration(t.NamedTuple):
    """The objects, and what the container and the pod say to use them."""

    objects: list[Object]
    environment: list[Object]
    mounts: list[Object]
    volumes: list[Object]


def configuration(scope: Scope) -> Configuration:
    """Return the environment and files of the pods of *scope*.

    :raises ModelshipError: a variable is declared twice, or the values are more than an object can hold.
    """
    options = scope.options
    variables = scope.declaration.container_environment
    if twice := sorted(variables.keys() & options.secrets.keys()):
        raise ModelshipError(f"'{twice[0]}' is given in environment and in kubernetes.secrets: keep one")
    plain = {name: value for name, value in variables.items() if not is_secret(name, value)}
    secret = {name: value for name, value in variables.items() if name not in plain}
    parts = [
        _part(scope, "ConfigMap", plain, options.config_files, "environment and kubernetes.config_files"),
        _part(
            scope, "Secret", {**secret, **options.secrets}, options.secret_files, "kubernetes.secrets and secret_files"
        ),
    ]
    return Configuration(*([item for part in parts for item in part[index]] for index in range(4)))


def _part(
    scope: Scope, kind: str, variables: t.Mapping[str, str], files: t.Mapping[str, str], options: str
) -> Configuration:
    if not variables and not files:
        return Configuration([], [], [], [])
    keys = _file_keys(files, variables)
    data = {**variables, **{keys[path]: text for path, text in files.items()}}
    size = sum(len(text.encode()) for text in data.values())
    if size > _MOST_BYTES:
        raise ModelshipError(
            f"{options} are {size} bytes together, and a {kind} holds {_MOST_BYTES}: use kubernetes.storage for large files"
        )
    is_secret = kind == "Secret"
    volume = "secret" if is_secret else "config"
    name = f"{scope.name}-{volume}-{sha256_bytes(canonical_json(data))[7:17]}"
    values = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()} if is_secret else data
    obj: Object = {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": scope.metadata(name),
        "immutable": True,
        "data": dict(sorted(values.items())),
    }
    if is_secret:
        obj["type"] = "Opaque"
    reference = "secretKeyRef" if is_secret else "configMapKeyRef"
    source = {"secret": {"secretName": name}} if is_secret else {"configMap": {"name": name}}
    return Configuration(
        objects=[obj],
        # named one by one: with envFrom every file would become a variable too
        environment=[{"name": key, "valueFrom": {reference: {"name": name, "key": key}}} for key in sorted(variables)],
        # each file alone (subPath), so that the others of its folder in the image stay
        mounts=[{"name": volume, "mountPath": path, "subPath": keys[path], "readOnly": True} for path in sorted(files)],
        volumes=[{"name": volume, **source}] if files else [],
    )


def _file_keys(files: t.Iterable[str], taken: t.Container[str]) -> dict[str, str]:
    """Return a key of the object's data for each path: readable, unlike all others, at most 253 letters."""
    keys: dict[str, str] = {}
    for path in sorted(files):
        key = "file" + re.sub(r"[^-._a-zA-Z0-9]", "_", path.replace("/", "."))[-200:]
        while key in taken or key in keys.values():
            key += "_"
        keys[path] = key
    return keys
