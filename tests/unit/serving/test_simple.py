"""The answers of the simple protocol to what a model gives that JSON has no number for."""

from __future__ import annotations

import json
import math
import types
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="the serving runtime's dependencies are not installed here")
pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving.errors import RequestError
from modelship_serving.http import Request, Response
from modelship_serving.release import Signature, TensorSpec
from modelship_serving.schemas import schemas
from modelship_serving.settings import Settings
from modelship_serving.simple import Simple
from modelship_serving.tensors import Field

NAN, INF = math.nan, math.inf
CLASSES = Signature((TensorSpec("x", "float32", (-1, 1)),), (TensorSpec("y", "float32", (-1, 3)),), ("a", "b", "c"))
NUMBERS = Signature((TensorSpec("x", "float32", (-1, 1)),), (TensorSpec("y", "float32", (-1, 1)),))


def model(signature: Signature, row: list[float], probabilities: bool = False) -> Any:
    release = types.SimpleNamespace(signature=signature, digest="sha256:" + "a" * 64, name="m", format="onnx")
    return types.SimpleNamespace(
        release=release,
        fields=[Field(spec) for spec in signature.inputs],
        output_datatypes=["FP32"],
        gives_probabilities=lambda _output: probabilities,
        infer_now=lambda _inputs, count: [np.array([row] * count, "float32")],
    )


def ask(made: Any, body: str = '{"x":[1]}') -> Any:
    answer = Simple(made).answer(Request("POST", "/predict", body=body.encode()))
    assert isinstance(answer, Response)
    return json.loads(answer.body)


def schema(made: Any) -> Any:
    context = types.SimpleNamespace(
        models=types.SimpleNamespace(default=made, versions=["1"]), settings=Settings(explain=False)
    )
    return schemas(context)["Prediction"]["properties"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "row", [[NAN, NAN, NAN], [NAN, 0.5, 0.5], [0.25, NAN, 0.75], [0.5, 0.5, NAN], [INF, -INF, NAN]]
)
@pytest.mark.parametrize("probabilities", [True, False])
def test_there_is_no_class_where_a_score_is_no_number(row: list[float], probabilities: bool):
    for body in ('{"x":[1]}', '{"instances":[[1],[1]]}'):
        with pytest.raises(RequestError, match=r"x: .*NaN") as caught:
            ask(model(CLASSES, row, probabilities), body)
        assert caught.value.status == 400


def test_infinite_scores_are_null_and_their_order_counts():
    for row, result, scores in (
        ([-INF, 1, 2], 2, [None, 1, 2]),
        ([INF, -INF, 0], 0, [None, None, 0]),
    ):
        made = model(CLASSES, row)
        answer = ask(made)
        assert (answer["result"], answer["scores"]) == (result, scores)
        assert schema(made)["scores"]["items"]["type"] == ["number", "null"]
    assert schema(model(CLASSES, [0, 0, 1], True))["probabilities"]["items"] == {"type": "number"}


def test_other_models_say_null():
    assert ask(model(NUMBERS, [NAN]))["outputs"] == {"y": [None]}
    assert "null" in schema(model(NUMBERS, [NAN]))["outputs"]["properties"]["y"]["description"]


@pytest.mark.parametrize("width", [1, 2, 3, 512])
@pytest.mark.parametrize("labels", [None, (), ("one",)])
def test_a_model_without_labels_returns_its_outputs_by_name_and_no_class(width: int, labels: tuple[str, ...] | None):
    signature = Signature(NUMBERS.inputs, (TensorSpec("embedding", "float32", (-1, width)),), labels)
    row = [0.5] * width
    assert ask(model(signature, row)) == {"outputs": {"embedding": row}, "release": "sha256:" + "a" * 64}
    several = ask(model(signature, row), '{"instances":[[1],[2]]}')
    assert several["predictions"] == [{"outputs": {"embedding": row}}] * 2
    assert set(schema(model(signature, row))) == {"outputs"}


def test_labels_that_no_output_has_scores_for_make_no_class():
    """As of a detector: its labels name what the boxes hold."""
    signature = Signature(NUMBERS.inputs, (TensorSpec("boxes", "float32", (-1, 2)),), ("a", "b", "c"))
    assert ask(model(signature, [1, 2])) == {"outputs": {"boxes": [1, 2]}, "release": "sha256:" + "a" * 64}


def test_all_outputs_of_several_are_returned_and_described():
    outputs = (
        TensorSpec("boxes", "float32", (-1, -1, 4)),
        TensorSpec("count", "int64", (-1,)),
        TensorSpec("found", "bool", (-1, 2)),
    )
    made = model(Signature(NUMBERS.inputs, outputs), [])
    arrays = [np.ones((1, 2, 4), "float32"), np.array([2]), np.array([[True, False]])]
    made.infer_now = lambda _inputs, _count: arrays
    made.output_datatypes = ["FP32", "INT64", "BOOL"]
    assert ask(made)["outputs"] == {"boxes": [[1, 1, 1, 1]] * 2, "count": 2, "found": [True, False]}
    found = schema(made)["outputs"]
    assert found["required"] == ["boxes", "count", "found"]
    boxes = found["properties"]["boxes"]
    assert (boxes["type"], "minItems" in boxes, boxes["items"]["minItems"]) == ("array", False, 4)
    assert found["properties"]["count"] == {"type": "integer"}
    assert found["properties"]["found"]["items"] == {"type": "boolean"}


def test_a_classifier_returns_its_further_outputs_by_name():
    outputs = (TensorSpec("embedding", "float32", (-1, 2)), *CLASSES.outputs)
    made = model(Signature(CLASSES.inputs, outputs, CLASSES.labels), [], True)
    made.infer_now = lambda _inputs, _count: [np.array([[9, 8]], "float32"), np.array([[0, 0.25, 0.75]], "float32")]
    made.output_datatypes = ["FP32", "FP32"]
    answer = ask(made)
    del answer["release"]
    assert answer == {"result": 2, "label": "c", "probabilities": [0, 0.25, 0.75], "outputs": {"embedding": [9, 8]}}
    assert set(schema(made)) == set(answer)
