# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where secrets are in Kubernetes objects: to show the objects without them, and to keep them out of all else."""

from __future__ import annotations

import base64
import json
import typing as t

from .._core.redaction import fingerprint
from .._core.secret_names import is_secret_name
from .._core.secret_values import is_secret, passwords_in, replaced

#: kubectl keeps a whole copy of the object here, values of Secrets included.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: Names of fields that end so hold a reference, not the secret itself (``secretName``, ``tokenPath``).
_REFERENCES = ("name", "ref", "path", "mode", "namespace", "audience")
#: Fields of Kubernetes that name an entry, a label or a taint.
_NO_SECRETS = frozenset(("key", "topologykey"))

Hide = t.Callable[[str], str]


def redacted(obj: t.Any, hide: Hide = fingerprint) -> t.Any:
    """Return a copy of the object *obj* with what *hide* returns for every secret.

    These are the values of Secrets, strings whose name says so, private keys, and passwords in URLs and connection strings.
    """
    result = _redacted(obj, hide)
    if not isinstance(result, dict):
        return result
    if obj.get("kind") == "Secret" and obj.get("apiVersion", "v1") == "v1":
        for part in ("data", "stringData"):
            if isinstance(values := obj.get(part), dict):
                result[part] = {name: hide(str(value)) for name, value in values.items()}
    metadata = result.get("metadata")
    if isinstance(metadata, dict) and isinstance(annotations := metadata.get("annotations"), dict):
        annotations.pop(_LAST_APPLIED, None)
    return result


def secrets_in(value: t.Any) -> set[str]:
    """Return the secrets in an object that are text of their own.

    These are the values of Secrets and the passwords in them, of variables and entries of ConfigMaps that are secret by name
    or shape, and the passwords in any text.
    """
    found: set[str] = set()
    if isinstance(value, dict):
        if value.get("kind") == "Secret":
            for part in ("data", "stringData"):
                texts = value.get(part)
                for text in texts.values() if isinstance(texts, dict) else ():
                    found |= {str(text)}
                    for plain in _decoded(str(text)) if part == "data" else [str(text)]:
                        found |= {plain} | _inner(plain)
        if value.get("kind") == "ConfigMap" and isinstance(entries := value.get("data"), dict):
            found |= {str(text) for name, text in entries.items() if is_secret(str(name), text)}
        if _is_secret_pair(value):
            found.add(str(value["value"]))
        for item in value.values():
            found |= secrets_in(item)
    elif isinstance(value, list):
        for item in value:
            found |= secrets_in(item)
    elif isinstance(value, str):
        found |= passwords_in(value)
    return found


def _inner(text: str) -> set[str]:
    """Return the secrets within the secret *text*: passwords in URLs, and of registries in a Docker configuration."""
    found = passwords_in(text)
    if text.lstrip()[:1] == "{":
        try:
            found |= _leaves(json.loads(text))
        except ValueError:
            return found
    return found


def _leaves(value: t.Any, name: str = "") -> set[str]:
    if isinstance(value, dict):
        return {leaf for key, item in value.items() for leaf in _leaves(item, str(key))}
    if isinstance(value, list):
        return {leaf for item in value for leaf in _leaves(item, name)}
    if name == "auth" and isinstance(value, str):  # user:password in base64
        return {value, *(plain.partition(":")[2] for plain in _decoded(value))}
    return {value} if isinstance(value, str) and is_secret(name, value) else set()


def _is_secret_pair(item: dict[t.Any, t.Any]) -> bool:
    """Tell whether *item* is an environment variable, or a header, that is secret by its name or value."""
    name, value = item.get("name"), item.get("value")
    return isinstance(name, str) and not isinstance(value, dict | list | bool | None) and is_secret(name, value)


def _decoded(text: str) -> set[str]:
    try:
        return {base64.b64decode(text, validate=True).decode()}
    except ValueError:  # binascii.Error and UnicodeDecodeError are two
        return set()


def _redacted(value: t.Any, hide: Hide) -> t.Any:
    if isinstance(value, dict):
        result = {name: _redacted(item, hide) for name, item in value.items()}
        for name, item in value.items():
            if isinstance(item, str) and _is_secret_field(str(name)):
                result[name] = hide(item)
        if _is_secret_pair(value):
            result["value"] = hide(str(value["value"]))
        return result
    if isinstance(value, list):
        return [_redacted(item, hide) for item in value]
    return replaced(value, hide) if isinstance(value, str) else value


def _is_secret_field(name: str) -> bool:
    lower = name.lower()
    return is_secret_name(name) and lower not in _NO_SECRETS and not lower.endswith(_REFERENCES)

