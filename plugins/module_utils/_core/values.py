# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of options that are mappings of text: environment variables, labels, annotations, files, headers."""

from __future__ import annotations

import re
import typing as t

from .errors import ModelshipError

#: What every maintained Kubernetes release takes as the name of an environment variable.
_VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]{0,252}")
#: What has no UTF-8 form: Python uses it for bytes that are not UTF-8.
_UNPAIRED = re.compile("[\ud800-\udfff]")
_KINDS: tuple[tuple[type, str], ...] = ((dict, "a mapping"), (list, "a list"), (tuple, "a list"))


def texts(given: t.Mapping[t.Any, t.Any] | None, option: str) -> dict[str, str]:
    """Return the items of *given* as text, without those whose value is null.

    YAML gives numbers and booleans where people mean text: a boolean becomes ``true`` or ``false``, as in YAML.

    :param option: name of the option, for the error.
    :raises ModelshipError: a value is a mapping or a list, has a null character, or is not valid Unicode; the message names its
        key only, because the value may be secret.
    """
    found = {str(name): value for name, value in (given or {}).items() if value is not None}
    if any(_UNPAIRED.search(name) for name in found):
        raise ModelshipError(
            f"{option} has a name with half of a surrogate pair, which is not valid Unicode: correct it"
        )
    return {name: text(value, f"{option}.{name}") for name, value in found.items()}


def text(value: t.Any, option: str) -> str:
    """Return a string, number or boolean as text.

    :param option: name of the value, for the error.
    :raises ModelshipError: *value* is something else, has a null character, or is not valid Unicode.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        kind = next((words for kind, words in _KINDS if isinstance(value, kind)), f"of type {type(value).__name__}")
        raise ModelshipError(
            f"{option} is {kind}: give a string, a number or a boolean (the filters to_json and to_nice_yaml make text of it)"
        )
    found = str(value)
    if "\0" in found:
        raise ModelshipError(f"{option} has a null character, which no text here can have: remove it")
    if _UNPAIRED.search(found):
        raise ModelshipError(
            f"{option} has half of a surrogate pair, which is not valid Unicode (bytes that were not UTF-8?): correct it, or "
            "encode it (b64encode)"
        )
    return found


def variables(given: t.Mapping[t.Any, t.Any] | None, option: str) -> dict[str, str]:
    """Return environment variables as text, without those that are null; see :func:`texts`.

    :raises ModelshipError: a name cannot be that of a variable on every target, or a value is not text.
    """
    for name in given or {}:
        if not _VARIABLE.fullmatch(str(name)):
            shown, separator, rest = str(name).partition("=")
            shown += f"{separator}…" if rest else separator  # what follows may be a secret
            raise ModelshipError(
                f"{option}: '{shown}' cannot be the name of a variable: letters, digits, '_', '-' and '.', not beginning "
                "with a digit, 253 characters at most"
            )
    return texts(given, option)


def is_integer(value: t.Any) -> bool:
    """Whether *value* is an integer; a boolean, which Python counts as one, is not."""
    return isinstance(value, int) and not isinstance(value, bool)
