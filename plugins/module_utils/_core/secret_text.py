# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets inside larger values: passwords in URLs, and named secrets in nested options and in configuration files."""

from __future__ import annotations

import re
import typing as t
import urllib.parse

from .redaction import HIDDEN, fingerprint
from .secret_names import is_secret_name, is_secret_value

_URL_PASSWORD = re.compile(r"(?P<before>\b[A-Za-z][A-Za-z0-9+.-]*://[^/\s:@\"']*:)(?P<password>[^/\s@\"']+)(?=@)")
#: A line ``key: value`` or ``key = value`` of YAML, TOML, INI or JSON.
_LINE = re.compile(r"(?P<before>(?P<indent>\s*(?:- +)*)[\"']?(?P<key>[\w.-]+)[\"']?\s*[:=]\s*)(?P<value>.*)")
#: The same within a line, as in YAML's flow style.
_INLINE = re.compile(
    r"(?P<before>(?<![\w.-])(?P<key>[\w.-]+)[\"']?\s*[:=]\s*)(?P<value>\"(?:\\.|[^\"\\])*\"|'[^']*'|[^\s,}\]\"']+)"
)
#: Values of a key whose own value follows in deeper lines.
_FOLLOWS = re.compile(r"([|>][-+0-9]*|[{\[])?\s*")


def is_secret_key(key: t.Any) -> bool:
    """Tell whether a key, header or variable called *key* is taken to hold a secret."""
    return is_secret_name(str(key))


def without_secrets(value: t.Any, found: list[t.Any]) -> t.Any:
    """Return *value*, of any type, without secrets; what is secret is added to *found*.

    Secrets are the values of those keys, at any depth, whose names tell of one, and passwords in URLs.
    """
    if isinstance(value, dict):
        return {
            key: _hidden(item, found) if is_secret_key(key) else without_secrets(item, found)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [without_secrets(item, found) for item in value]
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
    """Return *text* without values in it whose names tell of a secret (``--password=…``), and passwords of URLs."""

    def hide(match: re.Match[str]) -> str:
        if not is_secret_key(match["key"]):
            return match[0]
        found.append(match["value"].strip("\"'"))
        return match["before"] + HIDDEN

    for match in _URL_PASSWORD.finditer(text):
        found += [match["password"], urllib.parse.unquote(match["password"])]
    shown = _INLINE.sub(hide, _URL_PASSWORD.sub(rf"\g<before>{HIDDEN}", text))
    if is_secret_value(shown.replace(HIDDEN, "")):  # a private key, a connection string
        found.append(text)
        return HIDDEN
    return shown


def redacted_lines(text: str) -> list[str]:
    """Return the lines of a configuration file with stand-ins for secrets, which show only whether they changed."""
    lines: list[str] = []
    secret_below: int | None = None  # the column of a secret key whose value follows in deeper lines
    for line in text.splitlines():
        column = len(line) - len(line.lstrip())
        if secret_below is not None and (column > secret_below or not line.strip()):
            lines.append(line[:column] + fingerprint(line[column:]) if line.strip() else line)
            continue
        secret_below = None
        match = _LINE.fullmatch(line)
        if match and is_secret_key(match["key"]):
            if _FOLLOWS.fullmatch(match["value"]):
                secret_below = len(match["indent"])
                lines.append(line)
            else:
                lines.append(match["before"] + fingerprint(match["value"]))
            continue
        line = _INLINE.sub(_inline, line)
        lines.append(_URL_PASSWORD.sub(lambda url: url["before"] + fingerprint(url["password"]), line))
    return lines


def _inline(match: re.Match[str]) -> str:
    return match["before"] + (fingerprint(match["value"]) if is_secret_key(match["key"]) else match["value"])
