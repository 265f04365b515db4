"""Releases for the tests of the page: handwritten digits that a drawing can be checked with, a table, photographs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.integration.tiny import made, tiny_release

#: A small network on scikit-learn's digits, brought to 28x28 as MNIST's are (20 pixels high, centre of mass in the middle).
_DIGITS = """
import json, sys, numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
from scipy.ndimage import center_of_mass, rotate, shift, zoom
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
seed = int(sys.argv[1])
digits = load_digits()
random = np.random.default_rng(seed)
def place(image):
    rows, columns = np.where(image > 2)
    image = image[rows.min():rows.max() + 1, columns.min():columns.max() + 1]
    # Narrower and turned: the originals were all stretched to one width.
    high = 20 / image.shape[0]
    ink = np.clip(zoom(image / 16, (high, high * random.uniform(0.45, 1)), order=1), 0, 1)
    ink = rotate(ink, random.uniform(-14, 14), order=1)
    # a pen's strokes are of one darkness: less grey between them than the blurred originals have
    ink = np.clip((ink - random.uniform(0.3, 0.6)) * 4, 0, 1)
    ink = ink[:28, :28]
    sheet = np.zeros((28, 28))
    top, left = (28 - ink.shape[0]) // 2, (28 - ink.shape[1]) // 2
    sheet[top:top + ink.shape[0], left:left + ink.shape[1]] = ink
    if not sheet.any():
        return sheet
    y, x = center_of_mass(sheet)
    return np.clip(shift(sheet, (13.5 - y, 13.5 - x), order=1), 0, 1)
x = np.array([place(image) for _ in range(4) for image in digits.images]).reshape(-1, 784).astype("float32")
y = np.concatenate([digits.target] * 4)
model = MLPClassifier((128,), alpha=0.3, max_iter=30, random_state=seed, early_stopping=True).fit(x, y)
(w1, w2), (b1, b2) = model.coefs_, model.intercepts_
constants = [nh.from_array(np.asarray(v, t), n) for n, v, t in [("w1", w1 / 255, "float32"), ("b1", b1, "float32"),
             ("w2", w2, "float32"), ("b2", b2, "float32"), ("flat", [-1, 784], "int64")]]
nodes = [h.make_node("Reshape", ["image", "flat"], ["x"]), h.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
         h.make_node("Relu", ["h"], ["r"]), h.make_node("Gemm", ["r", "w2", "b2"], ["y"]),
         h.make_node("Softmax", ["y"], ["probabilities"], axis=1)]
graph = h.make_graph(nodes, "digits", [h.make_tensor_value_info("image", T.FLOAT, ["n", 28, 28, 1])],
                     [h.make_tensor_value_info("probabilities", T.FLOAT, ["n", 10])], constants)
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), sys.argv[2])
"""

#: price = age + the sum of the weighted measures
_TABLE = """
import sys, numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
constants = [nh.from_array(np.array([[1], [10], [100]], "float32"), "w"), nh.from_array(np.array([-1, 1], "int64"), "column")]
nodes = [h.make_node("Cast", ["age"], ["a"], to=T.FLOAT), h.make_node("Reshape", ["a", "column"], ["years"]),
         h.make_node("MatMul", ["measures", "w"], ["m"]), h.make_node("Add", ["m", "years"], ["price"])]
graph = h.make_graph(nodes, "table", [h.make_tensor_value_info("age", T.INT64, ["n"]),
                     h.make_tensor_value_info("measures", T.FLOAT, ["n", 3])],
                     [h.make_tensor_value_info("price", T.FLOAT, ["n", 1])], constants)
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), sys.argv[1])
"""

#: The mean of each colour is the score of its class; channels first.
_PHOTO = """
import sys, numpy as np, onnx
from onnx import TensorProto as T, helper as h
nodes = [h.make_node("ReduceMean", ["photo"], ["scores"], axes=[2, 3], keepdims=0)]
graph = h.make_graph(nodes, "photo", [h.make_tensor_value_info("photo", T.FLOAT, ["n", 3, 16, 24])],
                     [h.make_tensor_value_info("scores", T.FLOAT, ["n", 3])])
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), sys.argv[1])
"""

IMAGE = {"name": "image", "dtype": "float32", "shape": [-1, 28, 28, 1], "range": [0, 255]}


def digits_release(folder: Path, seed: int = 1, **more: Any) -> Path:
    """Write a release that reads digits of 28x28; another *seed* makes another version."""
    signature = {
        "inputs": [IMAGE],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [-1, 10]}],
        "labels": list("0123456789"),
    }
    model = made(_DIGITS, ".onnx", str(seed), modules=("onnx", "sklearn", "scipy"))
    return tiny_release(folder, name="digits", signature=signature, model=model, **more)


def table_release(folder: Path) -> Path:
    """Write a release of a regression on two inputs, one number and three."""
    signature = {
        "inputs": [
            {"name": "age", "dtype": "int64", "shape": [-1], "range": [18, 99]},
            {"name": "measures", "dtype": "float32", "shape": [-1, 3]},
        ],
        "outputs": [{"name": "price", "dtype": "float32", "shape": [-1, 1]}],
        "labels": None,
    }
    golden = {"inputs": {"age": [20, 30], "measures": [[1, 2, 3], [4, 5, 6]]}, "outputs": {"price": [[341], [684]]}}
    files = {"golden.json": json.dumps(golden).encode()}
    return tiny_release(folder, name="table", signature=signature, model=made(_TABLE, ".onnx"), files=files)


def photo_release(folder: Path, labels: tuple[str, ...] | None = ("red", "green", "blue")) -> Path:
    """Write a release that says which colour prevails in an image of 16x24; without *labels* it gives the means alone."""
    signature = {
        "inputs": [{"name": "photo", "dtype": "float32", "shape": [-1, 3, 16, 24], "range": [0, 1]}],
        "outputs": [{"name": "scores", "dtype": "float32", "shape": [-1, 3]}],
        "labels": labels,
    }
    return tiny_release(folder, name="photo", signature=signature, model=made(_PHOTO, ".onnx"))
