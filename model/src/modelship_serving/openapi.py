# SPDX-License-Identifier: GPL-3.0-or-later
"""``/openapi.json``: the API of this very model, made from its signature (https://spec.openapis.org/oas/v3.1.1.html)."""

from __future__ import annotations

import hashlib

import msgspec

from .context import Context
from .explain import explainable
from .http import Handler, Request, Response
from .images import INVERT, MEDIA_TYPES, picture_of
from .samples import example
from .schemas import Schema, flat, obj, ref, schemas

#: Examples with more numbers than this are left out of the document: a picture is sent as PNG or JPEG.
_MOST_NUMBERS = 4096

_ERRORS = {
    "400": "Not such a request (bad JSON, a wrong option), or the input does not fit the signature; the message names the field.",
    "401": "No credentials, or not known ones.",
    "403": "The client certificate is missing.",
    "404": "No such path, model or version.",
    "405": "Another method than the one in `allow`.",
    "408": "The request did not arrive in time.",
    "413": "The body is larger than the limit, or the picture has too many pixels.",
    "415": "Another media type than those listed.",
    "429": "More requests than this client may send; `retry-after` says when to try again.",
    "503": "Overloaded, or shutting down; `retry-after` says when to try again.",
    "504": "The deadline passed before the answer was ready.",
}


def handler(context: Context) -> Handler:
    """Return what answers with the document, made once."""
    body = msgspec.json.encode(document(context))
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    whole = Response(body, headers=(("etag", tag), ("cache-control", "no-cache")))
    unchanged = Response(body, 304, headers=whole.headers)
    return lambda request: unchanged if tag in etags(request) else whole


def etags(request: Request) -> list[str]:
    """Return the entity tags in ``if-none-match`` (RFC 9110, section 13.1.2: compared weakly)."""
    return [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]


def document(context: Context) -> Schema:
    """Return the OpenAPI document."""
    return _Document(context).whole()


class _Document:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._settings = context.settings
        self._model = context.models.default
        self._release = self._model.release
        fields = self._model.fields
        self._picture = picture_of(fields[0]) if len(fields) == 1 else None
        small = sum(field.size for field in fields) <= _MOST_NUMBERS
        self._sample = example(context) if small else None

    def whole(self) -> Schema:
        from .app import VERSION

        settings = self._settings
        schemes: Schema = {}
        if settings.api_keys:
            schemes["key"] = {"type": "apiKey", "in": "header", "name": "x-api-key"}
        if settings.keyed:
            schemes["bearer"] = {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key, or a JWT where these are on.",
            }
        if settings.tls_client_ca:
            schemes["certificate"] = {"type": "mutualTLS"}
        others = [name for name in schemes if name != "certificate"]
        ask: list[Schema] = [{name: [], **({"certificate": []} if settings.tls_client_ca else {})} for name in others]
        if not others and schemes:
            ask = [{"certificate": []}]
        return {
            "openapi": "3.1.0",
            "info": {
                "title": self._release.name,
                "version": self._release.version,
                "summary": f"The model {self._release.name}, release {self._release.digest}",
                "description": f"Served by modelship {VERSION}. Every answer names its release in `modelship-release`.",
            },
            "servers": [{"url": "."}],
            **({"security": ask} if ask else {}),
            "tags": [
                {"name": "simple", "description": "The simple protocol"},
                {"name": "v2", "description": "The Open Inference Protocol, version 2"},
                {"name": "server", "description": "Health, metrics, documentation"},
            ],
            "paths": {**self._simple_paths(), **self._v2_paths(), **self._server_paths()},
            "components": {
                "schemas": schemas(self._context),
                "responses": {status: _error(status, text) for status, text in _ERRORS.items()},
                "headers": _HEADERS,
                "parameters": {**_PARAMETERS, "version": self._version()},
                **({"securitySchemes": schemes} if schemes else {}),
            },
        }

    # --- paths -----------------------------------------------------------------------------------------------------

    def _simple_paths(self) -> Schema:
        paths: Schema = {}
        predict = self._post("predict", "Ask for an answer", "simple")
        content: Schema = {"application/json": {"schema": ref("PredictRequest"), **self._examples(("one", "several"))}}
        content.update(self._media())
        predict["parameters"].append(self._version_query())
        predict["requestBody"] = {"required": True, "content": content}
        if self._picture:
            predict["parameters"].append(ref("invert", "parameters"))
        predict["responses"]["200"] = _answer("The answer, or one for each instance.", ref("PredictAnswer"))
        paths["/predict"] = {"post": predict}
        if self._settings.explain and not explainable(self._model):
            paths["/explain"] = {"post": self._explain()}
        return paths

    def _explain(self) -> Schema:
        explain = self._post("explain", "Show which parts of a picture speak for a class", "simple")
        one = {"application/json": {"schema": ref("Sample"), **self._examples(("one",))}}
        explain["requestBody"] = {"required": True, "content": {**one, **self._media()}}
        labels = self._release.signature.labels or ()
        explain["parameters"] += [
            {
                "name": "method",
                "in": "query",
                "description": "How: by covering one place after the other, or by integrating gradients.",
                "schema": {"enum": ["occlusion", "integrated-gradients"], "default": "occlusion"},
            },
            {
                "name": "class",
                "in": "query",
                "description": "The class to explain; by default the one that was found.",
                "schema": {"enum": list(labels)},
            },
            self._version_query(),
        ]
        if self._picture:
            explain["parameters"].append(ref("invert", "parameters"))
        explain["responses"]["200"] = {
            **_answer("A heat map over the input; numbers with `accept: application/json`.", ref("Explanation")),
        }
        explain["responses"]["200"]["content"] = {
            "image/png": {},
            "application/json": {"schema": ref("Explanation")},
        }
        return explain

    def _v2_paths(self) -> Schema:
        name = self._release.name
        paths: Schema = {
            "/v2": {
                "get": self._get("serverMetadata", "Name, version and extensions of the server", "v2", ref("Server"))
            },
            "/v2/health/live": {
                "get": self._get("serverLive", "Whether the process answers", "server", _flag("live"), True)
            },
            "/v2/health/ready": {
                "get": self._get("serverReady", "Whether it takes requests", "server", _flag("ready"), True)
            },
        }
        paths["/v2/health/ready"]["get"]["responses"]["503"] = ref("503", "responses")
        for prefix, suffix, parameters in (
            (f"/v2/models/{name}", "", []),
            (f"/v2/models/{name}/versions/{{version}}", "Version", [ref("version", "parameters")]),
        ):
            metadata = self._get(f"modelMetadata{suffix}", "Inputs and outputs of the model", "v2", ref("Model"))
            ready = self._get(f"modelReady{suffix}", "Whether the model takes requests", "v2", _flag("ready"), True)
            ready["responses"]["503"] = ref("503", "responses")
            infer = self._post(f"modelInfer{suffix}", "Run the model", "v2")
            infer["requestBody"] = {"required": True, "description": _BINARY, "content": self._infer_content()}
            infer["responses"]["200"] = _answer("The outputs.", ref("InferAnswer"))
            infer["responses"]["200"]["content"]["application/octet-stream"] = {}
            infer["responses"]["200"]["headers"]["inference-header-content-length"] = {
                "description": "With binary outputs: bytes of the JSON in front of them.",
                "schema": {"type": "integer"},
            }
            for operation in (metadata, ready, infer):
                operation["parameters"] = [*operation["parameters"], *parameters]
                if parameters:
                    operation["responses"]["404"] = ref("404", "responses")
            paths[prefix] = {"get": metadata}
            paths[f"{prefix}/ready"] = {"get": ready}
            paths[f"{prefix}/infer"] = {"post": infer}
        return paths

    def _server_paths(self) -> Schema:
        def text(operation: str, summary: str, kind: str) -> Schema:
            answer = self._get(operation, summary, "server", {}, public=True)
            answer["responses"]["200"]["content"] = {kind: {"schema": {"type": "string"}}}
            return {"get": answer}

        paths = {"/metrics": text("metrics", "Figures for Prometheus", "text/plain")}
        document = self._get("openapi", "This document", "server", {"type": "object"}, public=True)
        paths["/openapi.json"] = {"get": document}
        pages = [document]
        if self._settings.page:
            paths["/"] = text("page", "A page to try the model on", "text/html")
            paths["/docs"] = text("docs", "This documentation as a page", "text/html")
            pages += [paths["/"]["get"], paths["/docs"]["get"]]
        for page in pages:
            page["responses"]["304"] = {"description": "The client has it already (`if-none-match`)."}
        return paths

    def _post(self, operation: str, summary: str, tag: str) -> Schema:
        codes = ["400", "408", "413", "415", "503", "504"]
        if operation in ("predict", "explain"):
            codes.append("404")
        if self._context.gate.enabled:
            codes += ["401", "403", "429"]
        return {
            "operationId": operation,
            "summary": summary,
            "tags": [tag],
            "parameters": [ref("x-request-id", "parameters"), ref("modelship-timeout-ms", "parameters")],
            "responses": {code: ref(code, "responses") for code in sorted(codes)},
        }

    def _get(self, operation: str, summary: str, tag: str, schema: Schema, public: bool = False) -> Schema:
        codes = ["400"] if public or not self._context.gate.enabled else ["400", "401", "403", "429"]
        return {
            "operationId": operation,
            "summary": summary,
            "tags": [tag],
            "parameters": [],
            **({"security": []} if public else {}),
            "responses": {
                "200": _answer("As asked.", schema),
                **{code: ref(code, "responses") for code in codes},
            },
        }

    def _version_query(self) -> Schema:
        return {
            "name": "version",
            "in": "query",
            "description": "The version to ask; by default the first.",
            "schema": {"enum": self._context.models.versions},
        }

    def _version(self) -> Schema:
        return {
            "name": "version",
            "in": "path",
            "required": True,
            "description": "The first 12 digits of a release's digest.",
            "schema": {"enum": self._context.models.versions},
        }

    def _media(self) -> Schema:
        if not self._picture:
            return {}
        binary: Schema = {"type": "string", "format": "binary"}
        form = {"type": "object", "required": ["file"], "properties": {"file": binary}}
        return {**{kind: {"schema": binary} for kind in MEDIA_TYPES}, "multipart/form-data": {"schema": form}}

    def _infer_content(self) -> Schema:
        content: Schema = {"application/json": {"schema": ref("InferRequest")}}
        if self._sample is not None:
            content["application/json"]["example"] = {
                "inputs": [
                    {
                        "name": field.name,
                        "shape": [1, *field.shape],
                        "datatype": field.datatype,
                        "data": flat(self._sample[field.name]),
                    }
                    for field in self._model.fields
                ]
            }
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
        return content

    def _examples(self, wanted: tuple[str, ...]) -> Schema:
        if self._sample is None:
            return {}
        sample = {name: flat(values) for name, values in self._sample.items()}
        found = {
            "one": {"summary": "One sample", "value": sample},
            "several": {"summary": "Several samples", "value": {"instances": [sample, sample]}},
        }
        return {"examples": {name: found[name] for name in wanted}}


def _flag(name: str) -> Schema:
    return obj({name: {"const": True}})


def _answer(description: str, schema: Schema) -> Schema:
    return {
        "description": description,
        "headers": {name: ref(name, "headers") for name in ("modelship-release", "x-request-id")},
        "content": {"application/json": {"schema": schema}},
    }


def _error(status: str, text: str) -> Schema:
    answer = _answer(text, ref("Error"))
    more = {"401": "www-authenticate", "405": "allow", "429": "retry-after", "503": "retry-after"}.get(status)
    if more:
        answer["headers"][more] = ref(more, "headers")
    return answer


_BINARY = (
    "JSON; or, as `application/octet-stream`, JSON followed by binary tensors, with the bytes of the JSON in the header "
    "`inference-header-content-length` (https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/"
    "protocol/extension_binary_data.html)."
)

_HEADERS: Schema = {
    "modelship-release": {
        "description": "The release that answered.",
        "schema": {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
    },
    "x-request-id": {"description": "As given, or made by the server; also in its log.", "schema": {"type": "string"}},
    "retry-after": {"description": "Seconds to wait before trying again.", "schema": {"type": "integer", "minimum": 0}},
    "allow": {"description": "The methods allowed.", "schema": {"type": "string"}},
    "www-authenticate": {"description": "The credentials asked for.", "schema": {"type": "string"}},
}

_PARAMETERS: Schema = {
    "x-request-id": {
        "name": "x-request-id",
        "in": "header",
        "description": "Comes back in the answer and is in the log, if it has 1 to 128 printable characters.",
        "schema": {"type": "string"},
    },
    "modelship-timeout-ms": {
        "name": "modelship-timeout-ms",
        "in": "header",
        "description": "Milliseconds after which the answer is not wanted any more; then it is 504.",
        "schema": {"type": "integer", "minimum": 1, "maximum": 86400000},
    },
    "invert": {
        "name": "invert",
        "in": "query",
        "description": "For pictures: whether black and white change places. `auto` does so for dark ink on bright paper where "
        "the model was trained on bright ink on a dark ground.",
        "schema": {"enum": list(INVERT), "default": "auto"},
    },
}
