# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checked access to the fields of a request."""

from __future__ import annotations

import typing as t

from .errors import ModelError, did_you_mean

_NAMES = {str: "text", dict: "a mapping", list: "a list", int: "a whole number"}

T = t.TypeVar("T")


def check_fields(request: dict[str, t.Any], known: t.Collection[str], command: str) -> None:
    """Refuse fields that *command* does not know.

    :raises ModelError: an unknown field.
    """
    for name in request:
        if name not in known:
            raise ModelError("request", f"{command}: unknown field '{name}'{did_you_mean(name, known)}")


def required(request: dict[str, t.Any], name: str, kind: type[T]) -> T:
    """Return the field *name*.

    :raises ModelError: it is absent, null, empty or of another type.
    """
    value = optional(request, name, kind)
    if value is None or value == "":
        raise ModelError("request", f"the field '{name}' is missing: give {_NAMES[kind]}")
    return value


def optional(request: dict[str, t.Any], name: str, kind: type[T]) -> T | None:
    """Return the field *name*, or ``None`` where it is absent or null.

    :raises ModelError: it is of another type.
    """
    value = request.get(name)
    if value is not None and not isinstance(value, kind):
        raise ModelError("request", f"the field '{name}' must be {_NAMES[kind]}, not {value!r}")
    return value
