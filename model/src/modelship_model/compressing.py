# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``compress`` command: a release becomes one in a format that can be served, smaller where methods say so."""

from __future__ import annotations

import gzip
import os
import typing as t

from .baseline import baseline_of, inputs_of
from .data import Dataset, load_dataset, load_samples
from .errors import ModelError, NotApplicable, blame_project
from .events import Events
from .files import locked
from .golden import FILE as GOLDEN
from .metrics import accuracy_and_loss, check_probabilities, golden_set
from .planning import Plan, plan_compress
from .predictors import LitertPredictor, OnnxPredictor, Predictor, fit_samples
from .project import Project, load_code, project_function
from .release import Draft, Manifest, find_release, model_path, read_json
from .request import required
from .training import check_keras_model

FILES = {"litert": "model/model.tflite", "onnx": "model/model.onnx"}


class Compressed(t.NamedTuple):
    """The outcome of the methods.

    :param reference: the parent converted to the same format and nothing else; :param content: the compressed model.
    :param sparsity: share of zero weights that pruning left, or ``None`` where it did not run.
    :param skipped: methods that do not apply to this model -> why; the release is made without them.
    """

    format: str
    reference: bytes
    content: bytes
    curves: list[dict[str, t.Any]]
    sparsity: float | None
    skipped: dict[str, str]


def run(request: dict[str, t.Any], events: Events) -> dict[str, t.Any]:
    """Run the ``compress`` command (docs/formats.md)."""
    plan = plan_compress(request)
    releases, work = required(request, "releases", str), os.path.abspath(required(request, "work", str))
    existing = find_release(releases, plan.name, plan.inputs["digest"])
    if existing:
        return {"release": existing}
    plan.check_libraries()
    parent = t.cast(Manifest, plan.parent)
    data = _data(request, plan, parent, work, events)
    lock = os.path.join(work, plan.inputs["digest"].removeprefix("sha256:") + ".lock")
    with locked(lock, "compressing these very inputs"):
        try:
            compressed = _compress(plan, parent, request["release"], data, events)
            return {"release": _publish(plan, parent, request["release"], releases, compressed, data, events)}
        finally:
            os.unlink(lock)


def check(request: dict[str, t.Any], events: Events) -> None:
    """Check all that ``compress`` checks before it converts; nothing is written and no code of the project runs.

    :raises ModelError: what ``compress`` would raise.
    """
    plan = plan_compress(request)
    parent = t.cast(Manifest, plan.parent)
    if request.get("samples") or (plan.data is not None and plan.data.local):
        _data(request, plan, parent, os.path.abspath(required(request, "work", str)), events)
    if "prune" in plan.methods and parent["model"]["format"] == "skops":
        from .sklearn_fit import check_prunable
        from .sklearn_models import load

        check_prunable(load(model_path(request["release"], parent)))


def _data(request: dict[str, t.Any], plan: Plan, parent: Manifest, work: str, events: Events) -> Dataset:
    """Load what to calibrate, tune and judge with; given samples serve as both parts.

    Samples without labels suffice where nothing learns from them: ``y_train`` and ``y_test`` are empty then.
    """
    import numpy as np

    labels = parent["signature"]["labels"]
    events.stage("loading data")
    if request.get("samples"):
        limits = parent["signature"]["inputs"][0].get("range")
        x, y = load_samples(request["samples"], None, tuple(limits) if limits else None, len(labels))
        learning = [method for method in plan.methods if method in ("distill", "prune")]
        if y is None and learning:
            raise ModelError(
                "data",
                f"{request['samples']} holds no array 'y', which {learning[0]} learns from: add the class numbers, or leave "
                f"{learning[0]} out of methods",
            )
        y = np.zeros(0, dtype=np.int64) if y is None else y
        data = Dataset(x, y, x, y)
    else:
        assert plan.project is not None, "plan_compress() asks for a project or samples"
        assert plan.data is not None, "a project always describes its data"
        data = load_dataset(plan.data, plan.project, plan.parameters, os.path.join(work, "data"), len(labels))
    return Dataset(fit_samples(data.x_train, parent), data.y_train, fit_samples(data.x_test, parent), data.y_test)


def _compress(plan: Plan, parent: Manifest, release: str, data: Dataset, events: Events) -> Compressed:
    path, form = model_path(release, parent), parent["model"]["format"]
    options = plan.inputs["options"]
    curves: list[dict[str, t.Any]] = []
    sparsity: float | None = None
    if form in ("skops", "onnx"):
        reference = _onnx(path, form, parent, events)
        content = reference
        if "prune" in plan.methods:
            from .sklearn_fit import prune_estimator
            from .sklearn_models import load, to_onnx

            estimator = load(path)
            curves, sparsity = prune_estimator(estimator, data, options, events)
            content = to_onnx(estimator, parent["signature"])
        small, skipped = _smaller("onnx", content, plan, parent, data, events)
        return Compressed("onnx", reference, small, curves, sparsity, skipped)
    if form == "keras":
        reference, content, curves, sparsity = _tuned_litert(plan, parent, path, data, events)
    elif form == "savedmodel":
        from . import keras_models

        events.stage("converting to LiteRT")
        keras_models.start(0)
        reference = content = keras_models.saved_model_to_litert(path, parent["signature"])
    else:
        with open(path, "rb") as stream:
            reference = content = stream.read()
    small, skipped = _smaller("litert", content, plan, parent, data, events)
    return Compressed("litert", reference, small, curves, sparsity, skipped)


def _tuned_litert(
    plan: Plan, parent: Manifest, path: str, data: Dataset, events: Events
) -> tuple[bytes, bytes, list[dict[str, t.Any]], float | None]:
    """Distill and prune as asked; return the parent and the outcome as LiteRT float32, with curves and sparsity."""
    events.stage("starting TensorFlow")
    from . import keras_models, tuning

    options, signature = plan.inputs["options"], parent["signature"]
    keras_models.start(int(options.get("seed", 0)))
    # The project's code is imported for its custom layers, and for student().
    code = load_code(plan.project) if plan.project and plan.project.framework == "keras" else None
    model = keras_models.load(path)
    events.stage("converting to LiteRT")
    reference = keras_models.to_litert(model, signature)
    curves: list[dict[str, t.Any]] = []
    if "distill" in plan.methods:
        assert code is not None, "plan_compress() asks for a project where distill is named"
        project = t.cast(Project, plan.project)
        events.stage(f"distilling into the project's student(), {options['distill_epochs']} epochs")
        make = project_function(project, code, "student")
        with blame_project(project.root, "student()"):
            student = make(dict(plan.parameters), {**signature, "samples": len(data.x_train)})
        check_keras_model(student, signature, "student()")
        answers = keras_models.predict(model, data.x_train), keras_models.predict(model, data.x_test)
        model, rows = tuning.distill(student, answers, data, options, events)
        curves += rows
    sparsity = None
    if "prune" in plan.methods:
        events.stage(f"pruning to {options['sparsity']:.0%} zeros, {options['prune_epochs']} epochs of fine-tuning")
        model, rows = tuning.prune(model, data, options, events)
        curves += rows
        sparsity = round(tuning.sparsity_of(model), 4)
    return reference, keras_models.to_litert(model, signature) if curves else reference, curves, sparsity


def _onnx(path: str, form: str, parent: Manifest, events: Events) -> bytes:
    if form == "onnx":
        with open(path, "rb") as stream:
            return stream.read()
    from .sklearn_models import load, to_onnx

    events.stage("converting to ONNX")
    return to_onnx(load(path), parent["signature"])


def _smaller(
    form: str, content: bytes, plan: Plan, parent: Manifest, data: Dataset, events: Events
) -> tuple[bytes, dict[str, str]]:
    """Quantize the model or make it float16, as asked.

    :returns: the model, and the methods that do not apply to it -> why; it is returned as it was then. A method does not
        apply where its tool does not support the model, where the outcome cannot be run, or where it is no smaller.
    """
    for method in ("quantize", "float16"):
        if method not in plan.methods:
            continue
        try:
            made = _with_method(method, form, content, plan, data, events)
            _check_useful(form, content, made, parent, data)
        except NotApplicable as exc:
            detail = f" ({exc.detail})" if exc.detail else ""
            events.stage(f"{method} skipped: {exc.reason}{detail}")
            return content, {method: exc.reason}
        return made, {}
    return content, {}


def _with_method(method: str, form: str, content: bytes, plan: Plan, data: Dataset, events: Events) -> bytes:
    from . import litert_models, onnx_models

    if method == "float16":
        events.stage("converting to float16")
        return litert_models.to_float16(content) if form == "litert" else onnx_models.to_float16(content)
    if form == "onnx":
        events.stage("quantizing to int8")
        return onnx_models.quantize_int8(content)
    count = int(plan.inputs["options"]["calibration_samples"])
    events.stage(f"quantizing to int8, calibrated on {min(count, len(data.x_train))} samples")
    return litert_models.quantize_int8(content, data.x_train[:count])


def _check_useful(form: str, content: bytes, made: bytes, parent: Manifest, data: Dataset) -> None:
    """:raises NotApplicable: the runtime cannot run the model *made* of *content*, or it is no smaller."""
    if len(made) >= len(content):
        raise NotApplicable(f"the model would not be smaller ({len(content)} bytes before, {len(made)} after)")
    try:
        _predictor(form, made, parent)(data.x_test[:1])
    except ModelError as exc:
        raise NotApplicable("the runtime cannot run the model it would become", exc.message) from exc


def _predictor(form: str, content: bytes, parent: Manifest) -> Predictor:
    if form == "litert":
        return LitertPredictor(content)
    return OnnxPredictor(content, parent["signature"]["outputs"][0]["name"])


def _publish(
    plan: Plan, parent: Manifest, release: str, releases: str, made: Compressed, data: Dataset, events: Events
) -> dict[str, t.Any]:
    signature = parent["signature"]
    events.stage("measuring accuracy before and after")
    predictor = _predictor(made.format, made.content, parent)
    answers = predictor(data.x_test)
    check_probabilities(answers, len(signature["labels"]), "the compressed model", "release")
    reference = _predictor(made.format, made.reference, parent)(data.x_test)
    metrics: dict[str, t.Any] = {"samples": len(data.x_test)}
    before: float | None = None
    drop: float | None = None
    change = "accuracy not measured (the samples hold no y)"
    if len(data.y_test):
        before, _loss = accuracy_and_loss(reference, data.y_test)
        accuracy, loss = accuracy_and_loss(answers, data.y_test)
        metrics = {"accuracy": accuracy, "loss": loss, "samples": len(data.y_test)}
        drop = round(before - accuracy, 6)
        change = f"accuracy {before:.4f} -> {accuracy:.4f}"
    compression: dict[str, t.Any] = {
        "methods": [method for method in plan.methods if method not in made.skipped],
        "parent_accuracy": before,
        "accuracy_drop": drop,
        "agreement": round(float((answers.argmax(axis=1) == reference.argmax(axis=1)).mean()), 6),
        "reference_size": len(made.reference),
        "size_ratio": round(len(made.content) / len(made.reference), 6),
        "gzip_size": len(gzip.compress(made.content, mtime=0)),
        "reference_gzip_size": len(gzip.compress(made.reference, mtime=0)),
    }
    if made.sparsity is not None:
        compression["sparsity"] = made.sparsity
    if made.skipped:
        compression["skipped"] = made.skipped
    events.stage(f"{change}, size {len(made.reference)} -> {len(made.content)} bytes; writing the release")
    with Draft(releases, plan.name) as draft:
        file = FILES[made.format]
        with open(draft.path(file), "wb") as stream:
            stream.write(made.content)
        (given,), (answer,) = signature["inputs"], signature["outputs"]
        draft.write_bytes(GOLDEN, golden_set(data.x_test, answers, given["name"], answer["name"], predictor).encode())
        curves = {"epochs": [], **(read_json(release, "curves.json") or {})}
        draft.write_json("curves.json", {**curves, "tuning": made.curves} if made.curves else curves)
        # The traffic is to look like what the parent learned from; the answers are to be those of this model.
        learned = inputs_of(read_json(release, "baseline.json"))
        if baseline := baseline_of(data.x_train, answers, signature, learned):
            draft.write_json("baseline.json", baseline)
        return draft.publish(
            {
                "name": plan.name,
                "kind": "compress",
                "framework": parent["framework"],
                "inputs": plan.inputs,
                "git": parent.get("git", {"commit": None, "dirty": False}),
                "parameters": parent["parameters"],
                "metrics": metrics,
                "signature": signature,
                "model": {
                    "format": made.format,
                    "path": file,
                    "size": len(made.content),
                    "weights": _weights_digest(made),
                },
                "compression": compression,
            }
        )


def _weights_digest(made: Compressed) -> str:
    """An ONNX model's initializers are its weights; of a LiteRT model the whole file is taken."""
    if made.format == "onnx":
        from .onnx_models import weights_digest

        return weights_digest(made.content)
    from .hashing import sha256_bytes

    return sha256_bytes(made.content)
