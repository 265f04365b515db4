# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeping secrets out of diffs, results and logs."""

from __future__ import annotations

import hashlib
import re
import typing as t

_SECRET = re.compile(
    r"pass(word|wd|phrase)?$|secret|token|api_?key|credential|private_?key|authorization", re.IGNORECASE
)


def is_secret_name(name: str) -> bool:
    """Tell whether a variable called *name* is taken to hold a secret."""
    return bool(_SECRET.search(name))


def redact(name: str, value: str) -> str:
    """Return *value*, or a stand-in that shows only whether it changed where *name* is a secret's."""
    return fingerprint(value) if is_secret_name(name) else value


def fingerprint(value: str) -> str:
    """Return what stands for the secret *value*, and shows only whether it changed."""
    return f"<redacted, fingerprint {hashlib.sha256(value.encode()).hexdigest()[:8]}>"


def redact_mapping(values: t.Mapping[str, str]) -> dict[str, str]:
    """Apply :func:`redact` to each item of *values*."""
    return {name: redact(name, value) for name, value in values.items()}
