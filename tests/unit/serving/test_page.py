"""The page, the documentation and the OpenAPI document of models of several kinds, without a server."""

from __future__ import annotations

import hashlib
import json
import math
import re
import types
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="the serving runtime's dependencies are not installed here")
pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving import extras, metrics, openapi
from modelship_serving.http import Request
from modelship_serving.page import page
from modelship_serving.page.docs import render_docs
from modelship_serving.release import Signature, TensorSpec
from modelship_serving.samples import example, made_up
from modelship_serving.schemas import input_schema
from modelship_serving.settings import Settings
from modelship_serving.tensors import Field, v2_datatype

STATIC = Path(page.__file__).parent / "static"
PROBABILITIES = TensorSpec("probabilities", "float32", (-1, 3))
DIGITS = Signature(
    (TensorSpec("image", "float32", (-1, 28, 28, 1), (0, 255)),), (PROBABILITIES,), ("a", "b", "</script>&")
)
TABLE = Signature(
    (
        TensorSpec("age", "int64", (-1,), (18, 99)),
        TensorSpec("measures", "float32", (-1, 3)),
        TensorSpec("b", "bool", (-1, 1)),
    ),
    (TensorSpec("y", "float32", (-1, 1)),),
)
PHOTO = Signature((TensorSpec("x", "uint8", (-1, 3, 96, 96)),), (PROBABILITIES,), ("a", "b", "c"))


def context(signature: Signature, golden: Any = None, folder: Path = Path("/none"), **settings: Any) -> Any:
    digest = "sha256:" + hashlib.sha256(repr(signature).encode()).hexdigest()
    release = types.SimpleNamespace(
        name="shop <1>", digest=digest, version=digest[7:19], format="onnx", signature=signature,
        folder=str(folder),
    )  # fmt: skip
    if golden is not None:
        (folder / "golden.json").write_text(json.dumps({"inputs": golden}))
        release.digest = f"sha256:{folder.name}"
    model = types.SimpleNamespace(
        release=release,
        version=release.version,
        fields=[Field(spec) for spec in signature.inputs],
        output_datatypes=[v2_datatype(spec.dtype) for spec in signature.outputs],
        gives_probabilities=lambda _output: True,
    )
    models = types.SimpleNamespace(
        default=model, name=release.name, versions=[release.version], get=lambda _v=None: model
    )
    keyed = bool(settings.get("api_keys"))
    return types.SimpleNamespace(
        models=models, settings=Settings(**settings), gate=types.SimpleNamespace(enabled=keyed)
    )


def get(handler: Any, path: str, **headers: str) -> Any:
    return handler(Request("GET", path, headers=headers))


def test_every_file_is_served_with_a_tag_and_not_sent_twice():
    routes = extras.routes(context(DIGITS))
    for path in ("/", "/docs", "/openapi.json", *(f"/{name}" for name in extras.STATIC)):
        assert (routes[path].method, routes[path].public) == ("GET", True)
        whole = get(routes[path].handler, path)
        assert whole.status == 200
        assert whole.body
        headers = dict(whole.headers)
        assert headers["cache-control"] == "no-cache"
        tag = headers["etag"]
        for sent in (tag, f"W/{tag}", f'"other", {tag}'):
            again = get(routes[path].handler, path, **{"if-none-match": sent})
            assert (again.status, again.body, dict(again.headers)["etag"]) == (304, whole.body, tag)
        assert get(routes[path].handler, path, **{"if-none-match": '"other"'}).status == 200
    assert get(routes["/docs"].handler, "/docs/").body == get(routes["/docs"].handler, "/docs").body
    assert {path.name for path in STATIC.iterdir()} == {*extras.STATIC, "index.html"}


def test_what_is_turned_off_has_no_route():
    assert set(extras.routes(context(DIGITS, page=False, explain=False))) == {"/openapi.json"}
    assert "/explain" in extras.routes(context(DIGITS, page=False))
    off = openapi.document(context(DIGITS, page=False, explain=False))
    assert not {"/", "/docs", "/explain"} & set(off["paths"])
    assert not page.describe(context(DIGITS, explain=False))["explain"]


def test_nothing_inline_and_nothing_from_elsewhere():
    for name, html in (("index", page.render(context(DIGITS))), ("docs", render_docs(context(DIGITS)))):
        text = html.decode()
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=", text), name
        for script in re.findall(r"<script[^>]*>", text):
            assert "src=" in script or 'type="application/json"' in script
        for address in re.findall(r'(?:src|href)="([^"]*)"', text):
            assert not re.match(r"[a-z]+:|/", address), f"{name}: {address} is not relative to the page"
    for path in STATIC.iterdir():
        assert "http" not in path.read_text().replace("http://www.w3.org/2000/svg", ""), path
        assert ".innerHTML" not in path.read_text()
    policy = dict(get(page.handler(context(DIGITS)), "/").headers)["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_names_cannot_break_out_of_the_page():
    text = page.render(context(DIGITS)).decode()
    assert "<title>shop &lt;1&gt;</title>" in text
    inside = re.search(r'<script type="application/json" id="model">(.*?)</script>', text)
    assert inside
    assert json.loads(inside[1])["labels"] == ["a", "b", "</script>&"]
    assert "<1>" not in render_docs(context(DIGITS)).decode()


def test_what_the_page_knows_of_models():
    digits = page.describe(context(DIGITS))
    assert digits["picture"] == {
        "height": 28, "width": 28, "channels": 1, "planes": False, "low": 0, "high": 255, "whole": False, "draw": True,
    }  # fmt: skip
    assert (digits["explain"], digits["classifier"], digits["sample"]) == (True, True, None)
    photo = page.describe(context(PHOTO))
    assert (photo["picture"]["planes"], photo["picture"]["draw"], photo["picture"]["whole"]) == (True, False, True)
    table = page.describe(context(TABLE))
    assert (table["picture"], table["explain"], table["classifier"]) == (None, False, False)
    assert table["sample"] == {"age": 58, "measures": [0, 0, 0], "b": [False]}
    assert table["outputs"] == [{"name": "y", "shape": (1,)}]


def test_pages_of_a_model_without_labels_know_no_classes():
    embedder = context(Signature(DIGITS.inputs, (PROBABILITIES,)))
    known = page.describe(embedder)
    assert (known["classifier"], known["labels"], known["explain"]) == (False, None, False)
    assert known["picture"], "an image can be sent all the same"
    document = openapi.document(embedder)
    assert "/explain" not in document["paths"]
    assert set(document["components"]["schemas"]["Prediction"]["properties"]) == {"outputs"}
    text = render_docs(embedder).decode()
    assert "picture.png" in text
    assert "explain" not in text
    assert "classes:" not in text
    assert "$URL/explain" in render_docs(context(DIGITS)).decode()
    assert "3 classes: a, b" in render_docs(context(DIGITS)).decode()


def test_examples_are_golden_samples_where_there_are_any(tmp_path: Path):
    golden = {"age": [20, 30], "measures": [[1, 2, 3], [4, 5, 6]], "b": [[True], [False]]}
    first, second = page.describe(context(TABLE, golden, tmp_path))["samples"]
    assert (first, second["age"]) == ({"age": 20, "measures": [1, 2, 3], "b": [True]}, 30)
    assert example(context(TABLE, golden, tmp_path)) == first
    assert example(context(TABLE, golden, tmp_path, rate_limit=10.0)) == first
    (tmp_path / "golden.json").write_text("{}")
    assert page.describe(context(TABLE, folder=tmp_path))["samples"] == []


@pytest.mark.parametrize("guard", ["api_keys", "jwt_jwks", "tls_client_ca"])
def test_golden_samples_are_not_shown_where_callers_must_say_who_they_are(tmp_path: Path, guard: str):
    golden = {"age": [23], "measures": [[1.25, 2, 3]], "b": [[True]]}
    guarded = context(TABLE, golden, tmp_path, **{guard: "/etc/file"})
    pages = extras.routes(guarded)
    for path in ("/", "/docs", "/openapi.json"):
        text = get(pages[path].handler, path).body.decode()
        assert "1.25" in get(extras.routes(context(TABLE, golden, tmp_path))[path].handler, path).body.decode()
        assert "1.25" not in text
        assert "58" in text, "an example all the same"


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "uint8", "int8", "int32", "uint64", "int64", "bool"]
)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 4, 3)])
@pytest.mark.parametrize("limits", [None, (3, 17)])
def test_made_up_inputs_are_accepted(dtype: str, shape: tuple[int, ...], limits: tuple[int, int] | None):
    if dtype == "bool":
        limits = None
    spec = TensorSpec("x", dtype, (-1, *shape), limits)
    model = context(Signature((spec,), (PROBABILITIES,), ("a", "b", "c"))).models.default
    field = model.fields[0]
    values = made_up(field, model).tolist()
    field.array(field.flatten(values, field.shape, "x"), 1, "x")
    schema = input_schema(field)
    assert any(_fits(values, option) for option in schema["anyOf"])


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    if schema["type"] == "array":
        return (
            isinstance(value, list)
            and len(value) == schema["minItems"] == schema["maxItems"]
            and all(_fits(item, schema["items"]) for item in value)
        )
    if schema["type"] == "boolean":
        return isinstance(value, bool)
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    return not isinstance(value, (list, bool)) and low <= value <= high


@pytest.mark.parametrize("signature", [DIGITS, TABLE, PHOTO])
@pytest.mark.parametrize("keys", ["", "/etc/keys"])
def test_every_reference_of_the_document_leads_somewhere(signature: Signature, keys: str):
    document = openapi.document(context(signature, api_keys=keys))
    text = json.dumps(document)
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text)):
        found = document
        for part in reference.split("/"):
            found = found[part]
        assert found
    operations = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(operations)) == len(operations)
    answers = document["paths"]["/predict"]["post"]["responses"]
    assert ("401" in answers) == bool(keys)
    assert ("security" in document) == bool(keys)
    assert ("image/png" in document["paths"]["/predict"]["post"]["requestBody"]["content"]) == (signature is not TABLE)


def test_the_document_has_the_statuses_of_the_open_inference_protocol_and_those_a_client_acts_upon():
    """docs/formats.md says what a client does with each."""
    statuses = {
        status
        for path in openapi.document(context(DIGITS, api_keys="/etc/keys"))["paths"].values()
        for operation in path.values()
        for status in operation["responses"]
    }
    errors = {"400", "401", "403", "404", "408", "413", "415", "429", "503", "504"}
    assert statuses == {"200", "304"} | errors
    table = (Path(__file__).parents[3] / "docs" / "formats.md").read_text().partition("| status | when |")[2]
    assert errors - {"400"} <= set(re.findall(r"\d{3}", table.partition("\n\n")[0]))
    assert {int(status) for status in statuses} <= set(metrics.CODES)
    assert 422 not in metrics.CODES


def test_the_documentation_is_about_this_model():
    text = render_docs(context(TABLE, grpc_port=8081, api_keys="/etc/keys", port=9000)).decode()
    assert "URL=http://localhost:9000" in text
    assert "&quot;age&quot;: [58]" in text
    assert "client.InferInput(&quot;measures&quot;, [1, 3], &quot;FP32&quot;)" in text
    assert "tritonclient.grpc" in text
    assert "authorization: Bearer $KEY" in text
    assert "picture.png" not in text
    assert "picture.png" in render_docs(context(DIGITS)).decode()
    assert "tritonclient.grpc" not in render_docs(context(DIGITS)).decode()
