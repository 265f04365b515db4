# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in a deployment's parameters that an argument spec cannot tell from the rest."""

from __future__ import annotations

import contextlib
import json
import typing as t

from .._core.redaction import is_secret_name

#: Keys of a kubeconfig that hold a secret.
_CREDENTIALS = frozenset(("token", "password", "client-key-data", "id-token", "refresh-token"))


def secret_values(parameters: t.Mapping[str, t.Any]) -> set[str]:
    """Return the values that Ansible must never print: of secret variables, of declared Secrets, of an inline kubeconfig."""
    environment = parameters.get("environment") or {}
    found = [value for name, value in environment.items() if is_secret_name(name)]
    for item in (parameters.get("kubernetes") or {}).get("extra_resources") or []:
        if isinstance(item, dict) and item.get("kind") == "Secret":
            for part in (item.get("data"), item.get("stringData")):
                found += part.values() if isinstance(part, dict) else []
    kubeconfig = parameters.get("kubeconfig")
    if isinstance(kubeconfig, str):
        with contextlib.suppress(ValueError):  # a path, most of the time
            kubeconfig = json.loads(kubeconfig)
    found += _credentials(kubeconfig)
    return {str(value) for value in found if value}


def _credentials(value: t.Any) -> list[t.Any]:
    if isinstance(value, list):
        return [found for item in value for found in _credentials(item)]
    if not isinstance(value, dict):
        return []
    own = [item for key, item in value.items() if key in _CREDENTIALS]
    return own + [found for item in value.values() for found in _credentials(item)]
