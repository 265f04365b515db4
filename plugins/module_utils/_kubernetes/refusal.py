# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the API server refuses, told so that a user can act on it, and without the values of secrets."""

from __future__ import annotations

import re
import typing as t

from .._core.errors import ModelshipError
from .._core.masking import Mask
from .errors import FIELD_CONFLICT, ApiError
from .objects import Key, Object, key_of
from .secrets import secrets_in

_MANAGER = re.compile(r'conflict with "(?P<manager>[^"]*)"(?: with subresource "(?P<subresource>[^"]*)")?')
_IMMUTABLE = re.compile(
    r"immutable|may not change|cannot (be )?change|updates to .* forbidden|cannot be updated|can ?not be less than",
    re.I,
)
#: Statuses of what the server says of one object, not of this user or of itself; 500 for fields that a kind does not have.
_OF_ONE = frozenset((400, 403, 404, 409, 422, 500))
#: What validation puts before the value that it refuses; then comes the reason, if it has one.
_VALUE = re.compile(r"^(?P<what>(?:Invalid|Unsupported|Duplicate) value|Not found): ")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
#: A value that is short and plain; anything else is a dump of a whole structure, or may hold a secret.
_PLAIN = re.compile(r'"(?:[^"\\]|\\.){0,80}"|[-\w.]{0,40}')
_MOST_TEXT = 200
_TYPED = re.compile(r"got &value\.\w+\{Value:.*?\}(?=\s|$)")
#: Shorter secrets are part of too many words.
_LEAST_SCRUBBED = 4


class Conflict(t.NamedTuple):
    """A declared *field* that *manager* (through *subresource*, or empty) owns with another value.

    :param why: a field that is not declared, but with which what is declared would be invalid: what the server says.
    """

    key: Key
    field: str
    manager: str
    subresource: str
    why: str = ""

    def __str__(self) -> str:
        through = f" ({self.subresource})" if self.subresource else ""
        beside = f" and cannot stand beside what is declared ({self.why})" if self.why else ""
        return f"{self.field} is managed by {self.manager}{through}{beside}"


def conflicts_of(error: ModelshipError, key: Key) -> list[Conflict]:
    """Return the conflicts with other field managers that *error*, an answer to applying *key*, reports."""
    found = []
    for cause in error.causes if isinstance(error, ApiError) and error.status == 409 else []:
        if cause.get("reason") == FIELD_CONFLICT:
            match = _MANAGER.search(cause.get("message") or "")
            manager = match["manager"] if match else "another manager"
            subresource = (match["subresource"] or "") if match else ""
            found.append(Conflict(key, str(cause.get("field") or "").lstrip("."), manager, subresource))
    return found


def conflict_error(conflicts: t.Sequence[Conflict]) -> ModelshipError:
    """Return the one error that tells all *conflicts*, with the managers by name."""
    by_key: dict[Key, list[Conflict]] = {}
    for conflict in conflicts:
        by_key.setdefault(conflict.key, []).append(conflict)
    told = "; ".join(f"{key}: {', '.join(str(item) for item in items)}" for key, items in by_key.items())
    return ModelshipError(
        f"{told}: give them up there, leave them out here, or take them over with kubernetes.force",
        kind="conflict",
        conflicts=[
            {"object": str(item.key), "field": item.field, "manager": item.manager, "subresource": item.subresource}
            for item in conflicts
        ],
    )


def explained(error: ModelshipError, obj: Object) -> ModelshipError:
    """Return the error to show where the server refused to apply *obj*: what field, why, and what to do."""
    if not isinstance(error, ApiError) or error.unreachable:
        return error
    key = key_of(obj)
    if conflicts := conflicts_of(error, key):
        return conflict_error(conflicts)
    if error.status == 422 and error.causes:
        secret = obj["kind"] == "Secret"
        reasons = [_reason(cause, secret) for cause in error.causes]
        advice = ""
        if any(_IMMUTABLE.search(reason) for reason in reasons):
            advice = f". {_what_to_do(key, obj)}"
        message = f"{key} is refused: {'; '.join(dict.fromkeys(reasons))}{advice}"
    else:
        message = _TYPED.sub("got a value of another type", error.message)
        message = "; ".join(line.strip() for line in message.splitlines() if line.strip())
    return ApiError(_scrubbed(message, obj), status=error.status, reason=error.reason, causes=error.causes)


def is_final(error: ModelshipError) -> bool:
    """Tell whether the server refused a change of what can never change."""
    causes = error.causes if isinstance(error, ApiError) and error.status == 422 else []
    return any(_IMMUTABLE.search(str(cause.get("message"))) for cause in causes)


def is_about_object(error: ModelshipError) -> bool:
    """Tell whether the server refused one object, so that others may fare better."""
    return isinstance(error, ApiError) and error.status in _OF_ONE


def is_refusal(error: ModelshipError) -> bool:
    """Tell whether the server refused what was asked of it: it answered, and no other run has taken the lock."""
    return error.kind in ("kubernetes", "conflict") and not (isinstance(error, ApiError) and error.unreachable)


def combined(errors: t.Sequence[ModelshipError]) -> ModelshipError:
    """Return one error for several, of the kind of the first; a server that cannot be reached is told alone."""
    first = errors[0]
    for error in errors:
        if isinstance(error, ApiError) and error.unreachable:
            return error
    told = list(dict.fromkeys(error.message for error in errors))
    if len(told) == 1:
        return first
    rest = f"; and {len(told) - 5} more" if len(told) > 5 else ""
    return ModelshipError("; ".join(told[:5]) + rest, kind=first.kind, **first.details)


def some(names: t.Sequence[object], most: int = 5) -> str:
    """Return the first *most* of *names* and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(str(name) for name in names[:most]) + rest


def _reason(cause: dict[str, t.Any], secret: bool) -> str:
    field = str(cause.get("field") or "").strip("[].")  # "[]" is the whole object
    reason = short_reason(str(cause.get("message")), secret)
    return f"{cause['field']}: {reason}" if field else reason


def short_reason(message: str, secret: bool) -> str:
    """Return what validation says without a dump of the object (which can hold secrets) and without its diff."""
    message = message.split("\n", 1)[0]
    match = _VALUE.match(message)
    if not match:
        return message.removeprefix("Forbidden: ")
    value, why = _value_and_reason(message[match.end() :])
    shown = value if not secret and _PLAIN.fullmatch(value) else ""
    if not why:  # the kind of the refusal is all that there is of a reason
        if not secret and not any(mark in value for mark in '{["'):
            shown = value[:_MOST_TEXT]
        return f"{match['what']}: {shown}" if shown else match["what"]
    return f"{shown}: {why}" if shown else why


def _value_and_reason(text: str) -> tuple[str, str]:
    """Split ``value: reason``; both may contain colons, and the value braces and quotes."""
    depth, position = 0, 0
    while position < len(text):
        if text[position] == '"' and (quoted := _QUOTED.match(text, position)):
            position = quoted.end()
            continue
        depth += {"{": 1, "[": 1, "(": 1, "}": -1, "]": -1, ")": -1}.get(text[position], 0)
        if depth <= 0 and text.startswith(": ", position):
            return text[:position], text[position + 2 :]
        position += 1
    return text, ""


def _what_to_do(key: Key, obj: Object) -> str:
    resource = f"{key.kind.lower()}.{key.group}" if key.group else key.kind.lower()
    where = f"--namespace {key.namespace} " if key.namespace else ""
    delete = f"kubectl {where}delete {resource} {key.name}"
    if key.kind == "PersistentVolumeClaim":
        return (
            "Of a claim only the size can change, and only grow, once it is bound and if its storage class allows it. "
            f"Declare it as it is, or under another name, or delete it and what it holds ({delete}) and run again"
        )
    if key.kind == "Job":
        return (
            f"What a Job runs cannot change once it exists: give it another name, or delete it ({delete}) and run again"
        )
    if obj.get("immutable"):
        return f"It is declared immutable: give it another name, or delete it ({delete}) and run again"
    return f"This cannot change once it exists: delete it ({delete}) and run again, or give it another name"


def _scrubbed(message: str, obj: Object) -> str:
    """Take the values of secrets out of *message*, which a server or a webhook composed."""
    values = [value for value in secrets_in(obj) if len(value) >= _LEAST_SCRUBBED]
    for value in sorted(values, key=len, reverse=True):
        message = message.replace(value, "<redacted>")
    return Mask(values, hide=lambda _secret: "<redacted>").text(message)
