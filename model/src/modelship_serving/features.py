# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the parts together: the models, and the routes of every feature that is on."""

from __future__ import annotations

from . import simple, v2
from .app import Route
from .context import Context


def routes(context: Context) -> dict[str, Route]:
    """Return the routes of all features, by path."""
    return {**simple.routes(context), **v2.routes(context)}
