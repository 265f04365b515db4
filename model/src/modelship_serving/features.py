# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the parts together: the models, and the routes of every feature that is on."""

from __future__ import annotations

from . import metrics
from .app import VERSION, Route
from .context import Context
from .errors import RequestError
from .http import Handler, Request, Response
from .simple import Simple
from .v2 import V2

#: Media types of a JSON body; the second is what ``curl -d`` sends when told nothing.
_JSON_TYPES = frozenset({"application/json", "application/x-www-form-urlencoded", ""})


def routes(context: Context) -> dict[str, Route]:
    """Return the routes of all features, by path."""
    model = context.models.default
    simple, v2 = Simple(model), V2(model, VERSION)

    async def predict(request: Request) -> Response:
        return Response(await simple.predict(_json(request)))

    async def infer(request: Request) -> Response:
        return Response(await v2.infer(_json(request)))

    def constant(body: bytes) -> Handler:
        return lambda _request: Response(body)

    found = {
        "/predict": Route(metrics.PREDICT, "POST", predict),
        "/v2": Route(metrics.METADATA, "GET", constant(v2.server_metadata)),
    }
    name = f"/v2/models/{model.release.name}"
    for path in (name, f"{name}/versions/{model.release.version}"):
        found[path] = Route(metrics.METADATA, "GET", constant(v2.model_metadata))
        found[f"{path}/ready"] = Route(metrics.HEALTH, "GET", constant(b'{"ready":true}'), public=True)
        found[f"{path}/infer"] = Route(metrics.INFER, "POST", infer)
    return found


def _json(request: Request) -> bytes:
    kind = request.headers.get("content-type", "")
    media = kind.partition(";")[0].strip().lower()
    if media not in _JSON_TYPES and not media.endswith("+json"):
        raise RequestError(415, f"content-type '{kind[:80]}': expected application/json")
    coding = request.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise RequestError(415, f"content-encoding '{coding[:80]}': send the body as it is")
    return request.body
