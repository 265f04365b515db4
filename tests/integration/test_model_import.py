"""Models of other people: which are taken, which are refused, and that check mode and the advice in a refusal are right."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from .model_side import ModelSide
from .tiny import served

pytestmark = pytest.mark.integration

#: Writes models of every format, and samples for them, into a directory.
MAKE = """
import os, sys
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

os.chdir(sys.argv[1])
rng = np.random.default_rng(0)


def samples(name, *shape, **more):
    np.savez(name, x=rng.normal(size=shape).astype("float32"), **more)


def graph(name, shape, *, reshape=None, last="Softmax", outputs=1, dtype=TensorProto.FLOAT):
    size = int(np.prod([length if isinstance(length, int) else 8 for length in shape[1:]]))
    weights = [numpy_helper.from_array(rng.normal(size=(size, 3)).astype("float32"), "w")]
    nodes = [helper.make_node("Flatten", ["x"], ["f"])]
    if reshape:
        weights.append(numpy_helper.from_array(np.array([reshape, size]), "s"))
        nodes = [helper.make_node("Reshape", ["x", "s"], ["f"])]
    nodes += [helper.make_node("MatMul", ["f", "w"], ["z"]), helper.make_node(last, ["z"], ["p"])]
    found = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [shape[0], 3]) for name in ("p", "z")[:outputs]]
    body = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", dtype, shape)], found, weights)
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), name)


samples("series.npz", 60, 8, 5)
samples("labelled.npz", 60, 8, 5, y=rng.integers(0, 3, 60))
samples("turned.npz", 60, 5, 8)
samples("video.npz", 20, 2, 3, 4, 5)
np.savez("objects.npz", x=np.array([{"a": 1}, {"b": 2}], dtype=object))
np.savez("numbers.npz", x=np.ones((2, 8, 5), dtype=object).astype("float32"))
graph("series.onnx", ["N", 8, 5])
graph("video.onnx", ["N", 2, 3, 4, 5])
graph("one.onnx", [1, 8, 5])
graph("inner.onnx", ["N", 8, 5], reshape=1)
graph("four.onnx", [4, 8, 5])
graph("open.onnx", ["N", "T", 5])
graph("scores.onnx", ["N", 8, 5], last="Identity")
graph("two.onnx", ["N", 8, 5], outputs=2)
graph("wrong-type.onnx", ["N", 8, 5], dtype=TensorProto.INT64)
content = open("series.onnx", "rb").read()
open("cut.onnx", "wb").write(content[:200])
open("text.onnx", "w").write("hello")
open("pointer.onnx", "w").write("version https://git-lfs.github.com/spec/v1\\n")
open("empty.onnx", "w")
open("plain", "wb").write(content)
outside = onnx.load("series.onnx")
onnx.save(outside, "outside.onnx", save_as_external_data=True, location="outside.bin", size_threshold=0)
open("damaged.tflite", "wb").write(b"\\0" * 4 + b"TFL3" + b"\\0" * 40)
open("other.tflite", "wb").write(content)
open("other.keras", "wb").write(content)
for name in ("old.h5", "torch.pt", "frozen.pb", "pickled.joblib"):
    open(name, "wb").write(b"x")
"""

MAKE_KERAS = """
import os, sys
import keras
import tensorflow as tf
from keras import layers
from modelship_model import keras_models

os.chdir(sys.argv[1])
SIGNATURE = {"inputs": [{"name": "x", "shape": [-1, 8, 5]}], "outputs": [{"name": "p"}]}


class Twice(layers.Layer):
    def call(self, x):
        return x * 2


class Gamma(layers.Layer):
    def call(self, x):
        return tf.math.igamma(tf.abs(x) + 1.0, tf.abs(x) + 1.0)


def model(*inside, softmax=True, **given):
    last = layers.Dense(3, activation="softmax" if softmax else None)
    return keras.Sequential([keras.Input(**given), *inside, layers.Flatten(), last])


model(shape=(8, 5)).save("series.keras")
one, four = model(batch_shape=(1, 8, 5)), model(batch_shape=(4, 8, 5))
one.save("one.keras")
four.save("four.keras")
one.export("one", verbose=False)
for number, fixed in ((1, one), (4, four)):
    function = tf.function(lambda x: {"p": fixed(x)}, input_signature=[tf.TensorSpec([number, 8, 5], tf.float32, name="x")])
    module = tf.Module()
    module.model, module.function = fixed, function
    tf.saved_model.save(module, f"fixed-{number}", signatures={"serving_default": function})
with open("one.tflite", "wb") as stream:
    stream.write(keras_models.to_litert(one, SIGNATURE))
converter = tf.lite.TFLiteConverter.from_keras_model(model(shape=(8, 5)))
with open("series.tflite", "wb") as stream:
    stream.write(converter.convert())
custom, code = model(Twice(), shape=(8, 5)), model(layers.Lambda(lambda x: x * 2), shape=(8, 5))
custom.save("custom.keras")
custom.export("custom", verbose=False)
code.save("code.keras")
code.export("code", verbose=False)
model(shape=(8, 5), softmax=False).save("scores.keras")
first, second = keras.Input((4,)), keras.Input((4,))
keras.Model([first, second], layers.Dense(3)(layers.Concatenate()([first, second]))).save("two.keras")
tf.saved_model.save(tf.Module(), "nameless")
recurrent = keras.Sequential([keras.Input((8, 5)), layers.LSTM(6), layers.Dense(3, activation="softmax")])
recurrent.save("recurrent.keras")
recurrent.export("recurrent", verbose=False)
recurrent.export("recurrent-1", verbose=False, input_signature=[keras.InputSpec(shape=(1, 8, 5), dtype="float32")])
gamma = keras.Sequential([keras.Input((8, 5)), Gamma(), layers.Flatten(), layers.Dense(3, activation="softmax")])
gamma.export("gamma", verbose=False)
average = keras.Sequential([keras.Input((None, 5)), layers.GlobalAveragePooling1D(), layers.Dense(3, activation="softmax")])
average.save("open.keras")
"""

#: (model, samples) -> the shape of one sample in its signature.
TAKEN = {
    ("series.onnx", "series.npz"): [8, 5],
    ("video.onnx", "video.npz"): [2, 3, 4, 5],
    ("one.onnx", "series.npz"): [8, 5],
    ("inner.onnx", "series.npz"): [8, 5],
    ("one.onnx", "labelled.npz"): [8, 5],
    ("series.keras", "series.npz"): [8, 5],
    ("one.keras", "series.npz"): [8, 5],
    ("one", "series.npz"): [8, 5],
    ("fixed-1", "series.npz"): [8, 5],
    ("series.tflite", "series.npz"): [8, 5],
    ("one.tflite", "series.npz"): [8, 5],
    ("recurrent.keras", "series.npz"): [8, 5],
    ("recurrent", "series.npz"): [8, 5],
    ("recurrent-1", "series.npz"): [8, 5],
    ("gamma", "series.npz"): [8, 5],
    ("custom", "series.npz"): [8, 5],
    ("code", "series.npz"): [8, 5],
}

#: (model, samples) -> words of the refusal.
REFUSED = {
    ("series.onnx", "turned.npz"): "a sample has the shape [5, 8], but the model takes [8, 5]: transpose x",
    (
        "series.onnx",
        "objects.npz",
    ): "holds Python objects, not numbers: save it with a numeric dtype, such as x.astype('float32')",
    ("four.onnx", "series.npz"): "takes batches of 4 only: export the model with a free batch size, or 1",
    ("four.keras", "series.npz"): "takes batches of 4 only",
    ("fixed-4", "series.npz"): "takes batches of 4 only",
    ("open.onnx", "series.npz"): "has the open shape [-1, 5]: export the model with every size but the batch's fixed",
    ("open.keras", "series.npz"): "has the open shape [None, 5]: give every size but the batch's to keras.Input",
    ("scores.onnx", "series.npz"): "answers no probabilities (they do not sum to 1): end it with a softmax",
    ("scores.keras", "series.npz"): "answers no probabilities (they do not sum to 1): end it with a softmax",
    ("two.onnx", "series.npz"): "has 1 inputs and 2 float32 tensor outputs: one of each is supported",
    ("two.keras", "series.npz"): "has 2 inputs and 1 outputs: one of each is supported",
    ("wrong-type.onnx", "series.npz"): "is not float32: export the model with float32 input",
    ("cut.onnx", "series.npz"): "cut.onnx is not a valid ONNX model",
    ("text.onnx", "series.npz"): "text.onnx is not a valid ONNX model: it does not begin as one",
    ("pointer.onnx", "series.npz"): "is a Git LFS pointer, not the model: run git lfs pull",
    ("empty.onnx", "series.npz"): "empty.onnx is empty",
    ("outside.onnx", "series.npz"): "keeps the weights 'w' in another file: save all in one",
    ("plain", "series.npz"): "does not show in its name: give 'format', one of",
    ("damaged.tflite", "series.npz"): "LiteRT cannot load the model",
    ("other.tflite", "series.npz"): "other.tflite is not a LiteRT file",
    ("other.keras", "series.npz"): "other.keras is not a keras file",
    ("old.h5", "series.npz"): "is in Keras's old format",
    ("torch.pt", "series.npz"): "is a PyTorch file: export the model with torch.onnx.export",
    ("frozen.pb", "series.npz"): "give the directory of a SavedModel",
    ("pickled.joblib", "series.npz"): "save it with skops.io.dump",
    (
        "custom.keras",
        "series.npz",
    ): "it has 'Twice', which is not Keras's own: a custom layer cannot be imported: export the model",
    (
        "code.keras",
        "series.npz",
    ): "it has a Lambda layer, whose code would run: replace it by a layer of Keras, or export",
    ("nameless", "series.npz"): "has no signature: export it with one",
    ("absent.onnx", "series.npz"): "does not exist: check the path",
    ("series.onnx", "absent.npz"): "absent.npz: No such file",
}


class Models(t.NamedTuple):
    """A directory of models and samples, and how check and import ended for each pair of them."""

    side: ModelSide
    folder: Path
    ends: dict[tuple[str, str], tuple[dict[str, t.Any], dict[str, t.Any]]]

    def request(self, model: str, samples: str, **more: t.Any) -> dict[str, t.Any]:
        releases = self.side.stores("imports")["releases"]
        return {
            "model": str(self.folder / model),
            "name": "foreign",
            "samples": str(self.folder / samples),
            "releases": releases,
            **more,
        }

    def run(self, command: str, request: dict[str, t.Any]) -> dict[str, t.Any]:
        (end,) = self.side.run_many((command, request))
        return end


@pytest.fixture(scope="module")
def models(trainer_python: str, tmp_path_factory: pytest.TempPathFactory) -> Models:
    side = ModelSide(trainer_python, tmp_path_factory.mktemp("imports"))
    folder = side.home / "models"
    folder.mkdir()
    side.python_script(MAKE, str(folder))
    side.python_script(MAKE_KERAS, str(folder))
    found = Models(side, folder, {})
    pairs = [*TAKEN, *REFUSED]
    checked = side.run_many(*(("check", {"command": "import", **found.request(*pair)}) for pair in pairs))
    assert not Path(found.request("", "")["releases"]).exists(), "a check wrote something"
    imported = side.run_many(*(("import", found.request(*pair)) for pair in pairs))
    found.ends.update(zip(pairs, zip(checked, imported, strict=True), strict=True))
    return found


@pytest.mark.parametrize("pair", TAKEN, ids="-".join)
def test_a_model_is_taken_with_its_samples_as_they_are(models: Models, pair: tuple[str, str]) -> None:
    checked, imported = models.ends[pair]
    assert checked["event"] == "result", checked
    assert imported["event"] == "result", imported
    manifest = imported["result"]["release"]["manifest"]
    assert manifest["signature"]["inputs"][0]["shape"] == [-1, *TAKEN[pair]]
    assert ("accuracy" in manifest["metrics"]) == (pair[1] == "labelled.npz")


@pytest.mark.parametrize("model", ["series.onnx", "one.onnx", "inner.onnx"])
def test_a_series_or_a_model_of_one_sample_at_a_time_is_served_as_it_is(models: Models, model: str) -> None:
    np, ort = pytest.importorskip("numpy"), pytest.importorskip("onnxruntime")
    release = Path(models.ends[model, "series.npz"][1]["result"]["release"]["path"])
    samples = np.load(models.folder / "series.npz")["x"][:3]
    session = ort.InferenceSession(release / "model" / "model.onnx")
    expected = np.concatenate([session.run(["p"], {"x": sample[np.newaxis]})[0] for sample in samples])
    tensor = {"name": "x", "shape": [3, 8, 5], "datatype": "FP32", "data": samples.tolist()}
    with served(release) as server:
        answer = server.call("POST", "/v2/models/foreign/infer", {"inputs": [tensor]})
    assert answer.status == 200, answer.body
    (output,) = answer.json["outputs"]
    assert output["shape"] == [3, 3]
    assert np.allclose(np.reshape(output["data"], (3, 3)), expected, atol=1e-5)


@pytest.mark.parametrize("pair", REFUSED, ids="-".join)
def test_a_check_gives_the_refusal_of_the_run(models: Models, pair: tuple[str, str]) -> None:
    checked, imported = models.ends[pair]
    assert imported["event"] == "error", imported
    assert REFUSED[pair] in imported["message"]
    assert "\n" not in imported["message"]
    assert (checked["event"], checked["kind"], checked["message"]) == ("error", imported["kind"], imported["message"])
    for impossible in ("allow_pickle", "safe_mode", "custom_objects", "'project'", "zipmap"):
        assert impossible not in imported["message"]


# --- the advice of a refusal, followed ---


def test_the_format_that_a_name_does_not_show_can_be_given(models: Models) -> None:
    assert models.run("import", models.request("plain", "series.npz", format="onnx"))["event"] == "result"


def test_weights_outside_can_be_saved_inside(models: Models) -> None:
    script = "import sys, onnx; onnx.save(onnx.load(sys.argv[1]), sys.argv[2])"
    models.side.python_script(script, *(str(models.folder / name) for name in ("outside.onnx", "inside.onnx")))
    assert models.run("import", models.request("inside.onnx", "series.npz"))["event"] == "result"


def test_an_open_shape_can_be_fixed(models: Models) -> None:
    script = (
        "import sys, onnx\nfrom onnxruntime.tools.onnx_model_utils import make_dim_param_fixed\n"
        "model = onnx.load(sys.argv[1])\nmake_dim_param_fixed(model.graph, 'T', 8)\nonnx.save(model, sys.argv[2])"
    )
    models.side.python_script(script, *(str(models.folder / name) for name in ("open.onnx", "fixed.onnx")))
    assert models.run("import", models.request("fixed.onnx", "series.npz"))["event"] == "result"


def test_a_model_of_scores_can_be_ended_with_a_softmax(models: Models) -> None:
    script = (
        "import sys, keras\nmodel = keras.saving.load_model(sys.argv[1])\n"
        "keras.Sequential([model, keras.layers.Softmax()]).save(sys.argv[2])"
    )
    models.side.python_script(script, *(str(models.folder / name) for name in ("scores.keras", "softmax.keras")))
    assert models.run("import", models.request("softmax.keras", "series.npz"))["event"] == "result"


def test_samples_can_be_transposed_and_saved_as_numbers(models: Models) -> None:
    script = "import sys, numpy\nnumpy.savez(sys.argv[2], x=numpy.load(sys.argv[1])['x'].transpose(0, 2, 1))"
    models.side.python_script(script, *(str(models.folder / name) for name in ("turned.npz", "right.npz")))
    for samples in ("right.npz", "numbers.npz"):
        assert models.run("import", models.request("series.onnx", samples))["event"] == "result"


@pytest.mark.parametrize(
    ("given", "words", "followed"),
    [
        (
            {"input": {"name": "sound"}},
            "input.name: the model calls its input 'x', not 'sound': leave it out",
            {"input": {}},
        ),
        ({"labels": ["a"]}, "labels names 1 labels, but the model answers 3 classes", {"labels": ["a", "b", "c"]}),
        ({"format": "onxn"}, "format: 'onxn' is not known; did you mean 'onnx'?", {"format": "onnx"}),
        ({"format": "keras"}, "series.onnx is not a keras file", {"format": "onnx"}),
        ({"input": {"range": [5, 1]}}, "input.range must be [lowest, highest]", {"input": {"range": [-9, 9]}}),
        ({"input": {"range": [0, 1]}}, "out of input.range 0 to 1", {"input": {"range": [-9, 9]}}),
        ({"name": "Upper"}, "must be lower-case letters", {"name": "lower"}),
    ],
)
def test_a_wrong_option_is_named_and_the_advice_works(
    models: Models, given: dict[str, t.Any], words: str, followed: dict[str, t.Any]
) -> None:
    wrong, right = (models.request("series.onnx", "series.npz", **more) for more in (given, followed))
    checked, refused, taken = models.side.run_many(
        ("check", {"command": "import", **wrong}), ("import", wrong), ("import", right)
    )
    assert words in refused["message"]
    assert checked["message"] == refused["message"]
    assert taken["event"] == "result", taken


def test_the_zipmap_hint_is_given_to_models_of_skl2onnx_only(models: Models) -> None:
    script = """
import sys, numpy
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
x = numpy.random.default_rng(0).normal(size=(60, 4)).astype("float32")
numpy.savez(sys.argv[1] + "/flat.npz", x=x)
model = LogisticRegression().fit(x, numpy.arange(60) % 3)
for name, options in (("zipped", None), ("unzipped", {"zipmap": False})):
    open(f"{sys.argv[1]}/{name}.onnx", "wb").write(to_onnx(model, x[:1], options=options).SerializeToString())
"""
    models.side.python_script(script, str(models.folder))
    refused = models.run("import", models.request("zipped.onnx", "flat.npz"))
    assert "made by skl2onnx, whose option zipmap=False makes its probabilities a tensor" in refused["message"]
    assert models.run("import", models.request("unzipped.onnx", "flat.npz"))["event"] == "result"
    assert "zipmap" not in models.ends["two.onnx", "series.npz"][1]["message"]


# --- conversion and compression without labels ---


@pytest.mark.parametrize("methods", [[], ["quantize"], ["float16"]])
@pytest.mark.parametrize("model", ["series.onnx", "one.onnx", "series.keras", "one.keras", "fixed-1", "one.tflite"])
def test_a_model_is_converted_without_labels(models: Models, model: str, methods: list[str]) -> None:
    release = models.ends[model, "series.npz"][1]["result"]["release"]["path"]
    request = {"release": release, "samples": str(models.folder / "series.npz"), "methods": methods}
    request.update(models.side.stores("imports"))
    checked, made = models.side.run_many(("check", {"command": "compress", **request}), ("compress", request))
    assert checked["event"] == "result", checked
    assert made["event"] == "result", made
    manifest = made["result"]["release"]["manifest"]
    assert manifest["model"]["format"] in ("litert", "onnx")
    facts = manifest["compression"]
    assert (facts["parent_accuracy"], facts["accuracy_drop"], facts["agreement"]) == (None, None, 1.0)
    assert manifest["metrics"] == {"samples": 60}
    assert {*facts["methods"], *facts.get("skipped", {})} == {*methods}


@pytest.mark.parametrize("model", ["recurrent.keras", "recurrent-1"])
def test_a_recurrent_model_is_converted_for_one_sample_at_a_time(models: Models, model: str) -> None:
    release = models.ends[model, "series.npz"][1]["result"]["release"]["path"]
    request = {"release": release, "samples": str(models.folder / "series.npz"), **models.side.stores("imports")}
    made = models.run("compress", {**request, "methods": ["quantize"]})
    assert made["event"] == "result", made
    facts = made["result"]["release"]["manifest"]["compression"]
    assert (facts["methods"], list(facts["skipped"])) == ([], ["quantize"])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("recurrent", "converted only where the batch size is known: export it with a batch size of 1"),
        ("gamma", "LiteRT does not have TensorFlow's Igamma: build the model without them"),
    ],
)
def test_what_litert_does_not_convert_is_named_in_terms_of_the_model(models: Models, model: str, words: str) -> None:
    release = models.ends[model, "series.npz"][1]["result"]["release"]["path"]
    request = {"release": release, "samples": str(models.folder / "series.npz"), **models.side.stores("imports")}
    assert words in models.run("compress", {**request, "methods": []})["message"]


def test_what_learns_needs_labels_and_the_advice_works(models: Models) -> None:
    script = """
import sys, numpy, skops.io
from sklearn.neural_network import MLPClassifier
x = numpy.random.default_rng(0).normal(size=(60, 4)).astype("float32")
y = numpy.arange(60) % 3
numpy.savez(sys.argv[1] + "/rows.npz", x=x)
numpy.savez(sys.argv[1] + "/rows-and-labels.npz", x=x, y=y)
skops.io.dump(MLPClassifier((9,), max_iter=20).fit(x, y), sys.argv[1] + "/network.skops")
"""
    models.side.python_script(script, str(models.folder))
    imported = models.run("import", models.request("network.skops", "rows.npz"))
    assert imported["event"] == "result", imported
    request = {"release": imported["result"]["release"]["path"], **models.side.stores("imports")}
    rows, labelled = str(models.folder / "rows.npz"), str(models.folder / "rows-and-labels.npz")
    checked, refused, left_out, added = models.side.run_many(
        ("check", {"command": "compress", **request, "samples": rows, "methods": ["prune"]}),
        ("compress", {**request, "samples": rows, "methods": ["prune"]}),
        ("compress", {**request, "samples": rows, "methods": []}),
        ("compress", {**request, "samples": labelled, "methods": ["prune"]}),
    )
    assert (
        "holds no array 'y', which prune learns from: add the class numbers, or leave prune out" in refused["message"]
    )
    assert checked["message"] == refused["message"]
    assert left_out["event"] == added["event"] == "result"
    assert added["result"]["release"]["manifest"]["compression"]["methods"] == ["prune"]


# --- a project's own layers ---

CUSTOM_PY = """\
import keras


{decorator}class Twice(keras.layers.Layer):
    def call(self, x):
        return x * 2


def build(parameters, signature):
    model = keras.Sequential([
        keras.Input(signature["inputs"][0]["shape"][1:]), Twice(), keras.layers.Flatten(),
        keras.layers.Dense(3, activation="softmax"),
    ])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
"""
CUSTOM_YML = """\
name: custom
framework: keras
code: project.py
data: {source: npz, path: labelled.npz, test: 20}
labels: [a, b, c]
parameters: {epochs: 1}
"""


def test_a_projects_own_layer_is_known_with_its_project_once_it_is_registered(models: Models) -> None:
    project = models.side.home / "custom"
    project.mkdir()
    (project / "model.yml").write_text(CUSTOM_YML)
    (project / "labelled.npz").write_bytes((models.folder / "labelled.npz").read_bytes())
    stores, code = models.side.stores("custom"), project / "project.py"
    dest = str(models.side.home / "custom-report")

    code.write_text(CUSTOM_PY.format(decorator=""))
    trained = models.run("train", {"project": str(project), **stores})
    request = {"project": str(project), "release": trained["result"]["release"]["path"], **stores}
    for command in ("compress", "evaluate"):
        more = {"dest": dest} if command == "evaluate" else {}
        sent = {key: value for key, value in {**request, **more}.items() if command == "compress" or key != "releases"}
        refused = models.run(command, sent)
        assert (
            "it has 'Twice', which is not Keras's own: name the project whose code has it, decorated"
            in refused["message"]
        )

    code.write_text(CUSTOM_PY.format(decorator="@keras.saving.register_keras_serializable()\n"))
    trained = models.run("train", {"project": str(project), **stores})
    request["release"] = trained["result"]["release"]["path"]
    for command in ("compress", "evaluate"):
        more = {"dest": dest} if command == "evaluate" else {}
        sent = {key: value for key, value in {**request, **more}.items() if command == "compress" or key != "releases"}
        assert models.run(command, sent)["event"] == "result"
