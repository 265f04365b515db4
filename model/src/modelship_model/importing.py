# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``import`` command: a model that somebody else trained becomes a release."""

from __future__ import annotations

import os
import shutil
import typing as t

from .baseline import baseline_of
from .data import load_samples, reshaped
from .errors import ModelError
from .events import Events
from .golden import FILE as GOLDEN
from .hashing import sha256_bytes, sha256_json, tree_files
from .inspection import check_keras
from .metrics import accuracy_and_loss, check_probabilities, golden_set
from .planning import Plan, plan_import
from .predictors import LitertPredictor, OnnxPredictor, Predictor, check_batch
from .release import Draft, find_release
from .request import optional, required

if t.TYPE_CHECKING:
    from .data import Floats

OUTPUT_NAME = "probabilities"


class Opened(t.NamedTuple):
    """A foreign model, opened.

    :param shape: of one sample; :param names: of its input and output where the format fixes them, else ``None``.
    :param classes: number of classes where the model tells, else ``None``.
    """

    predictor: Predictor
    shape: tuple[int, ...]
    names: tuple[str, str] | None
    weights: str
    classes: int | None = None
    labels: list[str] | None = None


class Prepared(t.NamedTuple):
    """A foreign model that passed every check, with its outputs for the given samples."""

    path: str
    form: str
    opened: Opened
    samples: Floats
    outputs: Floats
    signature: dict[str, t.Any]
    metrics: dict[str, t.Any]


def run(request: dict[str, t.Any], events: Events) -> dict[str, t.Any]:
    """Run the ``import`` command (docs/formats.md)."""
    plan = plan_import(request)
    releases = required(request, "releases", str)
    existing = find_release(releases, plan.name, plan.inputs["digest"])
    if existing:
        return {"release": existing}
    plan.check_libraries()
    made = _prepare(request, plan, events)
    (given,), (output,) = made.signature["inputs"], made.signature["outputs"]
    events.stage("writing the release")
    with Draft(releases, plan.name) as draft:
        file = f"model/{FILES[made.form]}"
        if made.form == "savedmodel":
            shutil.copytree(made.path, draft.path(file))
        else:
            shutil.copyfile(made.path, draft.path(file))
        golden = golden_set(made.samples, made.outputs, given["name"], output["name"], made.opened.predictor)
        draft.write_bytes(GOLDEN, golden.encode())
        draft.write_json("curves.json", {"epochs": []})
        if baseline := baseline_of(made.samples, made.outputs, made.signature):
            draft.write_json("baseline.json", baseline)
        release = draft.publish(
            {
                "name": plan.name,
                "kind": "import",
                "framework": {"skops": "sklearn", "savedmodel": "keras"}.get(made.form, made.form),
                "inputs": plan.inputs,
                "git": {"commit": None, "dirty": False},
                "parameters": {},
                "metrics": made.metrics,
                "signature": made.signature,
                "model": {
                    "format": made.form,
                    "path": file,
                    "size": _size(draft.path(file)),
                    "weights": made.opened.weights,
                },
            }
        )
    return {"release": release}


def check(request: dict[str, t.Any], events: Events) -> None:
    """Open the model, run it on the samples and check all that ``import`` checks; nothing is written.

    :raises ModelError: what ``import`` would raise.
    """
    _prepare(request, plan_import(request), events)


def _prepare(request: dict[str, t.Any], plan: Plan, events: Events) -> Prepared:
    """:raises ModelError: the model, its samples or what is said about them cannot make a release."""
    path, form = os.path.abspath(request["model"]), plan.inputs["options"]["format"]
    events.stage(f"opening {os.path.basename(path)} ({form})")
    opened = OPENERS[form](path)
    name, limits = _input(optional(request, "input", dict) or {}, opened)
    samples, classes = load_samples(request["samples"], None, limits, None)
    x = reshaped(samples, opened.shape, "the model takes")
    events.stage(f"running the model on {len(x)} samples")
    answers = opened.predictor(x)
    if len(answers) != len(x):
        raise ModelError(
            "release",
            f"the model {path} returns {len(answers)} results for {len(x)} samples: export it so that it returns one a sample",
        )
    labels = _labels(optional(request, "labels", list), opened, answers)
    check_probabilities(answers, len(labels), f"the model {path}", "release")
    metrics: dict[str, t.Any] = {"samples": len(x)}
    if classes is not None:
        if len(classes) and int(classes.max()) >= len(labels):
            raise ModelError("data", f"y holds the class {int(classes.max())}, but there are {len(labels)} labels")
        accuracy, loss = accuracy_and_loss(answers, classes)
        metrics = {"accuracy": accuracy, "loss": loss, "samples": len(x)}
    given: dict[str, t.Any] = {"name": name, "dtype": "float32", "shape": [-1, *opened.shape]}
    if limits is not None:
        given["range"] = list(limits)
    wanted = optional(request, "output", dict) or {}
    _known("output", wanted, ("name",))
    output = _name("output", wanted, opened.names and opened.names[1], OUTPUT_NAME)
    answer = {"name": output, "dtype": "float32", "shape": [-1, len(labels)]}
    signature = {"inputs": [given], "outputs": [answer], "labels": labels}
    return Prepared(path, form, opened, x, answers, signature, metrics)


FILES = {
    "keras": "model.keras",
    "savedmodel": "savedmodel",
    "litert": "model.tflite",
    "onnx": "model.onnx",
    "skops": "model.skops",
}


def _open_keras(path: str) -> Opened:
    from . import keras_models

    check_keras(path)
    keras_models.start(0)
    model = keras_models.load(
        path, "a custom layer cannot be imported: export the model with model.export() and import that"
    )
    try:
        shape = keras_models.sample_shape(model)
    except ModelError as exc:
        raise ModelError("release", f"{path}: {exc.message}") from exc
    return Opened(lambda x: keras_models.predict(model, x), shape, None, keras_models.weights_digest(model))


def _open_savedmodel(path: str) -> Opened:
    from . import keras_models

    keras_models.start(0)
    function = keras_models.load_saved_model(path)
    inputs, outputs = function.structured_input_signature[1], function.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            "release", f"{path} has {len(inputs)} inputs and {len(outputs)} outputs: one of each is supported"
        )
    spec = next(iter(inputs.values()))
    keras_models.saved_model_batch(function)
    shape = _fixed(path, list(spec.shape)[1:] if spec.shape.rank else [])
    if spec.dtype.name != "float32":
        raise ModelError("release", f"the input of {path} is {spec.dtype.name}: only float32 is supported")
    digest = sha256_json(tree_files(path))
    return Opened(lambda x: keras_models.call_saved_model(function, x), shape, None, digest)


def _open_litert(path: str) -> Opened:
    with open(path, "rb") as stream:
        content = stream.read()
    predictor = LitertPredictor(content)
    if len(predictor.inputs) != 1 or len(predictor.outputs) != 1:
        message = (
            f"{path} has {len(predictor.inputs)} inputs and {len(predictor.outputs)} outputs: one of each is supported"
        )
        raise ModelError("release", message)
    for detail in (*predictor.inputs, *predictor.outputs):
        if detail["dtype"].__name__ != "float32":
            raise ModelError(
                "release",
                f"{path}: '{detail['name']}' is {detail['dtype'].__name__}: convert the model with float32 input and output "
                "(its inside may be integers)",
            )
    names = (predictor.inputs[0]["name"], predictor.outputs[0]["name"])
    for signature in predictor.signatures().values():
        names = (signature["inputs"][0], signature["outputs"][0])
    sizes = [int(size) for size in predictor.inputs[0]["shape_signature"]]
    check_batch(sizes[0] if sizes else None, f"the input '{names[0]}' of {path}")
    return Opened(predictor, _fixed(path, [*sizes[1:]]), names, sha256_bytes(content))


def _open_onnx(path: str) -> Opened:
    from . import onnx_models

    with open(path, "rb") as stream:
        content = stream.read()
    graph = onnx_models.parse(content, path).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [item for item in graph.input if item.name not in weights]
    # A classifier of skl2onnx also answers the label (an integer tensor): the probabilities are what is float.
    outputs = [item for item in graph.output if item.type.tensor_type.elem_type == 1]
    if len(inputs) != 1 or len(outputs) != 1:
        zipped = any(node.op_type == "ZipMap" for node in graph.node)
        raise ModelError(
            "release",
            f"{path} has {len(inputs)} inputs and {len(outputs)} float32 tensor outputs: one of each is supported"
            + (
                "; it was made by skl2onnx, whose option zipmap=False makes its probabilities a tensor"
                if zipped
                else ""
            ),
        )
    if inputs[0].type.tensor_type.elem_type != 1:
        raise ModelError(
            "release", f"the input '{inputs[0].name}' of {path} is not float32: export the model with float32 input"
        )
    first, *sizes = [size.dim_value or None for size in inputs[0].type.tensor_type.shape.dim] or [None]
    check_batch(first, f"the input '{inputs[0].name}' of {path}")
    names = (inputs[0].name, outputs[0].name)
    return Opened(OnnxPredictor(content, names[1]), _fixed(path, sizes), names, onnx_models.weights_digest(content))


def _open_skops(path: str) -> Opened:
    from . import sklearn_models

    estimator = sklearn_models.load(path)
    features = getattr(estimator, "n_features_in_", None)
    classes = getattr(estimator, "classes_", None)
    if features is None or classes is None:
        raise ModelError(
            "release",
            f"{path} holds a {type(estimator).__name__} that is not a fitted classifier: fit it, then save it with skops.io.dump",
        )
    with open(path, "rb") as stream:
        digest = sha256_bytes(stream.read())
    labels = [str(label) for label in classes.tolist()]
    return Opened(lambda x: sklearn_models.predict(estimator, x), (int(features),), None, digest, len(labels), labels)


OPENERS: dict[str, t.Callable[[str], Opened]] = {
    "keras": _open_keras,
    "savedmodel": _open_savedmodel,
    "litert": _open_litert,
    "onnx": _open_onnx,
    "skops": _open_skops,
}


def _fixed(path: str, sizes: list[int | None]) -> tuple[int, ...]:
    if not sizes:
        raise ModelError(
            "release",
            f"the input of {path} has no axis but the batch's: export the model with one for what a sample holds",
        )
    if any(size is None or size < 1 for size in sizes):
        shown = [-1 if size is None else size for size in sizes]
        raise ModelError(
            "release",
            f"the input of {path} has the open shape {shown}: export the model with every size but the batch's fixed",
        )
    return tuple(int(size) for size in sizes if size is not None)


def _input(entry: dict[str, t.Any], opened: Opened) -> tuple[str, tuple[float, float] | None]:
    _known("input", entry, ("name", "range"))
    limits = entry.get("range")
    if limits is not None:
        numbers = isinstance(limits, list) and len(limits) == 2 and all(isinstance(end, (int, float)) for end in limits)
        if not numbers or limits[0] >= limits[1]:
            raise ModelError("request", f"input.range must be [lowest, highest], not {limits!r}")
        limits = (limits[0], limits[1])
    return _name("input", entry, opened.names and opened.names[0], "image"), limits


def _known(what: str, entry: dict[str, t.Any], known: tuple[str, ...]) -> None:
    for key in entry:
        if key not in known:
            raise ModelError("request", f"{what}: unknown key '{key}'; known: {', '.join(known)}")


def _name(what: str, entry: dict[str, t.Any], own: str | None, default: str) -> str:
    """Return the name of the input or output: the model's *own* where its format fixes one, else what was asked for."""
    name = entry.get("name")
    if own is None:
        return str(name or default)
    if name not in (None, own):
        raise ModelError("request", f"{what}.name: the model calls its {what} '{own}', not '{name}': leave it out")
    return own


def _labels(given: list[t.Any] | None, opened: Opened, answers: Floats) -> list[str]:
    count = opened.classes or (answers.shape[1] if answers.ndim == 2 else 0)
    if given is None:
        return opened.labels or [str(index) for index in range(count)]
    if len(given) != count:
        raise ModelError("request", f"labels names {len(given)} labels, but the model answers {count} classes")
    return [str(label) for label in given]


def _size(path: str) -> int:
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(place, name)) for place, _unused, names in os.walk(path) for name in names)
