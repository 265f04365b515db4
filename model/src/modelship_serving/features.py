# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the routes of the features together; one that is off is not even imported."""

from __future__ import annotations

from . import simple, v2
from .app import Route
from .context import Context


def routes(context: Context) -> dict[str, Route]:
    """Return the routes of all features that are on, by path."""
    found = {**simple.routes(context), **v2.routes(context)}
    if context.settings.explain:
        from . import explain

        found |= explain.routes(context)
    if context.settings.page:
        from . import openapi
        from .page import page

        found |= openapi.routes(context) | page.routes(context)
    return found
