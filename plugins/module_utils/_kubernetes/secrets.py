# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where secrets are in Kubernetes objects: to show the objects without them, and to keep them out of all else."""

from __future__ import annotations

import base64
import json
import typing as t

from .._core.redaction import fingerprint
from .._core.secret_names import describes, is_secret_name
from .._core.secret_values import decoded, is_option, is_secret, passwords_in, replaced

#: kubectl keeps a whole copy of the object here, values of Secrets included.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: Names of fields that end so hold a reference, not the secret itself (``secretName``, ``tokenPath``).
_REFERENCES = ("name", "ref", "path", "mode", "namespace", "audience", "class", "template", "parameter", "account")
#: Fields of Kubernetes that name an entry, a label or a taint.
_NO_SECRETS = frozenset(("apiversion", "group", "key", "property", "topologykey", "user", "username"))

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
    """Return what :func:`redacted` hides in an object: as it is, decoded from base64, and the passwords within it."""
    found: set[str] = set()

    def collect(secret: str) -> str:
        found.update({secret}, decoded(secret), _inner(secret))
        return ""

    _redacted(value, collect)
    if isinstance(value, dict):
        for obj in _objects(value):
            if obj.get("kind") == "Secret":
                for part in ("data", "stringData"):
                    texts = obj.get(part)
                    for text in texts.values() if isinstance(texts, dict) else ():
                        found |= {str(text)}
                        for plain in _decoded(str(text)) if part == "data" else [str(text)]:
                            found |= {plain} | _inner(plain)
            if obj.get("kind") == "ConfigMap" and isinstance(entries := obj.get("data"), dict):
                found |= {str(text) for name, text in entries.items() if is_secret(str(name), text)}
    elif isinstance(value, list):
        for item in value:
            found |= secrets_in(item)
    return found


def _objects(value: dict[t.Any, t.Any]) -> t.Iterator[dict[t.Any, t.Any]]:
    """Return *value* and all objects in it, as in lists and in templates of operators."""
    yield value
    for item in value.values():
        for each in item if isinstance(item, list) else [item]:
            if isinstance(each, dict):
                yield from _objects(each)


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


def _redacted(value: t.Any, hide: Hide, below: bool = False) -> t.Any:
    """Return *value* without secrets; *below* a field whose name says so, all but names and references is secret."""
    if isinstance(value, dict):
        result = {}
        for name, item in value.items():
            lower = str(name).lower()
            secret = _is_secret_field(str(name)) or (
                below and lower not in _NO_SECRETS and not lower.endswith(_REFERENCES) and not describes(str(name))
            )
            if isinstance(item, dict | list):
                result[name] = _redacted(item, hide, secret)
            else:
                result[name] = _leaf(item, hide, secret)
        if _is_secret_pair(value):
            result["value"] = hide(str(value["value"]))
        return result
    if isinstance(value, list):
        return [
            _redacted(item, hide, below or (is_option(before) and not str(item).startswith("-")))
            for before, item in zip(["", *value], value, strict=False)
        ]
    return _leaf(value, hide, below)


def _leaf(value: t.Any, hide: Hide, secret: bool) -> t.Any:
    if isinstance(value, bool | None) or value == "":
        return value
    if secret and (isinstance(value, int | float) or is_secret("password", value)):
        return hide(str(value))
    return replaced(value, hide) if isinstance(value, str) else value


def _is_secret_field(name: str) -> bool:
    lower = name.lower()
    return is_secret_name(name) and lower not in _NO_SECRETS and not lower.endswith(_REFERENCES)
