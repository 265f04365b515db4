"""Inference by the Open Inference Protocol, with models whose outputs are known."""

from __future__ import annotations

import json
import types
from typing import Any

import numpy as np
import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving.http import Request
from modelship_serving.release import Signature, TensorSpec
from modelship_serving.tensors import Field
from modelship_serving.v2 import Inference


def infer(given: dict[str, Any], labels: tuple[str, ...] | None, **asked: Any) -> list[dict[str, Any]]:
    """The outputs of a response of a model that gives these for one sample."""
    arrays = {name: np.array([value]) for name, value in given.items()}
    signature = Signature(
        (TensorSpec("x", "float32", (-1, 1)),),
        tuple(TensorSpec(name, array.dtype.name, (-1, *array.shape[1:])) for name, array in arrays.items()),
        labels,
    )
    model: Any = types.SimpleNamespace(
        release=types.SimpleNamespace(signature=signature, name="m", version="1"),
        fields=[Field(signature.inputs[0])],
        output_datatypes=["FP64"] * len(arrays),
        infer_now=lambda _inputs, _count: list(arrays.values()),
    )
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [0]}], **asked}
    response: Any = Inference(model, 1 << 20).answer(Request("POST", "/infer", body=json.dumps(body).encode()))
    return list(json.loads(response.body)["outputs"])


def test_only_the_scores_of_classes_get_the_labels_of_the_classes():
    best = {"classification": 1}
    asked = [{"name": name, "parameters": best} for name in ("scores", "embedding", "price")]
    outputs = {"scores": [0.25, 0.75], "embedding": [3.5, 1.5], "price": 7.0}
    found = infer(outputs, ("cat", "dog"), outputs=asked)
    assert [one["data"] for one in found] == [["0.75:1:dog"], ["3.5:0"], ["7.0:0"]]
    found = infer({"votes": [1, 2]}, ("cat", "dog"), outputs=[{"name": "votes", "parameters": best}])
    assert found[0]["data"] == ["2:1"]
