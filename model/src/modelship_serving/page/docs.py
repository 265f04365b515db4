# SPDX-License-Identifier: GPL-3.0-or-later
"""``/docs``: the OpenAPI document as a page, with examples for this very model. It runs no script."""

from __future__ import annotations

import html
import json
import re
import typing as t

from ..context import Context
from ..explain import explainable
from ..images import picture_of
from ..openapi import document
from ..samples import example
from ..schemas import flat
from ..tensors import Field

#: Inputs with more numbers than this are not written out in the examples.
_SHORT = 16
_NUMPY = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BOOL": "bool"}


def render_docs(context: Context) -> bytes:
    """Return the page's HTML."""
    model = context.models.default
    release = model.release
    name = html.escape(release.name)
    picture = picture_of(model.fields[0]) if len(model.fields) == 1 else None
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{name}: API</title>",
        '<link rel="icon" href="icon.svg" type="image/svg+xml"><link rel="stylesheet" href="style.css">',
        '</head>\n<body class="docs">',
        f'<header><h1>{name}: API</h1><nav aria-label="More"><a href="./">Try it</a><a href="openapi.json">openapi.json</a>'
        '<a href="metrics">Metrics</a></nav></header>\n<main>',
        f"<p>Release <code>{html.escape(release.digest)}</code>. Every answer names its release in the header "
        "<code>modelship-release</code> and carries the <code>x-request-id</code> that was sent, or one of its own. An error is "
        '<code>{"error": "…"}</code>, one line that names the field and says what was expected there.</p>',
        "<h2>The model</h2>",
        _model(context),
        "<h2>Examples</h2>",
        *_examples(context, picture is not None),
        "<h2>Reference</h2>",
        *_reference(document(context)),
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(parts).encode()


def _model(context: Context) -> str:
    model = context.models.default
    signature = model.release.signature
    rows = []
    for field in model.fields:
        limits = f"{field.range[0]:g} to {field.range[1]:g}" if field.range else "any finite number"
        rows.append(("input", field.name, field.datatype, _shape(field.shape), limits))
    for spec, datatype in zip(signature.outputs, model.output_datatypes, strict=True):
        rows.append(("output", spec.name, datatype, _shape(spec.shape[1:]), ""))
    body = "".join(
        f"<tr><td>{kind}</td><td><code>{html.escape(name)}</code></td><td>{datatype}</td><td>{shape}</td><td>{limits}</td></tr>"
        for kind, name, datatype, shape, limits in rows
    )
    table = (
        '<div class="wide"><table><thead><tr><th></th><th>Name</th><th>Datatype</th><th>Shape of a sample</th>'
        f"<th>Values</th></tr></thead><tbody>{body}</tbody></table></div>"
    )
    notes = []
    if signature.labels and signature.class_output is not None:
        labels = ", ".join(signature.labels[:50]) + (", …" if len(signature.labels) > 50 else "")
        notes.append(f"<p>{len(signature.labels)} classes: {html.escape(labels)}</p>")
    versions = context.models.versions
    if len(versions) > 1:
        names = ", ".join(f"<code>{version}</code>" for version in versions)
        notes.append(f"<p>Versions, the default first: {names}</p>")
    return table + "".join(notes)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


def _examples(context: Context, picture: bool) -> list[str]:
    model = context.models.default
    settings = context.settings
    tls = bool(settings.tls_cert)
    key = ' -H "authorization: Bearer $KEY"' if settings.keyed else ""
    start = f"URL={'https' if tls else 'http'}://localhost:{settings.port}"
    if key:
        start += "\nKEY=…"
    parts = []
    if picture:
        curl = f'{start}\ncurl "$URL/predict"{key} -H "content-type: image/png" --data-binary @picture.png'
        if settings.explain and not explainable(model):
            curl += "\n\n# which parts of it speak for the class\n"
            curl += f'curl "$URL/explain"{key} -H "content-type: image/png" --data-binary @picture.png -o why.png'
        parts += ["<p>A picture, PNG or JPEG of any size:</p>", _pre(curl)]
    size = sum(field.size for field in model.fields)
    if size <= _SHORT:
        body = json.dumps({name: flat(values) for name, values in example(context).items()})
        call = f"""curl "$URL/predict"{key} -H "content-type: application/json" -d '{body}'"""
    else:
        numbers = ", ".join(f'"{field.name}": [{_fill(field)}] * {field.size}' for field in model.fields)
        call = (
            f"python3 -c 'import json; print(json.dumps({{{numbers}}}))' |\n"
            f'  curl "$URL/predict"{key} -H "content-type: application/json" -d @-'
        )
    parts += ["<p>Numbers, flat or nested:</p>", _pre(call if picture else f"{start}\n{call}")]
    parts += [
        "<p>Python, with the unmodified client of the Open Inference Protocol (<code>pip install tritonclient[http]</code>):</p>",
        _pre(_python(context, "http")),
    ]
    if settings.grpc_port:
        parts += [
            "<p>The same over gRPC (<code>pip install tritonclient[grpc]</code>):</p>",
            _pre(_python(context, "grpc")),
        ]
    return parts


def _python(context: Context, protocol: str) -> str:
    model = context.models.default
    settings = context.settings
    port = settings.port if protocol == "http" else settings.grpc_port
    lines = ["import numpy as np", f"import tritonclient.{protocol} as client", ""]
    options = ", ssl=True" if settings.tls_cert else ""
    lines.append(f'server = client.InferenceServerClient("localhost:{port}"{options})')
    lines.append("inputs = []")
    for field in model.fields:
        shape = [1, *field.shape]
        dtype = _NUMPY.get(field.datatype, field.datatype.lower())
        lines.append(f'tensor = client.InferInput("{field.name}", {shape}, "{field.datatype}")')
        lines.append(f'tensor.set_data_from_numpy(np.full({shape}, {_fill(field)}, "{dtype}"))')
        lines.append("inputs.append(tensor)")
    headers = ', headers={"authorization": "Bearer …"}' if settings.keyed else ""
    lines.append(f'answer = server.infer("{model.release.name}", inputs{headers})')
    lines.append(f'print(answer.as_numpy("{model.release.signature.outputs[0].name}"))')
    return "\n".join(lines)


def _fill(field: Field) -> str:
    low, _high = field.range or (0, 0)
    if field.dtype.kind == "b":
        return "False"
    return repr(float(low)) if field.dtype.kind == "f" else repr(int(low))


def _marked(text: str) -> str:
    """Escape, and set what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _pre(text: str) -> str:
    return f'<pre tabindex="0"><code>{html.escape(text)}</code></pre>'


def _reference(whole: dict[str, t.Any]) -> list[str]:
    parts = []
    for path, operations in whole["paths"].items():
        for method, operation in operations.items():
            lines = [
                f'<details><summary><span class="method">{method.upper()}</span><code>{html.escape(path)}</code>'
                f'<span class="what">{html.escape(operation["summary"])}</span></summary><div class="inside">'
            ]
            parameters = [_resolve(whole, each) for each in operation["parameters"]]
            if parameters:
                rows = "".join(
                    f"<tr><td><code>{each['name']}</code></td><td>{each['in']}</td><td>{html.escape(_kind(each['schema']))}</td>"
                    f"<td>{_marked(each['description'])}</td></tr>"
                    for each in parameters
                )
                lines.append(
                    f'<h3>Parameters</h3><div class="wide parameters"><table><tbody>{rows}</tbody></table></div>'
                )
            if "requestBody" in operation:
                kinds = ", ".join(f"<code>{kind}</code>" for kind in operation["requestBody"]["content"])
                more = operation["requestBody"].get("description", "")
                lines.append(f"<h3>Body</h3><p>{kinds}</p>" + (f"<p>{_marked(more)}</p>" if more else ""))
            rows = "".join(_answer_row(whole, status, each) for status, each in sorted(operation["responses"].items()))
            lines.append(
                f'<h3>Answers</h3><div class="wide answers"><table><tbody>{rows}</tbody></table></div></div></details>'
            )
            parts.append("".join(lines))
    return parts


def _answer_row(whole: dict[str, t.Any], status: str, answer: dict[str, t.Any]) -> str:
    answer = _resolve(whole, answer)
    kinds = "<br>".join(answer.get("content", {}))
    return f"<tr><td>{status}</td><td>{_marked(answer['description'])}</td><td><code>{kinds}</code></td></tr>"


def _resolve(whole: dict[str, t.Any], item: dict[str, t.Any]) -> dict[str, t.Any]:
    while "$ref" in item:
        found = whole
        for part in item["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        item = found
    return item


def _kind(schema: dict[str, t.Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"][:6])) + (" | …" if len(schema["enum"]) > 6 else "")
    return str(schema.get("type", ""))
