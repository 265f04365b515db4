# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping secrets out of diffs, results and logs."""

from __future__ import annotations

import hashlib
import os
import re
import typing as t

from .secret_values import is_secret

#: What stands for a secret where also that it changed is of no interest; Ansible's own word.
HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
_KEY = os.urandom(32)
_STAND_IN = re.compile(r"<redacted [0-9a-f]{16}>")
#: Shorter values, and numbers that are shorter than that, are part of much that is no secret.
_LEAST_LENGTH, _LEAST_DIGITS = 6, 12
_NUMBER = re.compile(r"[-+]?[\d.,_]+")


def redact(name: str, value: str) -> str:
    """Return *value*, or a stand-in that shows only whether it changed where it is a secret by *name* or shape."""
    return fingerprint(value) if is_secret(name, value) else value


def fingerprint(value: str) -> str:
    """Return what stands for the secret *value*: in this process the same for the same value, and another for another.

    Nobody can try values out on what was printed, because the key is another in each process.
    """
    return f"<redacted {hashlib.blake2b(value.encode(), key=_KEY, digest_size=8).hexdigest()}>"


def numbered(*texts: str) -> list[str]:
    """Return *texts* with the stand-ins for secrets numbered as they come, the same on every run: ``<redacted 1>``."""
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"<redacted {numbers.setdefault(match[0], len(numbers) + 1)}>"

    return [_STAND_IN.sub(number, text) for text in texts]


def redact_mapping(values: t.Mapping[str, str]) -> dict[str, str]:
    """Apply :func:`redact` to each item of *values*."""
    return {name: redact(name, value) for name, value in values.items()}


def maskable(values: t.Iterable[t.Any], told: t.Iterable[t.Any] = ()) -> set[str]:
    """Return, as text, those secret *values* that may be masked wherever they stand.

    Ansible masks every occurrence: with a secret "1" no digest, address or number would be left of a result. So what is
    short, a plain number or a part of what is *told* anyway is kept out of results by its place alone.
    """
    said = [str(item) for item in told if item]
    texts = {str(value) for value in values if value is not None and not isinstance(value, bool)}
    return {
        text
        for text in texts
        if len(text) >= (_LEAST_DIGITS if _NUMBER.fullmatch(text) else _LEAST_LENGTH)
        and not any(text in item for item in said)
    }
