"""Golden sets of models with large inputs: their size on disk, and their verification against the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.module_utils._endpoint.options import OPTIONS, examine
from modelship_model.golden import FILE
from modelship_model.metrics import golden_set

from .tiny import Server, made, served, tiny_release

pytestmark = pytest.mark.integration

#: A detector's usual input; one sample is 2 MB of float32, and some 9 MB as JSON.
SHAPE = (3, 416, 416)

# the means of the three channels as a distribution
_MAKE = """
import sys, numpy as np, onnx
from onnx import TensorProto as T, helper as h
nodes = [h.make_node("ReduceMean", ["picture"], ["means"], axes=[2, 3], keepdims=0),
         h.make_node("Softmax", ["means"], ["probabilities"], axis=1)]
graph = h.make_graph(nodes, "large", [h.make_tensor_value_info("picture", T.FLOAT, ["n", 3, 416, 416])],
                     [h.make_tensor_value_info("probabilities", T.FLOAT, ["n", 3])])
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), sys.argv[1])
"""


def outputs(pictures: Any) -> Any:
    means = np.exp(pictures.mean(axis=(2, 3)))
    return (means / means.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(5)
    pictures = rng.random((32, *SHAPE), np.float32) * np.float32(0.2)
    for index, picture in enumerate(pictures):
        picture[index % 3] += np.float32(1)
    golden = golden_set(pictures, outputs(pictures), "picture", "probabilities")
    signature = {
        "inputs": [{"name": "picture", "dtype": "float32", "shape": [-1, *SHAPE]}],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [-1, 3]}],
    }
    folder = tmp_path_factory.mktemp("release")
    return tiny_release(folder, signature=signature, model=made(_MAKE, ".onnx"), files={FILE: golden.encode()})


@pytest.fixture(scope="module")
def server(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(release) as running:
        yield running


def verify(url: str, release: Path, **options: Any) -> dict[str, Any]:
    given = {"url": url, "release": str(release), "wait": 20, "timeout": 30, "requests": 0, **options}
    checked = ArgumentSpecValidator(OPTIONS).validate(given)
    assert not checked.error_messages
    verdict: dict[str, Any] = examine(dict(checked.validated_parameters), Context()).result["verdict"]
    return verdict


def test_a_golden_set_of_large_inputs_is_small(release: Path) -> None:
    manifest = json.loads((release / "release.json").read_text())
    assert manifest["files"][FILE]["size"] < (8 << 20) + 4096
    assert "golden.json" not in manifest["files"]


def test_large_inputs_are_verified_below_the_default_limit(server: Server, release: Path) -> None:
    verdict = verify(server.url, release)
    assert verdict["ok"], verdict
    assert verdict["samples"]["checked"] >= 3
    assert verdict["samples"]["failed"] == 0


def test_a_limit_that_is_too_low_is_named_with_its_setting(release: Path) -> None:
    with served(release, MODELSHIP_MAX_BODY_BYTES="1000000") as running:
        with pytest.raises(ModelshipError) as failure:
            verify(running.url, release)
    message = failure.value.message
    assert "a golden sample of 2076" in message
    assert "at most 1000000 are accepted" in message
    assert "MODELSHIP_MAX_BODY_BYTES" in message
