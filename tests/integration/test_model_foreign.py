"""Foreign models that attack: refused by what they hold, and harmless to the host where a check would miss it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import typing as t
import zipfile
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._model.compress import compress
from ansible_collections.modelship.core.plugins.module_utils._model.evaluate import evaluate
from ansible_collections.modelship.core.plugins.module_utils._model.importing import import_model

from .conftest import ROOT

pytestmark = pytest.mark.integration

#: Makes the models in the directory argv[1]; the attacks aim at files in argv[2].
MAKE = """
import json, os, sys, zipfile
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np, skops.io, tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from sklearn.pipeline import make_pipeline

os.chdir(sys.argv[1])
target = sys.argv[2]
x, y = load_digits(return_X_y=True)
x = x.astype("float32")
np.savez("samples.npz", x=x[:60], y=y[:60])

def dense(*before):
    return keras.Sequential([keras.Input((64,)), *before, keras.layers.Dense(10, activation="softmax")])

@keras.saving.register_keras_serializable()
class Twice(keras.layers.Layer):
    def call(self, values):
        return values * 2

dense().save("honest.keras")
dense(keras.layers.Dropout(0.1)).export("honest", verbose=False)
dense(keras.layers.Lambda(lambda values: values * 2)).save("lambda.keras")
dense(Twice()).save("custom.keras")

def activation(values):
    return values

dense(keras.layers.Dense(10, activation=activation)).save("function.keras")

def saved_model(name, body):
    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(np.ones((64, 10), "float32"))

        @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32, name="x")])
        def serve(self, x):
            return {"p": tf.nn.softmax(x @ self.weights) + body(x)}

    module = Module()
    tf.saved_model.save(module, name, signatures={"serving_default": module.serve})

def zero(value):
    return 0.0 * tf.cast(value, tf.float32)

@tf.function
def hidden(x):
    tf.io.write_file(target + "/written", "x")
    return tf.constant(0.0)

def saving(x):
    tf.raw_ops.SaveV2(prefix=target + "/saved", tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1.0)])
    return 0.0

saved_model("ReadFile", lambda x: zero(tf.strings.length(tf.io.read_file(target + "/secret"))))
saved_model("WriteFile", lambda x: tf.cond(tf.reduce_sum(x) > -1e30, lambda: hidden(x), lambda: 0.0))
saved_model("MatchingFiles", lambda x: zero(tf.size(tf.io.matching_files(target + "/*"))))
saved_model("SaveV2", saving)
saved_model("RestoreV2", lambda x: zero(tf.raw_ops.RestoreV2(prefix="honest/variables/variables", tensor_names=["a"],
            shape_and_slices=[""], dtypes=[tf.float32])[0]))
saved_model("PrintV2", lambda x: (tf.print("x", output_stream="file://" + target + "/printed"), 0.0)[1])
saved_model("PyFunc", lambda x: tf.numpy_function(lambda: np.float32(0), [], tf.float32))
saved_model("ImmutableConst", lambda x: zero(tf.raw_ops.ImmutableConst(dtype=tf.uint8, shape=[1],
            memory_region_name=target + "/secret")[0]))

fitted = LogisticRegression(max_iter=200).fit(x, y)
skops.io.dump(fitted, "honest.skops")
skops.io.dump(make_pipeline(FunctionTransformer(np.testing.rundocs), fitted), "transformer.skops")
with open(target + "/code.py", "w") as stream:
    stream.write("open(" + repr(target + "/ran") + ", 'w').write('x')\\n")
# numpy.testing.rundocs, called with a key of a mapping as its argument, runs the Python file of that name.
with zipfile.ZipFile("honest.skops") as archive:
    entries = {name: archive.read(name) for name in archive.namelist()}
schema = json.loads(entries["schema.json"])
def node(loader, name, module, **more):
    return {"__class__": name, "__module__": module, "__loader__": loader, "__id__": None, **more}
calling = node("TypeNode", "rundocs", "numpy.testing")
schema["content"]["content"]["extra"] = node("DictNode", "dict", "builtins",
    key_types=node("ListNode", "list", "builtins", content=[calling]),
    content={target + "/code.py": node("JsonNode", "str", "builtins", content="1", is_json=True)})
schema["content"]["key_types"]["content"].append(schema["content"]["key_types"]["content"][0])
with zipfile.ZipFile("crafted.skops", "w") as archive:
    for name, data in entries.items():
        archive.writestr(name, json.dumps(schema) if name == "schema.json" else data)
schema["content"]["content"]["extra"] = node(["ObjectNode"], "a", "b")
with zipfile.ZipFile("listed.skops", "w") as archive:
    for name, data in entries.items():
        archive.writestr(name, json.dumps(schema) if name == "schema.json" else data)
with zipfile.ZipFile("bomb.skops", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("schema.json", b" " * (257 << 20))

import onnx
from onnx import helper
def outside():
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[64, 10], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="proc/self/environ")
    return helper.make_node("Constant", [], ["w"], value=tensor)
def onnx_model(name, first, functions=(), domains=()):
    versions = [helper.make_opsetid("", 17), *(helper.make_opsetid(each, 1) for each in domains)]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [*first, helper.make_node("MatMul", ["x", "w"], ["p"])], "g", [value("x", 1, [None, 64])], [value("p", 1, [None, 10])]
    )
    model = helper.make_model(graph, opset_imports=versions, functions=list(functions), ir_version=8)
    with open(name, "wb") as stream:
        stream.write(model.SerializeToString())
def branch(name):
    return helper.make_graph([outside()], name, [], [helper.make_tensor_value_info("w", 1, [64, 10])])
onnx_model("constant.onnx", [outside()])
true = helper.make_node("Constant", [], ["t"], value=onnx.numpy_helper.from_array(np.array(True)))
onnx_model("branch.onnx", [true, helper.make_node("If", ["t"], ["w"], then_branch=branch("a"), else_branch=branch("b"))])
weights = helper.make_function("own", "Weights", [], ["w"], [outside()], [helper.make_opsetid("", 17)])
onnx_model("function.onnx", [helper.make_node("Weights", [], ["w"], domain="own")], [weights], ["own"])
"""


class Attack(t.NamedTuple):
    """Where the models are, what they aim at, and the trainer."""

    models: Path
    target: Path
    python: str

    def parameters(self, **more: t.Any) -> dict[str, t.Any]:
        return {
            "format": None, "labels": None, "input": None, "output": None, "releases": str(self.models / "releases"),
            "samples": str(self.models / "samples.npz"), "trainer_python": self.python,
            "trainer_path": str(ROOT / "model" / "src"), "trainer_environment": {}, "timeout": 300,
            "confinement": "required", "memory": None, **more,
        }  # fmt: skip

    def imported(self, model: str, **more: t.Any) -> Outcome:
        name = "m-" + model.replace(".", "-").replace("_", "-").lower()
        return import_model(self.parameters(model=str(self.models / model), name=name, **more), Context())

    def refusal(self, model: str, **more: t.Any) -> ModelshipError:
        with pytest.raises(ModelshipError) as caught:
            self.imported(model, **more)
        return caught.value

    def untouched(self) -> bool:
        return sorted(os.listdir(self.target)) == ["code.py", "secret"] and (self.target / "secret").read_text() == "x"


@pytest.fixture(scope="module")
def attack(trainer_python: str) -> t.Iterator[Attack]:
    place = Path(tempfile.mkdtemp(prefix="modelship-attack-", dir="/tmp"))
    place.chmod(0o755)
    models, target = place / "models", place / "target"
    models.mkdir()
    target.mkdir(mode=0o777)
    target.chmod(0o777)  # the confined user could write here, if it saw it
    (target / "secret").write_text("x")
    script = place / "make.py"  # a file: Keras saves a Lambda layer by its source
    script.write_text(MAKE)
    made = subprocess.run([trainer_python, str(script), str(models), str(target)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-3000:]
    yield Attack(models, target, trainer_python)
    shutil.rmtree(place)


@pytest.mark.parametrize("model", ["honest.keras", "honest", "honest.skops"])
def test_honest_models_are_imported_confined_and_the_same_as_unconfined(attack: Attack, model: str) -> None:
    made = attack.imported(model).result["release"]
    assert attack.imported(model).changed is False
    elsewhere = str(attack.models / "unconfined")
    free = attack.imported(model, releases=elsewhere, confinement="none").result["release"]
    assert made["digest"] == free["digest"]
    assert [name for name in os.listdir(attack.models / "releases") if name.startswith(".confined")] == []


@pytest.mark.parametrize(
    "operation",
    ["ReadFile", "WriteFile", "MatchingFiles", "SaveV2", "RestoreV2", "PrintV2", "PyFunc", "ImmutableConst"],
)
def test_a_graph_that_reaches_outside_is_refused_by_its_operation(attack: Attack, operation: str) -> None:
    error = attack.refusal(operation)
    assert error.kind == "release"
    assert f"holds the operation {operation}" in error.message
    assert attack.untouched()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("lambda.keras", "it has a Lambda layer, whose code would run"),
        ("custom.keras", "it has 'Twice', which is not Keras's own"),
        ("function.keras", "it has a custom function, whose code is missing"),
        ("crafted.skops", "types that are not trusted: numpy.testing.*rundocs"),
        ("transformer.skops", "holds the function .*rundocs: functions are not accepted"),
        ("listed.skops", "types that are not trusted: b.a"),
        ("bomb.skops", "schema.json of .*bomb.skops is larger than 256 MiB"),
        ("constant.onnx", "keeps the weights 'w' in another file"),
        ("branch.onnx", "keeps the weights 'w' in another file"),
        ("function.onnx", "keeps the weights 'w' in another file"),
    ],
)
def test_a_model_that_names_code_or_files_is_refused(attack: Attack, model: str, words: str) -> None:
    import re

    error = attack.refusal(model)
    assert error.kind == "release"
    assert re.search(words, error.message), error.message
    assert attack.untouched()


@pytest.fixture(scope="module")
def unchecked(attack: Attack) -> str:
    """The model side without its checks of what models hold: the second line of defence by itself."""
    source = attack.models.parent / "unchecked"
    shutil.copytree(ROOT / "model" / "src" / "modelship_model", source / "modelship_model")
    inspection = source / "modelship_model" / "inspection.py"
    text = inspection.read_text()
    for name in ("check_skops", "check_keras", "check_saved_model"):
        text += f"\n\ndef {name}(path: str) -> None:\n    return None\n"
    text += '\n\nSKOPS_TYPES = SKOPS_TYPES | {"numpy.testing.rundocs", "numpy.testing._private.utils.rundocs"}\n'
    inspection.write_text(text)
    return str(source)


@pytest.mark.parametrize("model", ["ReadFile", "WriteFile", "crafted.skops"])
def test_what_a_check_misses_reaches_nothing(attack: Attack, unchecked: str, model: str) -> None:
    """Unconfined the same models do what they are made for: else this would show nothing."""
    error = attack.refusal(model, trainer_path=unchecked)
    assert error.kind in ("release", "internal", "crash", "environment")
    assert attack.untouched()
    try:
        attack.imported(model, trainer_path=unchecked, confinement="none", releases=str(attack.models / "free"))
    except ModelshipError:
        pass  # it did its work before it failed
    else:
        assert model != "crafted.skops" or (attack.target / "ran").exists()
    if model != "ReadFile":
        assert not attack.untouched(), "the attack does not work at all"
    for name in set(os.listdir(attack.target)) - {"code.py", "secret"}:
        path = attack.target / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_compress_and_evaluate_of_an_imported_release_are_confined(attack: Attack, tmp_path: Path) -> None:
    """The bytes are the foreign model's still: they are read in the same confinement, and the results are the same."""
    made = attack.imported("honest.skops").result["release"]
    more = {
        "release": made["path"], "project": None, "methods": [], "options": {}, "gates": {}, "work": None,
        "parameters": {}, "data": {},
    }  # fmt: skip
    found = {}
    for confinement in ("required", "none"):
        parameters = attack.parameters(**more, confinement=confinement)
        releases = str(attack.models / f"compressed-{confinement}")
        small = compress({**parameters, "releases": releases}, Context()).result["release"]
        dest = tmp_path / confinement
        judged = evaluate({**parameters, "dest": str(dest)}, Context())
        again = evaluate({**parameters, "dest": str(dest)}, Context())
        assert (judged.changed, again.changed) == (True, False)
        assert (dest / "report.html").is_file()
        assert judged.result["report"] == str(dest / "report.html")
        found[confinement] = small["digest"], judged.result["evaluation"]["accuracy"]
    assert found["required"] == found["none"]


def test_the_crafted_file_is_what_the_prefix_list_accepted(attack: Attack) -> None:
    """It names nothing outside numpy, scikit-learn and builtins."""
    with zipfile.ZipFile(attack.models / "crafted.skops") as archive:
        schema = json.loads(archive.read("schema.json"))
    modules = set()
    rest: list[t.Any] = [schema]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            modules.add(str(item.get("__module__", "numpy")).split(".")[0])
            rest += item.values()
        elif isinstance(item, list):
            rest += item
    assert modules <= {"numpy", "sklearn", "builtins"}
