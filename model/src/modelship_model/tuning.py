# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a Keras model smaller by further learning: magnitude pruning and distillation.

Own loops on Keras's public parts, since the library for it, tensorflow-model-optimization, still wraps Keras 2 models
only and refuses those of Keras 3.
"""

from __future__ import annotations

import typing as t

from .data import Dataset
from .events import Events
from .keras_fit import fit

if t.TYPE_CHECKING:
    from .data import Floats, Ints

Model = t.Any
Options = dict[str, t.Any]


def prune(model: Model, data: Dataset, options: Options, events: Events) -> tuple[Model, list[dict[str, t.Any]]]:
    """Set the smallest weights of each kernel to zero and fine-tune the others; return the model and its curves.

    Sparsity rises over the epochs as ``final * (1 - (1 - step/steps)^3)`` (Zhu and Gupta, "To prune, or not to prune",
    arXiv:1710.01878), so that the network can make up for each part it loses. The masks act as constraints, which
    Keras's optimizers apply after each update, inside the compiled step.

    :param options: ``sparsity`` (0..1), ``prune_epochs``, ``prune_learning_rate``, ``tune_batch_size``, ``seed``.
    """
    import keras
    import numpy as np

    kernels = [variable for variable in model.trainable_variables if len(variable.shape) > 1]
    masks = [keras.Variable(np.ones(kernel.shape, dtype="float32"), trainable=False) for kernel in kernels]
    for kernel, mask in zip(kernels, masks, strict=True):
        kernel.constraint = _Mask(mask)
    model.compile(
        keras.optimizers.Adam(float(options["prune_learning_rate"])),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    epochs = int(options["prune_epochs"])

    def raise_sparsity(epoch: int) -> None:
        sparsity = float(options["sparsity"]) * (1 - (1 - epoch / epochs) ** 3)
        for kernel, mask in zip(kernels, masks, strict=True):
            weights = np.abs(kernel.numpy())
            keep = np.ones(weights.size, dtype="float32")
            keep[np.argsort(weights, axis=None, kind="stable")[: round(weights.size * sparsity)]] = 0
            mask.assign(keep.reshape(weights.shape))
            kernel.assign(kernel.numpy() * mask.numpy())

    curves = fit(
        model,
        data,
        epochs=epochs,
        batch_size=int(options["tune_batch_size"]),
        seed=int(options["seed"]),
        events=events,
        phase="prune",
        before_epoch=raise_sparsity,
    )
    for kernel in kernels:
        kernel.constraint = None
    return model, [{**row, "phase": "prune"} for row in curves]


class _Mask:
    """Holds masked weights at zero."""

    def __init__(self, mask: t.Any) -> None:
        self._mask = mask

    def __call__(self, weights: t.Any) -> t.Any:
        return weights * self._mask


def sparsity_of(model: Model) -> float:
    """Return the share of zeros (0..1) in the kernels of *model*."""
    import numpy as np

    kernels = [variable.numpy() for variable in model.trainable_variables if len(variable.shape) > 1]
    return float(sum(np.sum(kernel == 0) for kernel in kernels) / max(1, sum(kernel.size for kernel in kernels)))


def distill(
    student: Model, answers: tuple[Floats, Floats], data: Dataset, options: Options, events: Events
) -> tuple[Model, list[dict[str, t.Any]]]:
    """Teach *student* the teacher's *answers*; return it with its curves.

    Loss: ``w * T^2 * KL(teacher_T || student_T) + (1 - w) * cross-entropy(class)``, both softened by the temperature T
    (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", arXiv:1503.02531).

    :param answers: to the training and to the test samples: float32 ``(n, classes)``, probabilities.
    :param options: ``temperature``, ``teacher_weight`` (0..1), ``distill_epochs``, ``distill_learning_rate``, …
    """
    import keras
    import numpy as np
    from keras import ops

    classes = answers[0].shape[1]
    temperature, weight = float(options["temperature"]), float(options["teacher_weight"])

    def soften(probabilities: t.Any) -> t.Any:
        # The logarithm of a softmax is its logits up to a constant, which a softmax does not see.
        return ops.softmax(ops.log(ops.clip(probabilities, 1e-7, 1.0)) / temperature, axis=-1)

    def loss(wanted: t.Any, given: t.Any) -> t.Any:
        teacher, truth = soften(wanted[:, :classes]), wanted[:, classes:]
        soft = ops.sum(teacher * (ops.log(teacher + 1e-7) - ops.log(soften(given) + 1e-7)), axis=-1)
        hard = -ops.sum(truth * ops.log(ops.clip(given, 1e-7, 1.0)), axis=-1)
        return weight * temperature**2 * soft + (1 - weight) * hard

    def accuracy(wanted: t.Any, given: t.Any) -> t.Any:
        return ops.cast(ops.argmax(wanted[:, classes:], axis=-1) == ops.argmax(given, axis=-1), "float32")

    def target(soft: Floats, truth: Ints) -> Floats:
        return np.concatenate([soft, np.eye(classes, dtype=np.float32)[truth]], axis=1)

    steps = int(options["distill_epochs"]) * -(-len(data.x_train) // int(options["tune_batch_size"]))
    rate = keras.optimizers.schedules.CosineDecay(float(options["distill_learning_rate"]), steps)
    student.compile(keras.optimizers.Adam(rate), loss=loss, metrics=[accuracy])
    curves = fit(
        student,
        data,
        epochs=int(options["distill_epochs"]),
        batch_size=int(options["tune_batch_size"]),
        seed=int(options["seed"]),
        events=events,
        phase="distill",
        targets=(target(answers[0], data.y_train), target(answers[1], data.y_test)),
    )
    return student, [{**row, "phase": "distill"} for row in curves]
