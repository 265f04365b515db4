# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves the page: its static files, read once when the first of them is asked for."""

from __future__ import annotations

import hashlib
import html
import json
import os
import typing as t

from ..context import Context
from ..explain import explainable
from ..extras import STATIC
from ..http import Handler, Request, Response
from ..images import dark_background, picture_of
from ..openapi import etags
from ..samples import example, golden_samples

_FOLDER = os.path.join(os.path.dirname(__file__), "static")
_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
#: Nothing from elsewhere, nothing inline, no frame around it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    ("content-security-policy", _POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    # Kept, but asked about each time: a new release or runtime shows at once, and an unchanged file costs a 304.
    ("cache-control", "no-cache"),
)
#: Golden samples that the page offers as examples, and the numbers that they may have altogether.
_EXAMPLES, _NUMBERS = 12, 20_000


def handler(context: Context) -> Handler:
    """Return what answers for the page, the documentation and their files."""
    files = {f"/{name}": _answers(name, _read(name)) for name in STATIC}
    files["/"] = _answers("index.html", render(context))

    def answer(request: Request) -> Response:
        path = request.path if request.path in files else request.path.rstrip("/")
        if path == "/docs" and path not in files:
            from .docs import render_docs

            files[path] = _answers("docs.html", render_docs(context))
        whole, unchanged = files[path]
        return unchanged if unchanged.headers[0][1] in etags(request) else whole

    return answer


def _read(name: str) -> bytes:
    with open(os.path.join(_FOLDER, name), "rb") as stream:
        return stream.read()


def _answers(name: str, body: bytes) -> tuple[Response, Response]:
    """The answer with a file, and the one that says that the client has it already."""
    headers = (("etag", f'"{hashlib.sha256(body).hexdigest()[:32]}"'), *_HEADERS)
    kind = _TYPES[name.rpartition(".")[2]]
    return Response(body, 200, kind, headers), Response(body, 304, kind, headers)


def render(context: Context) -> bytes:
    """Return the page's HTML, with what it has to know of the model inside."""
    model = context.models.default
    # In a script element only "<" could end it.
    description = json.dumps(describe(context), separators=(",", ":")).replace("<", "\\u003c")
    text = _read("index.html").decode()
    return text.replace("{{title}}", html.escape(model.release.name)).replace("{{model}}", description).encode()


def describe(context: Context) -> dict[str, t.Any]:
    """Return what the page's scripts know of the model."""
    model = context.models.default
    signature = model.release.signature
    classifier = signature.class_output is not None
    picture = picture_of(model.fields[0]) if len(model.fields) == 1 else None
    versions = [context.models.get(version) for version in context.models.versions]
    return {
        "name": model.release.name,
        "versions": [{"version": each.release.version, "release": each.release.digest} for each in versions],
        "inputs": [
            {"name": each.name, "datatype": each.datatype, "shape": each.shape, "range": each.range}
            for each in model.fields
        ],
        "outputs": [{"name": each.name, "shape": each.shape[1:]} for each in signature.outputs],
        "classifier": classifier,
        "labels": signature.labels if classifier else None,
        "picture": picture
        and {
            **picture._asdict(),
            "whole": model.fields[0].dtype.kind != "f",
            # Ink on a sheet is what the model knows only where it was trained on bright strokes on a dark ground.
            "draw": dark_background(model),
        },
        "explain": context.settings.explain and not explainable(model),
        "samples": golden_samples(context, _EXAMPLES, _NUMBERS),
        "sample": None if picture else example(context),
    }
