# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``train`` command: a model project and data become a release."""

from __future__ import annotations

import os
import shutil
import typing as t

from .baseline import baseline_of
from .data import Dataset, load_dataset
from .errors import ModelError, blame_project
from .events import Events
from .files import locked
from .git import git_state
from .golden import FILE as GOLDEN
from .metrics import accuracy_and_loss, check_probabilities, golden_set
from .planning import Plan, plan_train
from .project import Project, load_code, project_function
from .release import Draft, find_release
from .request import required

if t.TYPE_CHECKING:
    from .data import Floats

OUTPUT_NAME = "probabilities"


class Trained(t.NamedTuple):
    """What a framework's training hands back.

    :param save: writes the model to a path; :param answers: the model's answers to the test samples.
    """

    format: str
    file: str
    save: t.Callable[[str], None]
    weights: str
    answers: Floats
    curves: list[dict[str, t.Any]]


def run(request: dict[str, t.Any], events: Events) -> dict[str, t.Any]:
    """Answer the ``train`` command (docs/formats.md)."""
    plan = plan_train(request)
    releases, work = required(request, "releases", str), os.path.abspath(required(request, "work", str))
    existing = find_release(releases, plan.name, plan.inputs["digest"])
    if existing:
        return {"release": existing}
    plan.check_libraries()
    project = t.cast(Project, plan.project)
    whole_parameters(plan, project)
    folder = os.path.join(work, plan.inputs["digest"].removeprefix("sha256:"))
    with locked(os.path.join(folder, "lock"), "training these very inputs"):
        release = _train(plan, project, releases, work, folder, events)
    shutil.rmtree(folder, ignore_errors=True)
    return {"release": release}


def check(request: dict[str, t.Any], events: Events) -> None:
    """Check the data as ``train`` does; nothing is written, downloaded or run of the project's code.

    :raises ModelError: what ``train`` would raise.
    """
    plan = plan_train(request)
    project = t.cast(Project, plan.project)
    assert plan.data is not None, "plan_train() always reads the data's description"
    whole_parameters(plan, project)
    if plan.data.local:
        events.stage(f"loading data ({plan.data.source})")
        count = len(project.labels) if project.labels else None
        load_dataset(plan.data, project, plan.parameters, "", count)


def _train(plan: Plan, project: Project, releases: str, work: str, folder: str, events: Events) -> dict[str, t.Any]:
    assert plan.data is not None, "plan_train() always reads the data's description"
    events.stage(f"loading data ({plan.data.source})")
    count = len(project.labels) if project.labels else None
    data = load_dataset(plan.data, project, plan.parameters, os.path.join(work, "data"), count)
    signature, labels = signature_of(project, data)
    if project.framework == "keras":
        trained = _train_keras(plan, project, data, signature, folder, events)
    else:
        from .sklearn_fit import train_sklearn

        trained = train_sklearn(plan, project, data, signature, folder, events)
    check_probabilities(trained.answers, len(labels), "the trained model")
    accuracy, loss = accuracy_and_loss(trained.answers, data.y_test)
    events.stage(f"accuracy {accuracy:.4f} on {len(data.y_test)} test samples; writing the release")
    with Draft(releases, project.name) as draft:
        file = f"model/{trained.file}"
        trained.save(draft.path(file))
        (given,), (answer,) = signature["inputs"], signature["outputs"]
        x = data.x_test.reshape(len(data.x_test), *given["shape"][1:])
        draft.write_bytes(GOLDEN, golden_set(x, trained.answers, given["name"], answer["name"]).encode())
        draft.write_json("curves.json", {"epochs": trained.curves})
        learned = data.x_train.reshape(len(data.x_train), *given["shape"][1:])
        if baseline := baseline_of(learned, trained.answers, signature):
            draft.write_json("baseline.json", baseline)
        return draft.publish(
            {
                "name": project.name,
                "kind": "train",
                "framework": project.framework,
                "inputs": plan.inputs,
                "git": git_state(project.root),
                "parameters": plan.parameters,
                "metrics": {"accuracy": accuracy, "loss": loss, "samples": len(data.y_test)},
                "signature": signature,
                "model": {
                    "format": trained.format,
                    "path": file,
                    "size": os.path.getsize(draft.path(file)),
                    "weights": trained.weights,
                },
            }
        )


def signature_of(project: Project, data: Dataset) -> tuple[dict[str, t.Any], list[str]]:
    """Return the signature that the project's model is to have, and the labels.

    scikit-learn takes one row of features a sample, so its input is flat.
    """
    labels = list(project.labels or map(str, range(1 + int(max(data.y_train.max(), data.y_test.max())))))
    shape = list(data.x_train.shape[1:])
    if project.framework == "sklearn":
        shape = [int(data.x_train[0].size)]
    given: dict[str, t.Any] = {"name": project.input_name, "dtype": "float32", "shape": [-1, *shape]}
    if project.input_range is not None:
        given["range"] = list(project.input_range)
    answer = {"name": OUTPUT_NAME, "dtype": "float32", "shape": [-1, len(labels)]}
    return {"inputs": [given], "outputs": [answer], "labels": labels}, labels


def whole_parameter(plan: Plan, name: str, default: int) -> int:
    """Return the parameter *name* as a whole number of at least 1.

    :raises ModelError: it is not (kind ``parameter``).
    """
    value = plan.parameters.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ModelError("parameter", f"parameter '{name}' must be a whole number of at least 1, not {value!r}")
    return value


def whole_parameters(plan: Plan, project: Project) -> None:
    """Check the parameters that the training itself reads, before data is loaded.

    :raises ModelError: one is wrong (kind ``parameter``).
    """
    seed_of(plan)
    if project.framework == "keras":
        whole_parameter(plan, "epochs", 10)
        whole_parameter(plan, "batch_size", 32)


def seed_of(plan: Plan) -> int:
    """Return the parameter ``seed``, 42 where the project has none."""
    value = plan.parameters.get("seed", 42)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ModelError("parameter", f"parameter 'seed' must be a whole number of at least 0, not {value!r}")
    return value


def _train_keras(
    plan: Plan, project: Project, data: Dataset, signature: dict[str, t.Any], folder: str, events: Events
) -> Trained:
    epochs, batch_size, seed = (
        whole_parameter(plan, "epochs", 10),
        whole_parameter(plan, "batch_size", 32),
        seed_of(plan),
    )
    events.stage("starting TensorFlow")
    from . import keras_fit, keras_models

    keras_models.start(seed)
    build = project_function(project, load_code(project), "build")
    with blame_project(project.root, "build()"):
        model = build(dict(plan.parameters), {**signature, "samples": len(data.x_train)})
    check_keras_model(model, signature, "build()")
    if getattr(model, "optimizer", None) is None:
        raise ModelError("project", "build() returned a model that is not compiled: end it with model.compile(...)")
    with blame_project(project.root, "the model's first call"):
        check_probabilities(
            keras_models.predict(model, data.x_test[:8]), len(signature["labels"]), "the model of build()"
        )
    events.stage(f"training on {len(data.x_train)} samples, {epochs} epochs")
    curves = keras_fit.fit(
        model,
        data,
        epochs=epochs,
        batch_size=batch_size,
        seed=seed,
        events=events,
        root=project.root,
        checkpoint=os.path.join(folder, "checkpoint.npz"),
    )
    answers = keras_models.predict(model, data.x_test)
    digest = keras_models.weights_digest(model)
    return Trained("keras", "model.keras", lambda path: keras_models.save(model, path), digest, answers, curves)


def check_keras_model(model: t.Any, signature: dict[str, t.Any], function: str) -> None:
    """Check that *function* returned a Keras model that takes the signature's samples.

    :raises ModelError: it did not (kind ``project``).
    """
    import keras

    from .keras_models import sample_shape

    if not isinstance(model, keras.Model):
        raise ModelError("project", f"{function} must return a keras.Model, not {type(model).__name__}")
    shape, wanted = sample_shape(model), tuple(signature["inputs"][0]["shape"][1:])
    if shape != wanted:
        raise ModelError(
            "project",
            f"the model of {function} takes samples of shape {list(shape)}, but the data has {list(wanted)}: "
            "begin it with keras.Input(signature['inputs'][0]['shape'][1:])",
        )
