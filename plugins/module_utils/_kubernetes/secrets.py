# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where secrets are in Kubernetes objects: to show the objects without them, and to keep them out of all else."""

from __future__ import annotations

import base64
import typing as t

from .._core.redaction import fingerprint, is_secret_name

#: kubectl keeps a whole copy of the object here, values of Secrets included.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
#: Names that end so hold a reference, not the secret itself (``secretName``, ``tokenPath``).
_REFERENCES = ("name", "ref", "path", "mode", "namespace", "audience")

Hide = t.Callable[[str], str]


def redacted(obj: t.Any, hide: Hide = fingerprint) -> t.Any:
    """Return a copy of the object *obj* with what *hide* returns for every secret.

    These are the values of Secrets, and strings whose name says so.
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
    """Return the secrets in an object that are text of their own: values of Secrets, and of variables so named."""
    found: set[str] = set()
    if isinstance(value, dict):
        if value.get("kind") == "Secret":
            for part in ("data", "stringData"):
                texts = value.get(part)
                for text in texts.values() if isinstance(texts, dict) else ():
                    found |= {str(text)} | (_decoded(str(text)) if part == "data" else set())
        if _is_secret_pair(value):
            found.add(str(value["value"]))
        for item in value.values():
            found |= secrets_in(item)
    elif isinstance(value, list):
        for item in value:
            found |= secrets_in(item)
    return found


def _is_secret_pair(item: dict[t.Any, t.Any]) -> bool:
    """Tell whether *item* is an environment variable, or a header, whose name says that it is secret."""
    name, value = item.get("name"), item.get("value")
    return isinstance(name, str) and is_secret_name(name) and not isinstance(value, dict | list | bool | None)


def _decoded(text: str) -> set[str]:
    try:
        return {base64.b64decode(text, validate=True).decode()}
    except ValueError:  # binascii.Error and UnicodeDecodeError are two
        return set()


def _redacted(value: t.Any, hide: Hide) -> t.Any:
    if isinstance(value, dict):
        result = {name: _redacted(item, hide) for name, item in value.items()}
        for name, item in result.items():
            if isinstance(item, str) and is_secret_name(str(name)) and not str(name).lower().endswith(_REFERENCES):
                result[name] = hide(item)
        if _is_secret_pair(value):
            result["value"] = hide(str(value["value"]))
        return result
    if isinstance(value, list):
        return [_redacted(item, hide) for item in value]
    return value
