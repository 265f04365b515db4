"""Models as they are loaded: measured, batched where that pays, their dtypes converted. With real model files."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="the serving runtime's dependencies are not installed here")
pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")
pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")

from modelship_serving.budget import Budget
from modelship_serving.errors import RequestError, StartError
from modelship_serving.http import Request
from modelship_serving.logs import Log
from modelship_serving.metrics import Counters
from modelship_serving.model import Model
from modelship_serving.release import load_release
from modelship_serving.rpc import messages
from modelship_serving.rpc.calls import Call
from modelship_serving.rpc.service import RpcInference
from modelship_serving.settings import Settings
from modelship_serving.simple import Simple
from modelship_serving.v2 import Inference
from tests.integration.tiny import GREEN, KINDS, RED, TOLERANCE, expected, made, tiny_release

_ONNX = """
import sys, numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
value = h.make_tensor_value_info
def save(nodes, inputs, outputs, constants=()):
    graph = h.make_graph(nodes, "m", inputs, outputs, list(constants))
    onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8), sys.argv[1])
"""
#: Looks a row up: an index out of range is the model's to refuse.
_LOOK_UP = (
    _ONNX
    + """
table = nh.from_array(np.arange(12, dtype="float32").reshape(4, 3), "table")
save([h.make_node("Gather", ["table", "row"], ["y"], axis=0)], [value("row", T.INT64, ["n"])],
     [value("y", T.FLOAT, ["n", 3])], [table])
"""
)
#: Takes and gives other dtypes than the signature says, none of which loses anything.
_WIDER = (
    _ONNX
    + """
save([h.make_node("Mul", ["x", "x"], ["y"])], [value("x", T.FLOAT, ["n", 2])], [value("y", T.FLOAT, ["n", 2])])
"""
)
#: A layer whose weights are far larger than its work on one sample: reading them once for many samples pays.
_WIDE = (
    _ONNX
    + """
weights = np.random.default_rng(0).standard_normal((1024, 2048), "float32")
save([h.make_node("MatMul", ["x", "w"], ["y0"]), h.make_node("MatMul", ["y0", "v"], ["y"])],
     [value("x", T.FLOAT, ["n", 1024])], [value("y", T.FLOAT, ["n", 1024])],
     [nh.from_array(weights, "w"), nh.from_array(weights.T.copy() / 1024, "v")])
"""
)
_DENSE = """
import sys, keras, numpy as np, tensorflow as tf
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
model.layers[0].set_weights([np.array([[1, 2], [3, 4]], "float32")])
archive = keras.export.ExportArchive()
archive.track(model)
archive.add_endpoint("serve", lambda x: {"y": model(x)}, [tf.TensorSpec((None, 2), tf.float32, name="x")])
archive.write_out(sys.argv[1] + ".saved")
open(sys.argv[1], "wb").write(tf.lite.TFLiteConverter.from_saved_model(sys.argv[1] + ".saved").convert())
"""


_RESHAPED = """
import sys, tensorflow as tf
@tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")])
def serve(x):
    return {"y": tf.reshape(x, [1, 2]) * 2.0}
module = tf.Module()
module.serve = serve
tf.saved_model.save(module, sys.argv[1] + ".saved", signatures=serve)
open(sys.argv[1], "wb").write(tf.lite.TFLiteConverter.from_saved_model(sys.argv[1] + ".saved").convert())
"""
#: Three models that are right for one sample only: one fails with more, one mixes them, one forgets the others.
_SINGLE = {
    "fails": _ONNX
    + """
save([h.make_node("Reshape", ["x", "one"], ["y"])], [value("x", T.FLOAT, ["n", 2])], [value("y", T.FLOAT, ["n", 2])],
     [nh.from_array(np.array([1, 2], "int64"), "one")])
""",
    "mixes": _ONNX
    + """
save([h.make_node("ReduceMax", ["x"], ["m"], keepdims=1), h.make_node("Sub", ["x", "m"], ["y"])],
     [value("x", T.FLOAT, ["n", 2])], [value("y", T.FLOAT, ["n", 2])])
""",
    "forgets": _ONNX
    + """
save([h.make_node("ReduceMax", ["x"], ["y"], keepdims=1, axes=[0])], [value("x", T.FLOAT, ["n", 2])],
     [value("y", T.FLOAT, ["m", 2])])
""",
}


def load(release: Path, **settings: Any) -> Model:
    return Model(load_release(str(release)), Settings(**settings), Counters(1).row(0), Log("error"))


def onnx_model(folder: Path, script: str, inputs: list[Any], outputs: list[Any], **settings: Any) -> Model:
    def specs(tensors: list[Any]) -> list[dict[str, Any]]:
        return [dict(zip(("name", "dtype", "shape", "range"), tensor, strict=False)) for tensor in tensors]

    signature = {"inputs": specs(inputs), "outputs": specs(outputs), "labels": None}
    return load(tiny_release(folder, signature=signature, model=made(script, ".onnx")), **settings)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_batch", [0, 1, 16])
def test_a_batch_is_as_its_samples(tmp_path: Path, kind: str, max_batch: int):
    model = load(tiny_release(tmp_path, kind), max_batch=max_batch)
    images = np.array([GREEN, RED, *np.random.default_rng(0).integers(0, 256, (30, 4)).tolist()], "float32")
    wanted = np.array([expected(one) for one in images.tolist()])

    async def ask(rows: Any) -> Any:
        (outputs,) = await model.infer([rows.reshape(-1, 2, 2, 1)], len(rows), time.monotonic() + 60, "x")
        return outputs

    async def scene() -> None:
        assert await ask(images) == pytest.approx(wanted, abs=2 * TOLERANCE)
        singles = await asyncio.gather(*(ask(images[i : i + 1]) for i in range(len(images))))
        assert np.concatenate(singles) == pytest.approx(wanted, abs=2 * TOLERANCE)

    asyncio.run(scene())
    assert model.gives_probabilities(0)
    # This one is too small for batches to pay; ONNX can, when told to; LiteRT has a batch of one built in here.
    assert model.plan.max_batch == (16 if max_batch == 16 and kind == "onnx" else 1)


def test_what_is_read_is_queued_before_the_next_request_is_read(tmp_path: Path):
    """Otherwise all that come in within one turn of the loop would take memory at once, however little may wait."""
    refused: list[str] = []
    release = load_release(str(tiny_release(tmp_path)))
    model = Model(release, Settings(max_batch=16), Counters(1).row(0), Log("error"), Budget(20, refused.append))
    tensor = {"name": "image", "shape": [1, 2, 2, 1], "datatype": "FP32"}
    binary = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 16}}]}).encode()
    head = {"inference-header-content-length": str(len(binary))}
    pixels = np.array(GREEN, "float32").tobytes()
    v2 = Inference(model, 1 << 20).answer
    rpc = RpcInference(model)
    message = b"\x2a\x13\x0a\x05image\x12\x04FP32\x1a\x04\x01\x02\x02\x01\x3a\x10" + pixels
    asks: list[Any] = [
        lambda: Simple(model).answer(Request("POST", "/predict", body=json.dumps({"image": GREEN}).encode())),
        lambda: v2(Request("POST", "/", body=json.dumps({"inputs": [{**tensor, "data": GREEN}]}).encode())),
        lambda: v2(Request("POST", "/", headers=head, body=binary + pixels)),
        lambda: v2(Request("POST", "/", headers=head, body=binary + pixels)),  # known by now
        lambda: rpc.infer(message, messages.read_infer_request(message), Call("x")),
    ]

    async def scene() -> None:
        for ask in asks:
            first = ask()
            with pytest.raises(RequestError, match="overloaded: what waits takes"):
                ask()
            await first

    asyncio.run(scene())
    assert refused == ["queue_full"] * len(asks)
    assert model.budget.held == 0


def test_batches_where_they_pay(tmp_path: Path):
    tensors = [("x", "float32", [-1, 1024])], [("y", "float32", [-1, 1024])]
    model = onnx_model(tmp_path, _WIDE, *tensors)
    assert model.plan.max_batch >= 8
    assert model.plan.sample < model.plan.single
    assert model.infer_now([np.zeros((1, 1024), "float32")], 1) is None, "waits for others to join it"
    seen: list[int] = []
    model.observers.append(lambda inputs, outputs: seen.append(len(inputs[0])) or len(outputs))
    rows = np.random.default_rng(0).random((40, 1024), "float32")
    alone = [model.run([rows[i : i + 1]])[0] for i in range(40)]

    async def scene() -> list[list[Any]]:
        return await asyncio.gather(*(model.infer([rows[i : i + 1]], 1) for i in range(40)))

    for (found,), wanted in zip(asyncio.run(scene()), alone, strict=True):
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-2)
    assert sum(seen) == 40
    assert max(seen) >= 8
    assert onnx_model(tmp_path, _WIDE, *tensors, max_batch=1).plan.max_batch == 1


@pytest.mark.parametrize("kind", sorted(_SINGLE))
@pytest.mark.parametrize("max_batch", [0, 8])
def test_an_answer_does_not_depend_on_others(tmp_path: Path, kind: str, max_batch: int):
    tensors = [("x", "float32", [-1, 2])], [("y", "float32", [-1, 2])]
    model = onnx_model(tmp_path, _SINGLE[kind], *tensors, max_batch=max_batch)
    assert model.plan.max_batch == 1
    rows = np.array([[1, 2], [30, 20], [5, 5]], "float32")
    wanted = np.concatenate([model.run([rows[i : i + 1]])[0] for i in range(3)])
    assert (model.run([rows])[0] == wanted).all()


def test_litert_is_resized_to_the_batch_where_its_batch_axis_is_open(tmp_path: Path):
    signature = {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [-1, 2]}],
        "labels": None,
    }
    model = load(
        tiny_release(tmp_path, "litert", signature=signature, model=made(_DENSE, ".tflite", modules=("tensorflow",))),
        max_batch=8,
    )
    assert model.plan.max_batch == 8
    for count in (1, 3, 8, 2, 1):
        rows = np.arange(2 * count, dtype="float32").reshape(count, 2)
        assert model.run([rows])[0].tolist() == (rows @ [[1, 2], [3, 4]]).tolist()
    assert not model.gives_probabilities(0)


def test_litert_with_one_sample_built_in_runs_one_by_one(tmp_path: Path):
    signature = {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 2]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [-1, 2]}],
        "labels": None,
    }
    data = made(_RESHAPED, ".tflite", modules=("tensorflow",))
    model = load(tiny_release(tmp_path, "litert", signature=signature, model=data), max_batch=8)
    assert model.plan.max_batch == 1
    for count in (1, 3, 1, 2):
        rows = np.arange(2 * count, dtype="float32").reshape(count, 2)
        assert model.run([rows])[0].tolist() == (2 * rows).tolist()


def test_a_value_that_the_model_refuses_is_the_clients_fault(tmp_path: Path):
    model = onnx_model(tmp_path, _LOOK_UP, [("row", "int64", [-1], [0, 3])], [("y", "float32", [-1, 3])], max_batch=8)
    rows = [0, 3, 9, 1]

    async def scene() -> list[Any]:
        asked = [model.infer([np.array([row], "int64")], 1) for row in rows]
        return await asyncio.gather(*asked, return_exceptions=True)

    for row, answer in zip(rows, asyncio.run(scene()), strict=True):
        if row == 9:
            assert isinstance(answer, RequestError)
            assert (answer.status, answer.message) == (400, "row: the model cannot run on these values")
        else:
            assert answer[0].tolist() == [[3 * row, 3 * row + 1, 3 * row + 2]]


def test_dtypes_are_converted_where_nothing_is_lost(tmp_path: Path):
    model = onnx_model(tmp_path, _WIDER, [("x", "uint8", [-1, 2])], [("y", "float64", [-1, 2])])
    (found,) = model.run([np.array([[3, 255]], "uint8")])
    assert (found.dtype.name, found.tolist()) == ("float64", [[9, 65025]])
    with pytest.raises(StartError, match="'x' of the model is float32, the signature says float64"):
        onnx_model(tmp_path, _WIDER, [("x", "float64", [-1, 2])], [("y", "float32", [-1, 2])])
    with pytest.raises(StartError, match="'y' of the model is float32, the signature says float16"):
        onnx_model(tmp_path, _WIDER, [("x", "float32", [-1, 2])], [("y", "float16", [-1, 2])])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": [{"name": "picture", "dtype": "float32", "shape": [-1, 2, 2, 1]}]}, "inputs"),
        ({"inputs": [{"name": "image", "dtype": "float32", "shape": [-1, 2, 3, 1]}]}, "input 'image'"),
        ({"outputs": [{"name": "scores", "dtype": "float32", "shape": [-1, 3]}]}, "output 'scores'"),
        ({"outputs": [{"name": "probabilities", "dtype": "float32", "shape": [-1, 4]}]}, "output 'probabilities'"),
    ],
)
def test_a_signature_that_is_not_the_models_is_refused(tmp_path: Path, changes: dict[str, Any], message: str):
    with pytest.raises(StartError, match=message):
        load(tiny_release(tmp_path, signature=changes))


def test_an_observer_that_fails_is_left_out(tmp_path: Path):
    model = load(tiny_release(tmp_path))
    calls: list[str] = []

    def bad(_inputs: Any, _outputs: Any) -> None:
        calls.append("bad")
        raise RuntimeError("oh")

    model.observers += [bad, lambda _i, _o: calls.append("good")]
    image = np.array(GREEN, "float32").reshape(1, 2, 2, 1)

    async def scene() -> None:
        for _ in range(2):
            assert await model.infer([image], 1)

    asyncio.run(scene())
    assert calls.count("bad") == 1
    assert calls[-1] == "good"


def test_the_plan_is_data():
    from modelship_serving.batching import Plan

    assert Plan(0.001, 0.001).slice == 5
    assert dataclasses.replace(Plan(0.001, 0.001), max_batch=32).slice == 32
