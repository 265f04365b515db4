# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the report together."""

from __future__ import annotations

import html
import typing as t


class Mistake(t.NamedTuple):
    """A sample that was taken for another class: its values, the right class, the given one, how sure, its number."""

    sample: t.Any
    truth: int
    given: int
    sureness: float
    number: int


def render(
    manifest: dict[str, t.Any],
    digest: str,
    evaluation: dict[str, t.Any],
    curves: dict[str, t.Any],
    mistakes: list[Mistake],
    gates: dict[str, float | int],
) -> str:
    """Return the HTML."""
    return f"<!doctype html><title>{html.escape(manifest['name'])}</title><pre>{html.escape(str(evaluation))}</pre>"
