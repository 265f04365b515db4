"""The model side's own line, with the real frameworks: train, kill, resume, compress, import, evaluate, and bad input.

Each command is a process of its own, as the modules run it. Small projects, so that starting TensorFlow is most of the time.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import typing as t
from pathlib import Path

import pytest

from .conftest import ROOT

pytestmark = pytest.mark.integration

EXAMPLES = ROOT / "model" / "examples"
MNIST = ROOT.parent / "shared" / "data" / "mnist-t10k"

MODEL_YML = """\
name: tiny
framework: {framework}
code: project.py
data: {{source: digits, test: 0.3}}
labels: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
input: {{name: image, range: [0, 255]}}
parameters: {{epochs: 5, batch_size: 64, learning_rate: 0.003, seed: 7, fault: ""}}
"""
#: Dropout and shifting use Keras's seed generators, whose state a resumed training must take up again.
KERAS_PY = """\
import keras
from keras import layers


def build(parameters, signature):
    if parameters["fault"] == "raise":
        return {}["no such layer"]
    model = network(signature, 12)
    if parameters["fault"] == "shape":
        model = keras.Sequential([keras.Input((7,)), layers.Dense(10, activation="softmax")])
    if parameters["fault"] == "logits":
        model = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)])
    if parameters["fault"] == "uncompiled":
        return model
    rate = 1e30 if parameters["fault"] == "nan" else parameters["learning_rate"]
    optimizer = keras.optimizers.SGD(rate) if parameters["fault"] == "nan" else keras.optimizers.Adam(rate)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def student(parameters, signature):
    return network(signature, 4)


def network(signature, filters):
    return keras.Sequential([
        keras.Input(signature["inputs"][0]["shape"][1:]),
        layers.Rescaling(1 / 255),
        layers.RandomTranslation(0.05, 0.05, fill_mode="constant"),
        layers.Conv2D(filters, 5, strides=2, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dropout(0.2),
        layers.Dense(64, activation="relu"),
        layers.Dense(10, activation="softmax"),
    ])
"""
SKLEARN_PY = """\
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler


def build(parameters, signature):
    network = MLPClassifier((64,), batch_size=64, learning_rate_init=parameters["learning_rate"])
    return make_pipeline(MinMaxScaler(), network)
"""


@dataclasses.dataclass(frozen=True)
class Answer:
    """How one command ended."""

    events: list[dict[str, t.Any]]

    @property
    def last(self) -> dict[str, t.Any]:
        return self.events[-1]

    @property
    def result(self) -> dict[str, t.Any]:
        assert self.last["event"] == "result", self.last
        return t.cast(dict[str, t.Any], self.last["result"])

    @property
    def manifest(self) -> dict[str, t.Any]:
        return t.cast(dict[str, t.Any], self.result["release"]["manifest"])

    @property
    def path(self) -> Path:
        return Path(self.result["release"]["path"])

    @property
    def epochs(self) -> list[dict[str, t.Any]]:
        return [event for event in self.events if event["event"] == "epoch"]


class ModelSide:
    """Runs commands of the model side in the trainer's interpreter."""

    def __init__(self, python: str, home: Path) -> None:
        self.python, self.home = python, home
        # The sources are one of the inputs: a copy does not change while the tests run.
        self.sources = home / "src"
        shutil.copytree(ROOT / "model" / "src" / "modelship_model", self.sources / "modelship_model")
        self.environment = {**os.environ, "PYTHONPATH": str(self.sources)}

    def start(self, command: str, request: dict[str, t.Any]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self.python, "-m", "modelship_model", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self.environment,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        return process

    def run(self, command: str, /, **request: t.Any) -> Answer:
        with self.start(command, request) as process:
            assert process.stdout is not None
            events = [json.loads(line) for line in process.stdout]
        assert process.returncode == (0 if events[-1]["event"] == "result" else 1)
        assert [event["event"] for event in events[:-1] if event["event"] in ("result", "error")] == []
        return Answer(events)

    def python_script(self, script: str, *arguments: str) -> str:
        """Run a script in the trainer's interpreter and return what it printed."""
        command = [self.python, "-c", script, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=self.environment).stdout

    def project(self, name: str, framework: str, code: str) -> str:
        folder = self.home / name
        folder.mkdir()
        (folder / "model.yml").write_text(MODEL_YML.format(framework=framework))
        (folder / "project.py").write_text(code)
        return str(folder)

    def stores(self, name: str) -> dict[str, str]:
        return {"releases": str(self.home / name / "releases"), "work": str(self.home / name / "work")}

    def train_killed_and_resumed(self, project: str, stores: dict[str, str], after: int) -> Answer:
        """Kill a training with SIGKILL once *after* epochs are reported, then run it again."""
        with self.start("train", {"project": project, **stores}) as process:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                assert event["event"] not in ("result", "error"), "it ended before it could be killed"
                if event["event"] == "epoch" and event["epoch"] == after:
                    process.send_signal(signal.SIGKILL)
                    break
            process.stdout.read()
        assert process.returncode == -signal.SIGKILL
        return self.run("train", project=project, **stores)


@pytest.fixture(scope="session")
def side(trainer_python: str, tmp_path_factory: pytest.TempPathFactory) -> ModelSide:
    return ModelSide(trainer_python, tmp_path_factory.mktemp("model-line"))


@pytest.fixture(scope="session")
def keras_project(side: ModelSide) -> str:
    return side.project("tiny-keras", "keras", KERAS_PY)


@pytest.fixture(scope="session")
def keras_release(side: ModelSide, keras_project: str) -> Answer:
    return side.run("train", project=keras_project, **side.stores("a"))


@pytest.fixture(scope="session")
def mlp_project(side: ModelSide) -> str:
    return side.project("tiny-mlp", "sklearn", SKLEARN_PY)


@pytest.fixture(scope="session")
def mlp_release(side: ModelSide, mlp_project: str) -> Answer:
    return side.run("train", project=mlp_project, **side.stores("a"))


@pytest.fixture(scope="session")
def samples(side: ModelSide) -> str:
    """The last 500 digits, with their classes."""
    path = str(side.home / "samples.npz")
    script = (
        "import sys, numpy\nfrom modelship_model.data import _digits\n"
        "x, y = _digits()\nnumpy.savez(sys.argv[1], x=x[-500:], y=y[-500:])"
    )
    side.python_script(script, path)
    return path


def compress(side: ModelSide, parent: Answer, project: str, *methods: str, **options: float) -> Answer:
    """Compress *parent*, and check what holds of every compressed release."""
    answer = side.run(
        "compress",
        release=str(parent.path),
        project=project,
        methods=list(methods),
        options=options,
        **side.stores("a"),
    )
    manifest = answer.manifest
    facts = manifest["compression"]
    assert manifest["inputs"]["parent"] == parent.result["release"]["digest"]
    assert facts["size_ratio"] == pytest.approx(manifest["model"]["size"] / facts["reference_size"], abs=1e-5)
    assert facts["accuracy_drop"] == pytest.approx(facts["parent_accuracy"] - manifest["metrics"]["accuracy"], abs=1e-5)
    assert manifest["model"]["size"] == (answer.path / manifest["model"]["path"]).stat().st_size
    golden = json.loads((answer.path / "golden.json").read_text())
    assert len(golden["inputs"]["image"]) == len(golden["outputs"]["probabilities"]) == 16
    return answer


# --- the example, as `make site` runs it ---


def test_the_example_passes_its_own_gates(side: ModelSide) -> None:
    project, stores = str(EXAMPLES / "digits"), side.stores("example")
    trained = side.run("train", project=project, **stores)
    assert [event["epoch"] for event in trained.epochs] == list(range(1, 16))
    assert trained.epochs[-1]["eta_s"] == 0
    again = side.run("train", project=project, **stores)
    assert again.path == trained.path
    assert again.epochs == []

    compressed = side.run("compress", project=project, release=str(trained.path), **stores)
    plan = side.run("plan", command="compress", project=project, release=str(trained.path), **stores).result
    assert plan["existing"] == str(compressed.path)
    gates, facts, manifest = plan["gates"], compressed.manifest["compression"], compressed.manifest
    assert manifest["model"]["format"] == "litert"
    assert manifest["metrics"]["accuracy"] >= gates["accuracy"]
    assert facts["accuracy_drop"] <= gates["accuracy_drop"]
    assert facts["size_ratio"] <= gates["size_ratio"]
    assert manifest["model"]["size"] <= gates["size_bytes"]

    request = {"project": project, "release": str(compressed.path), "dest": str(side.home / "report")}
    judged = side.run("evaluate", **request).result
    assert judged["cached"] is False
    assert judged["evaluation"]["accuracy"] == manifest["metrics"]["accuracy"]
    assert sum(map(sum, judged["evaluation"]["confusion"])) == judged["evaluation"]["samples"] == 359
    assert 0 < judged["evaluation"]["latency_ms"]["p50"] <= judged["evaluation"]["latency_ms"]["p99"]
    assert compressed.result["release"]["digest"] in Path(judged["report"]).read_text()
    cached = side.run("evaluate", **request).result
    assert cached == {**judged, "cached": True}
    Path(judged["report"]).write_text("tampered with")
    assert side.run("evaluate", **request).result["cached"] is False


# --- the same inputs, the same bytes ---


def test_a_killed_training_goes_on_to_the_same_bytes(
    side: ModelSide, keras_project: str, keras_release: Answer
) -> None:
    resumed = side.train_killed_and_resumed(keras_project, side.stores("b"), after=2)
    went_on = [event["epoch"] for event in resumed.epochs]
    assert went_on == list(range(went_on[0], 6))
    assert went_on[0] > 2, "an epoch that was reported is safe"
    assert all(event["resumed"] for event in resumed.epochs)
    assert resumed.manifest["model"]["weights"] == keras_release.manifest["model"]["weights"]
    assert resumed.result["release"]["digest"] == keras_release.result["release"]["digest"]
    assert os.listdir(side.stores("b")["work"]) == []


def test_a_killed_perceptron_goes_on_to_the_same_bytes(side: ModelSide, mlp_project: str, mlp_release: Answer) -> None:
    resumed = side.train_killed_and_resumed(mlp_project, side.stores("b"), after=2)
    assert [event["resumed"] for event in resumed.epochs] == [True] * len(resumed.epochs)
    assert len(resumed.epochs) < 5
    assert resumed.result["release"]["digest"] == mlp_release.result["release"]["digest"]


def test_another_parameter_is_another_release(side: ModelSide, mlp_project: str, mlp_release: Answer) -> None:
    other = side.run("train", project=mlp_project, parameters={"seed": 8}, **side.stores("a"))
    assert other.manifest["model"]["weights"] != mlp_release.manifest["model"]["weights"]
    assert side.run("train", project=mlp_project, **side.stores("a")).path == mlp_release.path


# --- compression ---


def test_float16_halves_a_keras_model(side: ModelSide, keras_project: str, keras_release: Answer) -> None:
    facts = compress(side, keras_release, keras_project, "float16").manifest["compression"]
    assert facts["size_ratio"] < 0.6
    assert abs(facts["accuracy_drop"]) <= 0.005


def test_pruning_and_quantizing_compose_in_any_order(
    side: ModelSide, keras_project: str, keras_release: Answer
) -> None:
    options = {"sparsity": 0.6, "prune_epochs": 2}
    answer = compress(side, keras_release, keras_project, "quantize", "prune", **options)
    facts = answer.manifest["compression"]
    assert facts["methods"] == ["prune", "quantize"]
    assert facts["sparsity"] == pytest.approx(0.6, abs=0.01)
    assert facts["size_ratio"] < 0.35
    # Zeros make a model smaller only once it is packed.
    assert facts["gzip_size"] / answer.manifest["model"]["size"] < 0.8
    tuning = json.loads((answer.path / "curves.json").read_text())["tuning"]
    assert [row["phase"] for row in tuning] == ["prune", "prune"]
    assert [event["phase"] for event in answer.epochs] == ["prune", "prune"]
    same = compress(side, keras_release, keras_project, "prune", "quantize", **options)
    assert same.path == answer.path


def test_a_student_is_distilled(side: ModelSide, keras_project: str, keras_release: Answer) -> None:
    facts = compress(side, keras_release, keras_project, "distill", distill_epochs=8).manifest["compression"]
    assert facts["size_ratio"] < 0.6
    assert facts["accuracy_drop"] < 0.1
    request = {"release": str(keras_release.path), "methods": ["distill"], **side.stores("a")}
    assert "student()" in side.run("compress", samples="absent.npz", **request).last["message"]


def test_int8_spares_the_layer_that_it_would_slow_down(
    side: ModelSide, keras_project: str, keras_release: Answer
) -> None:
    """The convolution over the one channel of a grey picture keeps float32 weights, the dense layers have int8."""
    answer = compress(side, keras_release, keras_project, "quantize")
    script = """
import collections, json, sys
from ai_edge_litert.interpreter import Interpreter, OpResolverType

plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
model = Interpreter(sys.argv[1], experimental_op_resolver_type=plain)
types = {each["index"]: each["dtype"].__name__ for each in model.get_tensor_details()}
found = collections.defaultdict(list)
for operation in model._get_ops_details():
    found[operation["op_name"]] += [types[index] for index in operation["inputs"][1:2]]
print(json.dumps(found))
"""
    weights = json.loads(side.python_script(script, str(answer.path / answer.manifest["model"]["path"])))
    assert weights["CONV_2D"] == ["float32"]
    assert weights["FULLY_CONNECTED"] == ["int8", "int8"]


@pytest.mark.parametrize(
    ("methods", "ratio", "drop"), [([], 1.0, 0.0), (["quantize"], 0.35, 0.02), (["float16"], 0.55, 0.005)]
)
def test_a_perceptron_becomes_onnx(
    side: ModelSide, mlp_project: str, mlp_release: Answer, methods: list[str], ratio: float, drop: float
) -> None:
    answer = compress(side, mlp_release, mlp_project, *methods)
    assert answer.manifest["model"]["format"] == "onnx"
    assert answer.manifest["signature"]["inputs"][0]["shape"] == [-1, 784]
    assert answer.manifest["compression"]["size_ratio"] <= ratio
    assert answer.manifest["compression"]["accuracy_drop"] <= drop


def test_a_perceptron_is_pruned(side: ModelSide, mlp_project: str, mlp_release: Answer) -> None:
    facts = compress(side, mlp_release, mlp_project, "prune", sparsity=0.5, prune_epochs=2).manifest["compression"]
    assert facts["sparsity"] == pytest.approx(0.5, abs=0.01)
    assert facts["accuracy_drop"] < 0.05


# --- import ---


def imported(side: ModelSide, model: Path, samples: str, **more: t.Any) -> Answer:
    name = model.suffix.removeprefix(".") or "folder"
    return side.run(
        "import", model=str(model), name=name, samples=samples, releases=side.stores("a")["releases"], **more
    )


def test_what_the_line_made_can_be_imported(
    side: ModelSide, keras_project: str, keras_release: Answer, mlp_project: str, mlp_release: Answer, samples: str
) -> None:
    limits = {"range": [0, 255]}
    litert = compress(side, keras_release, keras_project).path / "model" / "model.tflite"
    onnx = compress(side, mlp_release, mlp_project).path / "model" / "model.onnx"
    keras, skops = keras_release.path / "model" / "model.keras", mlp_release.path / "model" / "model.skops"
    found = {}
    for model in (keras, litert, onnx, skops):
        answer = imported(side, model, samples, input=limits)
        manifest = answer.manifest
        found[model.suffix] = manifest["metrics"]["accuracy"]
        assert manifest["kind"] == "import"
        assert manifest["signature"]["inputs"][0]["name"] == "image"
        assert manifest["signature"]["labels"] == [str(digit) for digit in range(10)]
        assert (answer.path / manifest["model"]["path"]).read_bytes() == model.read_bytes()
        plan = side.run(
            "plan", command="import", model=str(model), name=manifest["name"], samples=samples, input=limits,
            releases=side.stores("a")["releases"],
        )  # fmt: skip
        assert plan.result["existing"] == str(answer.path)
    # The same weights in two formats answer alike.
    assert found[".keras"] == pytest.approx(found[".tflite"], abs=0.005)
    assert found[".onnx"] == pytest.approx(found[".skops"], abs=0.005)


def test_a_savedmodel_goes_the_whole_way(side: ModelSide, keras_release: Answer, samples: str) -> None:
    folder = side.home / "saved"
    # Without the random layer: Keras exports it switched on.
    script = (
        "import sys, keras\nmodel = keras.saving.load_model(sys.argv[1], compile=False)\n"
        "kept = [layer for layer in model.layers if not layer.name.startswith('random')]\n"
        "keras.Sequential([keras.Input((28, 28, 1)), *kept]).export(sys.argv[2])"
    )
    side.python_script(script, str(keras_release.path / "model" / "model.keras"), str(folder))
    answer = imported(side, folder, samples)
    assert answer.manifest["metrics"]["accuracy"] > keras_release.manifest["metrics"]["accuracy"] - 0.05
    assert answer.manifest["model"]["format"] == "savedmodel"
    small = side.run(
        "compress", release=str(answer.path), samples=samples, methods=["quantize"], **side.stores("a")
    ).manifest
    assert small["model"]["format"] == "litert"
    assert small["compression"]["size_ratio"] < 0.35
    assert small["compression"]["accuracy_drop"] < 0.02


def test_foreign_models_that_are_not_taken(side: ModelSide, mlp_release: Answer, samples: str, tmp_path: Path) -> None:
    pickle = tmp_path / "model.pkl"
    pickle.write_bytes(b"cos\nsystem\n")
    assert "is a pickle" in imported(side, pickle, samples).last["message"]
    broken = tmp_path / "model.skops"
    broken.write_bytes(b"cos\nsystem\n")
    assert "is not a skops file" in imported(side, broken, samples).last["message"]
    foreign = tmp_path / "foreign.skops"
    script = (
        "import sys, skops.io, fractions\nfrom sklearn.dummy import DummyClassifier\n"
        "model = DummyClassifier().fit([[0.0]] * 2, [0, 1])\nmodel.extra = fractions.Fraction(1, 2)\n"
        "skops.io.dump(model, sys.argv[1])"
    )
    side.python_script(script, str(foreign))
    assert "types that are not trusted: fractions.Fraction" in imported(side, foreign, samples).last["message"]
    skops = mlp_release.path / "model" / "model.skops"
    narrow = tmp_path / "narrow.npz"
    side.python_script("import sys, numpy; numpy.savez(sys.argv[1], x=numpy.ones((3, 5)))", str(narrow))
    assert "has the shape [5], but the model takes [784]" in imported(side, skops, str(narrow)).last["message"]
    assert "2 labels, but the model answers 10" in imported(side, skops, samples, labels=["a", "b"]).last["message"]


# --- the baseline that traffic is compared with ---


def baseline(answer: Answer) -> dict[str, t.Any]:
    assert "baseline.json" in answer.manifest["files"]
    found = json.loads((answer.path / "baseline.json").read_text())
    assert found["schema"] == "modelship.baseline/1"
    for histogram in (*found["inputs"][0]["features"], found["prediction"]["confidence"]):
        # Of what it was made of nothing lies outside.
        assert len(histogram["counts"]) == len(histogram["edges"]) + 1
        assert histogram["counts"][0] == histogram["counts"][-1] == 0
    assert (
        sum(found["prediction"]["classes"]) == found["prediction"]["samples"] == answer.manifest["metrics"]["samples"]
    )
    return t.cast(dict[str, t.Any], found)


def test_releases_keep_a_baseline(
    side: ModelSide, keras_release: Answer, mlp_project: str, mlp_release: Answer, samples: str
) -> None:
    image, flat = baseline(keras_release)["inputs"][0], baseline(mlp_release)["inputs"][0]
    assert (image["kind"], image["shape"], image["samples"]) == ("embedding", [28, 28, 1], 1258)
    assert {feature["name"] for feature in image["features"]} >= {"mean", "std", "low", "cell_0_0", "cell_3_3"}
    assert (flat["kind"], flat["shape"]) == ("embedding", [784])
    assert [image[key] for key in ("minimum", "maximum", "mean")] == [
        flat[key] for key in ("minimum", "maximum", "mean")
    ]
    small = baseline(compress(side, mlp_release, mlp_project, "quantize"))
    assert small["inputs"] == [flat]
    given = baseline(imported(side, mlp_release.path / "model" / "model.skops", samples, input={"range": [0, 255]}))
    assert given["inputs"][0]["samples"] == 500


def test_a_parent_without_a_baseline_has_children_with_one(side: ModelSide, mlp_release: Answer, samples: str) -> None:
    few = side.home / "few.npz"
    script = (
        "import sys, numpy\nwith numpy.load(sys.argv[1]) as f: numpy.savez(sys.argv[2], x=f['x'][:40], y=f['y'][:40])"
    )
    side.python_script(script, samples, str(few))
    parent = imported(side, mlp_release.path / "model" / "model.skops", str(few))
    assert "baseline.json" not in parent.manifest["files"]
    child = side.run("compress", release=str(parent.path), samples=samples, methods=[], **side.stores("a"))
    assert baseline(child)["inputs"][0]["samples"] == 500


# --- bad input ---


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("raise", "build() failed: KeyError: 'no such layer'"),
        ("shape", "takes samples of shape [7], but the data has [28, 28, 1]"),
        ("logits", "answers no probabilities (they do not sum to 1): end it with a softmax"),
        ("uncompiled", "a model that is not compiled"),
        ("nan", "the loss became nan in epoch 1: lower the learning rate"),
    ],
)
def test_a_projects_faults_are_its_own(side: ModelSide, keras_project: str, fault: str, words: str) -> None:
    error = side.run("train", project=keras_project, parameters={"fault": fault}, **side.stores("faults")).last
    assert (error["event"], error["kind"]) == ("error", "project")
    assert words in error["message"]
    assert "\n" not in error["message"]
    if fault == "raise":
        assert 'return {}["no such layer"]' in error["traceback"]
        assert "modelship_model" not in error["traceback"]


def test_a_corrupted_release_is_refused_by_its_sha256(side: ModelSide, mlp_project: str, mlp_release: Answer) -> None:
    copy = side.home / "copy" / mlp_release.path.name
    shutil.copytree(mlp_release.path, copy)
    with (copy / "model" / "model.skops").open("r+b") as stream:
        stream.write(b"!")
    for command, more in (("compress", side.stores("a")), ("evaluate", {"dest": str(side.home / "none")})):
        error = side.run(command, release=str(copy), project=mlp_project, **more).last
        assert error["kind"] == "release"
        assert f"{copy}/model/model.skops is corrupted" in error["message"]
    assert not (side.home / "none").exists()


def test_a_full_disk_loses_nothing(side: ModelSide, mlp_project: str, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("A FILE SYSTEM TO FILL CANNOT BE MOUNTED HERE (it takes root)")
    try:
        request = {"project": mlp_project, "parameters": {"epochs": 1, "seed": 99}, "releases": str(small / "releases")}
        error = side.run("train", **request, work=str(tmp_path / "work")).last
        assert error["kind"] == "environment"
        assert "no space left on the disk" in error["message"]
        assert list(small.rglob("release.json")) == []
        assert list(small.rglob(".new-*")) == []
        # The finished epoch is kept, so that the next run, with room, only writes.
        request["releases"] = str(tmp_path / "releases")
        answer = side.run("train", **request, work=str(tmp_path / "work"))
        assert answer.epochs == []
        assert answer.path.is_dir()
    finally:
        subprocess.run(["umount", str(small)], check=True)


# --- real MNIST ---


@pytest.mark.mnist
def test_mnist_reaches_its_figures(side: ModelSide) -> None:
    """Trained on the first 8,000 images of MNIST's test split, tested on the last 2,000."""
    if not MNIST.is_dir():
        pytest.skip(f"MNIST IS NOT AT {MNIST}")
    data = {
        "source": "idx",
        "images": str(MNIST / "t10k-images-idx3-ubyte.gz"),
        "images_sha256": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "labels": str(MNIST / "t10k-labels-idx1-ubyte.gz"),
        "labels_sha256": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        "test": 2000,
    }
    request = {"project": str(EXAMPLES / "digits"), "data": data, **side.stores("mnist")}
    trained = side.run("train", **request, parameters={"epochs": 6, "batch_size": 64})
    assert trained.manifest["metrics"]["samples"] == 2000
    assert trained.manifest["metrics"]["accuracy"] >= 0.975
    small = side.run("compress", **request, release=str(trained.path), methods=["quantize"])
    assert abs(small.manifest["compression"]["accuracy_drop"]) <= 0.005
    assert small.manifest["compression"]["size_ratio"] <= 0.30
