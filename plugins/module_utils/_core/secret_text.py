# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in nested options and in configuration files, hidden."""

from __future__ import annotations

import typing as t

from .redaction import HIDDEN, fingerprint
from .secret_names import is_secret_name
from .secret_values import is_option, passwords_in, replaced


def is_secret_key(key: t.Any) -> bool:
    """Tell whether a key, header or variable called *key* is taken to hold a secret."""
    return is_secret_name(str(key))


def without_secrets(value: t.Any, found: list[t.Any]) -> t.Any:
    """Return *value*, of any type, without secrets; what is secret is added to *found*.

    Secrets are the values of those keys, at any depth, whose names tell of one, the arguments after such options
    (C(--password)) in lists, and what :func:`.secret_values.secret_spans` finds in texts.
    """
    if isinstance(value, dict):
        named = is_secret_key(value.get("name", ""))  # an item of a list of variables: name and value
        return {
            key: _hidden(item, found)
            if is_secret_key(key) or (named and key == "value")
            else without_secrets(item, found)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [
            _hidden(item, found)
            if is_option(before) and not str(item).startswith("-")
            else without_secrets(item, found)
            for before, item in zip(["", *value], value, strict=False)
        ]
    return _text_without_secrets(value, found) if isinstance(value, str) else value


def _hidden(value: t.Any, found: list[t.Any]) -> t.Any:
    if isinstance(value, dict):
        return {key: _hidden(item, found) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(item, found) for item in value]
    if value is None or value == "" or isinstance(value, bool):
        return value
    found.append(value)
    return HIDDEN


def _text_without_secrets(text: str, found: list[t.Any]) -> str:
    found += sorted(passwords_in(text))
    return replaced(text, lambda _secret: HIDDEN)


def redacted_lines(text: str) -> list[str]:
    """Return the lines of a configuration file with stand-ins for secrets, which show only whether they changed."""
    return replaced(text, _by_line).splitlines()


def _by_line(secret: str) -> str:
    """Return the stand-ins for the lines of *secret*, indented as these are."""
    lines = secret.splitlines(keepends=True)
    return "".join(line.replace(bare, fingerprint(bare), 1) if (bare := line.strip()) else line for line in lines)
