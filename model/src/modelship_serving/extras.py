# SPDX-License-Identifier: GPL-3.0-or-later
"""The page, the documentation and explanations: imported when one of their paths is first asked for, not before.

A server that only predicts starts sooner and stays smaller without them.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable

from . import metrics
from .app import Route
from .context import Context
from .http import Handler, Request, Response

#: The page's own files; ``/docs`` and ``/`` are made.
STATIC = ("style.css", "page.js", "sheet.js", "pixels.js", "fields.js", "icon.svg")


def routes(context: Context) -> dict[str, Route]:
    """Return the routes of those that are on."""
    found = {"/openapi.json": Route(metrics.PAGE, "GET", _later(context, "openapi"), public=True)}
    if context.settings.page:
        page = Route(metrics.PAGE, "GET", _later(context, "page.page"), public=True)
        found.update(dict.fromkeys(("/", "/docs", *(f"/{name}" for name in STATIC)), page))
    if context.settings.explain:
        found["/explain"] = Route(metrics.EXPLAIN, "POST", _later(context, "explain"))
    return found


def _later(context: Context, module: str) -> Handler:
    handler: Handler | None = None

    def answer(request: Request) -> Response | Awaitable[Response]:
        nonlocal handler
        if handler is None:
            handler = importlib.import_module(f".{module}", __package__).handler(context)
        return handler(request)

    return answer
