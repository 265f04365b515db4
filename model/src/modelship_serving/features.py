# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the routes of the features together."""

from __future__ import annotations

from . import extras, simple, v2
from .app import Route
from .context import Context


def routes(context: Context) -> dict[str, Route]:
    """Return the routes of all features that are on, by path."""
    return {**simple.routes(context), **v2.routes(context), **extras.routes(context)}
