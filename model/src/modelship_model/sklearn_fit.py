# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fitting scikit-learn estimators: in epochs where they can learn in parts, else in one go."""

from __future__ import annotations

import json
import math
import os
import typing as t
import warnings

from . import sklearn_models
from .data import Dataset
from .errors import ModelError, blame_project
from .events import Epochs, Events
from .files import write_atomic
from .metrics import accuracy_and_loss
from .planning import Plan
from .project import Project, load_code, project_function
from .training import Trained, seed_of, whole_parameter

Estimator = t.Any
Curves = list[dict[str, t.Any]]


def train_sklearn(
    plan: Plan, project: Project, data: Dataset, signature: dict[str, t.Any], folder: str, events: Events
) -> Trained:
    """Build and fit the project's estimator.

    Where the project has the parameter ``epochs`` and the last step knows ``partial_fit``, each epoch is one call of it,
    so that progress shows and a killed training goes on; the steps before are fitted once. Else ``fit`` is called.

    :raises ModelError: the project's code raises, or what it returns is no classifier with probabilities.
    """
    events.stage("starting scikit-learn")
    warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
    build = project_function(project, load_code(project), "build")
    with blame_project(project.root, "build()"):
        estimator = build(dict(plan.parameters), {**signature, "samples": len(data.x_train)})
    if not hasattr(estimator, "fit") or not hasattr(estimator, "get_params"):
        raise ModelError("project", f"build() must return a scikit-learn estimator, not {type(estimator).__name__}")
    # Of the class: some have the method only once they are fitted.
    kind = type(sklearn_models.final_step(estimator))
    if not hasattr(kind, "predict_proba"):
        raise ModelError(
            "project", f"the {kind.__name__} of build() gives no probabilities: {sklearn_models.CALIBRATE}"
        )
    _seed(estimator, seed_of(plan))
    flat = Dataset(_rows(data.x_train), data.y_train, _rows(data.x_test), data.y_test)
    last = sklearn_models.final_step(estimator)
    if "epochs" in plan.parameters and hasattr(last, "partial_fit"):
        epochs = whole_parameter(plan, "epochs", 10)
        events.stage(f"training on {len(flat.x_train)} samples, {epochs} epochs")
        estimator, curves = _in_epochs(estimator, flat, signature, epochs, folder, project.root, events)
    else:
        events.stage(f"fitting on {len(flat.x_train)} samples")
        with blame_project(project.root, "fit()"):
            estimator.fit(flat.x_train, flat.y_train)
        curves = _loss_curve(sklearn_models.final_step(estimator))
    sklearn_models.check_class_order(estimator, len(signature["labels"]))
    forget_training(estimator)
    answers = sklearn_models.predict(estimator, flat.x_test)
    digest = sklearn_models.weights_digest(estimator, folder)
    return Trained("skops", "model.skops", lambda path: sklearn_models.save(estimator, path), digest, answers, curves)


def _in_epochs(
    estimator: Estimator,
    data: Dataset,
    signature: dict[str, t.Any],
    epochs: int,
    folder: str,
    root: str,
    events: Events,
) -> tuple[Estimator, Curves]:
    import numpy as np

    estimator, done = _restore(folder, estimator, epochs)
    if done:
        events.stage(f"resumed after epoch {len(done)} of {epochs}")
    report = Epochs(events, "train", epochs, done)
    classes = np.arange(len(signature["labels"]))
    with blame_project(root, "fitting the steps before the last"):
        x = _before_last(estimator, data.x_train, data.y_train, fit=not done)
        x_test = _before_last(estimator, data.x_test, None, fit=False)
    last = sklearn_models.final_step(estimator)
    for epoch in range(len(done), epochs):
        with blame_project(root, f"training in epoch {epoch + 1}"):
            last.partial_fit(x, data.y_train, classes=classes)
        report.record(epoch + 1, _logs(last, x, data.y_train, x_test, data.y_test))
        _keep(folder, estimator, report.curves)
        report.tell()
    return estimator, report.curves


def _before_last(estimator: Estimator, x: t.Any, y: t.Any, *, fit: bool) -> t.Any:
    """Send *x* through a pipeline's steps before the last, fitting each first where asked."""
    for _name, step in getattr(estimator, "steps", [])[:-1]:
        if step in (None, "passthrough"):
            continue
        x = step.fit_transform(x, y) if fit else step.transform(x)
    return x


def _logs(last: Estimator, x: t.Any, y: t.Any, x_test: t.Any, y_test: t.Any) -> dict[str, float]:
    accuracy, loss = accuracy_and_loss(last.predict_proba(x), y)
    val_accuracy, val_loss = accuracy_and_loss(last.predict_proba(x_test), y_test)
    loss = float(getattr(last, "loss_", loss))
    if not math.isfinite(loss):
        raise ModelError("project", f"the loss became {loss}: lower the learning rate or check the data")
    return {"loss": loss, "accuracy": accuracy, "val_loss": val_loss, "val_accuracy": val_accuracy}


def prune_estimator(
    estimator: Estimator, data: Dataset, options: dict[str, t.Any], events: Events
) -> tuple[Curves, float]:
    """Set the smallest weights of a multi-layer perceptron to zero and fine-tune the others, in place.

    :param options: as of :func:`modelship_model.tuning.prune`.
    :returns: curves, and the share of zeros reached.
    :raises ModelError: see :func:`check_prunable`.
    """
    import numpy as np

    last = check_prunable(estimator)
    epochs = int(options["prune_epochs"])
    events.stage(f"pruning to {options['sparsity']:.0%} zeros, {epochs} epochs of fine-tuning")
    x = _before_last(estimator, _rows(data.x_train), None, fit=False)
    x_test = _before_last(estimator, _rows(data.x_test), None, fit=False)
    last.set_params(
        learning_rate_init=float(options["prune_learning_rate"]), random_state=int(options["seed"]), warm_start=False
    )
    batch = int(options["tune_batch_size"])
    report = Epochs(events, "prune", epochs)
    for epoch in range(1, epochs + 1):
        sparsity = float(options["sparsity"]) * (1 - (1 - epoch / epochs) ** 3)
        masks = []
        for weights in last.coefs_:
            order = np.argsort(np.abs(weights), axis=None, kind="stable")
            mask = np.ones(weights.size, dtype=bool)
            mask[order[: round(weights.size * sparsity)]] = False
            masks.append(mask.reshape(weights.shape))
            weights *= masks[-1]
        shuffled = np.random.default_rng([int(options["seed"]), epoch]).permutation(len(x))
        for start in range(0, len(x), batch):
            part = shuffled[start : start + batch]
            last.partial_fit(x[part], data.y_train[part])
            for weights, mask in zip(last.coefs_, masks, strict=True):
                weights *= mask
        report.record(epoch, _logs(last, x, data.y_train, x_test, data.y_test))
        report.tell()
    forget_training(estimator)
    zeros = sum(int((weights == 0).sum()) for weights in last.coefs_) / sum(weights.size for weights in last.coefs_)
    return [{**row, "phase": "prune"} for row in report.curves], round(zeros, 4)


def check_prunable(estimator: Estimator) -> Estimator:
    """Return the last step of *estimator*, a multi-layer perceptron.

    :raises ModelError: it is another estimator (kind ``request``).
    """
    last = sklearn_models.final_step(estimator)
    if not hasattr(last, "coefs_") or not hasattr(last, "partial_fit"):
        raise ModelError(
            "request",
            f"prune works on MLPClassifier, this release ends in {type(last).__name__}: leave prune out of methods",
        )
    return last


def forget_training(estimator: Estimator) -> None:
    """Drop what only further training needs: the optimizer's state is twice the size of the weights."""
    last = sklearn_models.final_step(estimator)
    for name in ("_optimizer", "_random_state"):
        if hasattr(last, name):
            delattr(last, name)


def _loss_curve(last: Estimator) -> Curves:
    blank = {"accuracy": None, "val_loss": None, "val_accuracy": None}
    losses = getattr(last, "loss_curve_", [])
    return [{"epoch": index, "loss": round(float(loss), 6), **blank} for index, loss in enumerate(losses, 1)]


def _seed(estimator: Estimator, seed: int) -> None:
    """Seed each part that takes a seed and was given none."""
    for name, value in estimator.get_params(deep=True).items():
        if name.split("__")[-1] == "random_state" and value is None:
            estimator.set_params(**{name: seed})


def _rows(x: t.Any) -> t.Any:
    return x.reshape(len(x), -1)


def _keep(folder: str, estimator: Estimator, curves: Curves) -> None:
    """Keep the state after an epoch; the small file that names it is replaced last, so that a kill leaves the old pair."""
    import skops.io

    name = f"checkpoint-{len(curves)}.skops"
    write_atomic(os.path.join(folder, name), skops.io.dumps(estimator))
    write_atomic(os.path.join(folder, "checkpoint.json"), json.dumps(curves).encode())
    for other in os.listdir(folder):
        if other.startswith("checkpoint-") and other != name:
            os.unlink(os.path.join(folder, other))


def _restore(folder: str, fresh: Estimator, epochs: int) -> tuple[Estimator, Curves]:
    """Return the kept estimator and curves, or *fresh* and none."""
    try:
        with open(os.path.join(folder, "checkpoint.json"), "rb") as stream:
            curves: Curves = json.load(stream)
        estimator = sklearn_models.load(os.path.join(folder, f"checkpoint-{len(curves)}.skops"))
    except (OSError, ValueError, ModelError):
        return fresh, []
    if len(curves) > epochs or type(estimator) is not type(fresh):
        return fresh, []
    return estimator, curves
