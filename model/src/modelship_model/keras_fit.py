# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fitting Keras models epoch by epoch, each epoch's end a place to go on from after a kill."""

from __future__ import annotations

import io
import json
import math
import os
import typing as t

from . import keras_models
from .data import Dataset
from .errors import ModelError, blame_project
from .events import Epochs, Events
from .files import write_atomic


def fit(
    model: keras_models.Model,
    data: Dataset,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    events: Events,
    phase: str = "train",
    root: str = "",
    checkpoint: str | None = None,
    targets: tuple[t.Any, t.Any] | None = None,
    before_epoch: t.Callable[[int], None] | None = None,
) -> list[dict[str, t.Any]]:
    """Fit a compiled *model* in place and return its curves.

    Each epoch's order of samples depends on the seed and the epoch's number alone, and a checkpoint holds everything
    else that training depends on (weights, seed generators, the optimizer's state), so that a killed and resumed
    training ends with the very weights of one that ran through.

    :param root: the project's folder, whose frames a traceback keeps.
    :param checkpoint: file to write after each epoch and to go on from, or ``None``.
    :param targets: what to learn and test on instead of the class numbers: one row a training sample, one a test sample.
    :param before_epoch: called with the epoch's number (from 1) before it.
    :raises ModelError: the loss is no number any more, or the model's code raises (kind ``project``).
    """
    import keras
    import numpy as np

    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    done = _restore(checkpoint, variables, epochs) if checkpoint else []
    if done:
        events.stage(f"resumed after epoch {len(done)} of {epochs}")
    report = Epochs(events, phase, epochs, done)
    wanted, test_wanted = targets or (data.y_train, data.y_test)
    for epoch in range(len(done), epochs):
        if before_epoch:
            before_epoch(epoch + 1)
        order = np.random.default_rng([seed, epoch]).permutation(len(data.x_train))
        with blame_project(root, f"training in epoch {epoch + 1}"):
            history = model.fit(
                data.x_train[order],
                wanted[order],
                batch_size=batch_size,
                initial_epoch=epoch,
                epochs=epoch + 1,
                shuffle=False,
                verbose=0,
                callbacks=[keras.callbacks.TerminateOnNaN()],
                validation_data=(data.x_test, test_wanted),
            ).history
        logs = {_plain(name): float(values[-1]) for name, values in history.items()}
        if not math.isfinite(logs.get("loss", math.nan)):
            raise ModelError(
                "project",
                f"the loss became {logs.get('loss')} in epoch {epoch + 1}: lower the learning rate or check the data",
            )
        report.record(epoch + 1, logs)
        if checkpoint:
            _keep(checkpoint, variables, report.curves)
        report.tell()
    return report.curves


def _plain(name: str) -> str:
    """Name metrics as the events do: Keras calls accuracy by the name it was compiled with."""
    prefix = "val_" if name.startswith("val_") else ""
    bare = name.removeprefix("val_")
    return prefix + ("accuracy" if bare in ("acc", "sparse_categorical_accuracy", "categorical_accuracy") else bare)


def _keep(path: str, variables: list[t.Any], curves: list[dict[str, t.Any]]) -> None:
    import numpy as np

    arrays = {f"v{index}": variable.numpy() for index, variable in enumerate(variables)}
    buffer = io.BytesIO()
    np.savez(buffer, curves=np.frombuffer(json.dumps(curves).encode(), dtype=np.uint8), **arrays)
    write_atomic(path, buffer.getvalue())


def _restore(path: str, variables: list[t.Any], epochs: int) -> list[dict[str, t.Any]]:
    """Put a checkpoint's values into *variables* and return its curves; none, where it does not fit."""
    import numpy as np

    if not os.path.exists(path):
        return []
    try:
        with np.load(path, allow_pickle=False) as archive:
            curves = t.cast(list[dict[str, t.Any]], json.loads(archive["curves"].tobytes()))
            arrays = [archive[f"v{index}"] for index in range(len(archive.files) - 1)]
    except Exception:  # noqa: BLE001 - whatever is wrong with it, training anew is right
        return []
    fits = len(arrays) == len(variables) and all(
        tuple(variable.shape) == array.shape for variable, array in zip(variables, arrays, strict=True)
    )
    if not fits or len(curves) > epochs:
        return []
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return curves
