# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keras and TensorFlow: started deterministically, models saved and converted reproducibly."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import typing as t
import warnings
import zipfile

from .errors import ModelError, reason_of
from .files import write_zip
from .inspection import check_saved_model
from .predictors import check_batch

if t.TYPE_CHECKING:
    from .data import Floats

Model = t.Any
Signature = dict[str, t.Any]

#: What `.keras` files say about when they were saved.
_NO_DATE = "1970-01-01@00:00:00"


def start(seed: int) -> None:
    """Import TensorFlow quietly, seed everything and ask for deterministic kernels."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    warnings.filterwarnings("ignore", module="(keras|tensorflow|google)")
    import keras
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed % 2**32)


def sample_shape(model: Model) -> tuple[int, ...]:
    """Return the shape of one sample of *model*.

    :raises ModelError: it has not exactly one input and one output, or the input's size is open (kind ``project``).
    """
    inputs, outputs = getattr(model, "inputs", None) or [], getattr(model, "outputs", None) or []
    if not inputs:
        raise ModelError(
            "project",
            "the model's input shape is not known: begin the model with keras.Input and the shape of a sample",
        )
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(
            "project", f"the model has {len(inputs)} inputs and {len(outputs)} outputs: one of each is supported"
        )
    shape = tuple(inputs[0].shape)[1:]
    if not shape or any(size is None for size in shape):
        raise ModelError(
            "project",
            f"the model's input has the open shape {list(shape)}: give every size but the batch's to keras.Input",
        )
    batch_size(model)
    return t.cast(tuple[int, ...], shape)


def batch_size(model: Model) -> int | None:
    """Return the number of samples *model* takes at once: 1, or ``None`` for any number.

    :raises ModelError: it is fixed to more than one (kind ``release``).
    """
    return check_batch(model.inputs[0].shape[0], "the model's input")


def save(model: Model, path: str) -> None:
    """Save *model* without its optimizer, such that equal models make equal bytes."""
    model.compiled = False
    model.optimizer = None
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        raw = os.path.join(folder, "raw.keras")
        model.save(raw)
        with zipfile.ZipFile(raw) as archive:
            entries = [(name, archive.read(name)) for name in sorted(archive.namelist())]
    entries = [(name, _TIMELESS.get(name, bytes)(data)) for name, data in entries]
    write_zip(path, entries, compress=False)


def _without_date(data: bytes) -> bytes:
    return json.dumps({**json.loads(data), "date_saved": _NO_DATE}, sort_keys=True).encode()


def _without_addresses(data: bytes) -> bytes:
    """Number shared objects in order of appearance: Keras names them by their addresses in memory."""
    numbers: dict[int, int] = {}

    def renumber(value: t.Any) -> t.Any:
        if isinstance(value, list):
            return [renumber(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: numbers.setdefault(item, len(numbers) + 1) if key == "shared_object_id" else renumber(item)
            for key, item in value.items()
        }

    return json.dumps(renumber(json.loads(data))).encode()


#: Parts of a `.keras` file that say when or in which process it was saved -> what makes them not say it.
_TIMELESS: dict[str, t.Callable[[bytes], bytes]] = {"metadata.json": _without_date, "config.json": _without_addresses}


#: What a project does about a custom layer.
_REGISTER = (
    "name the project whose code has it, decorated with keras.saving.register_keras_serializable(), in 'project', and train "
    "again where it was not decorated"
)


def load(path: str, custom: str = _REGISTER) -> Model:
    """Load a ``.keras`` file; code inside it (Lambda layers) is refused by Keras's safe mode.

    :param custom: what to do where the file has a layer that is not Keras's own.
    :raises ModelError: it cannot be loaded (kind ``release``).
    """
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except MemoryError:
        raise
    except Exception as exc:
        text = str(exc)
        reason = f"{reason_of(exc)}: write it anew with model.save() of Keras 3"
        if "safe_mode" in text or "Lambda" in text:
            reason = (
                "it has a Lambda layer, whose code would run: replace it by a layer of Keras, or export the model with "
                "model.export() and import that"
            )
        elif match := _UNKNOWN.search(text):
            reason = f"it has '{match[1]}', which is not Keras's own: {custom}"
        raise ModelError("release", f"Keras cannot load {path}: {reason}") from exc


#: How Keras names a class or function that it does not know.
_UNKNOWN = re.compile(r"(?:Could not (?:locate|find|interpret)|Unknown) [^']*'([^']+)'")


def weights_digest(model: Model) -> str:
    """Return the digest of the weights: order, dtype, shape and bytes; names, which Keras counts up, are left out."""
    import numpy as np

    digest = hashlib.sha256()
    for weight in model.weights:
        array = np.ascontiguousarray(weight.numpy())
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return "sha256:" + digest.hexdigest()


def predict(model: Model, x: Floats) -> Floats:
    """Return the outputs of *model*, float32."""
    import numpy as np

    return np.asarray(model.predict(x, batch_size=batch_size(model) or 256, verbose=0), dtype=np.float32)


def to_litert(model: Model, signature: Signature) -> bytes:
    """Convert to LiteRT float32 with the signature's names, for any batch size where model and converter allow it, else for 1.

    The weights enter the graph as constants through ``stateless_call``: the converter would otherwise keep variables,
    which LiteRT reads again on each call and which the quantizer cannot see.

    :raises ModelError: the model uses something that LiteRT has no built-in operation for (kind ``project``).
    """
    fixed = batch_size(model)
    try:
        return _litert_of(model, signature, fixed)
    except ModelError:
        if fixed is not None:
            raise
    # Recurrent layers are only converted with a batch that is known.
    return _litert_of(model, signature, 1)


def _litert_of(model: Model, signature: Signature, batch: int | None) -> bytes:
    import tensorflow as tf

    trainable = [tf.constant(variable.numpy()) for variable in model.trainable_variables]
    other = [tf.constant(variable.numpy()) for variable in model.non_trainable_variables]
    (given,), (answer,) = signature["inputs"], signature["outputs"]
    shape = [batch, *given["shape"][1:]]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name=given["name"])])  # type: ignore[untyped-decorator]
    def serve(sample: t.Any) -> dict[str, t.Any]:
        return {answer["name"]: model.stateless_call(trainable, other, sample, training=False)[0]}

    module = tf.Module()
    module.serve = serve
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": serve})
        return _convert(folder)


def saved_model_to_litert(path: str, signature: Signature) -> bytes:
    """Convert a SavedModel to LiteRT float32, as :func:`to_litert` does."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = load_saved_model(path)
    try:
        frozen = convert_variables_to_constants_v2(function)
    except Exception as exc:
        raise ModelError(
            "release",
            f"the SavedModel {path} cannot be frozen, since answering changes its variables ({reason_of(exc, 120)}): "
            "export it without layers that act in training only, such as random augmentation",
        ) from exc
    (given,), (answer,) = signature["inputs"], signature["outputs"]
    shape = [saved_model_batch(function), *given["shape"][1:]]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name=given["name"])])  # type: ignore[untyped-decorator]
    def serve(sample: t.Any) -> dict[str, t.Any]:
        answers = frozen(sample)
        return {answer["name"]: answers[0] if isinstance(answers, (list, tuple)) else answers}

    module = tf.Module()
    module.serve = serve
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": serve})
        return _convert(folder)


def load_saved_model(path: str) -> t.Any:
    """Return the serving function of a SavedModel whose operations pass :func:`inspection.check_saved_model`.

    :raises ModelError: they do not, or it cannot be loaded or has no usable signature (kind ``release``).
    """
    import tensorflow as tf

    check_saved_model(path)
    try:
        loaded = tf.saved_model.load(path)
    except Exception as exc:
        raise ModelError("release", f"TensorFlow cannot load the SavedModel {path}: {reason_of(exc)}") from exc
    names = list(loaded.signatures)
    if not names:
        raise ModelError(
            "release", f"the SavedModel {path} has no signature: export it with one (model.export of Keras)"
        )
    function = loaded.signatures["serving_default" if "serving_default" in names else names[0]]
    # The function must keep the loaded object alive: its variables belong to it.
    function.modelship_owner = loaded
    return function


def call_saved_model(function: t.Any, x: Floats) -> Floats:
    """Return the outputs of a function of :func:`load_saved_model`, float32.

    :raises ModelError: it fails on these samples (kind ``release``).
    """
    import numpy as np
    import tensorflow as tf

    name, spec = next(iter(function.structured_input_signature[1].items()))
    step = saved_model_batch(function) or 256
    parts = []
    for start in range(0, len(x), step):
        sample = tf.constant(x[start : start + step], dtype=spec.dtype)
        try:
            outputs = function(**{name: sample})
        except (ValueError, TypeError, tf.errors.OpError) as exc:
            raise ModelError("release", f"TensorFlow cannot run the SavedModel: {reason_of(exc)}") from exc
        parts.append(np.asarray(next(iter(outputs.values())), dtype=np.float32))
    return np.concatenate(parts)


def saved_model_batch(function: t.Any) -> int | None:
    """Return the number of samples a function of :func:`load_saved_model` takes at once: 1, or ``None`` for any number.

    :raises ModelError: it is fixed to more than one (kind ``release``).
    """
    shape = next(iter(function.structured_input_signature[1].values())).shape
    return check_batch(shape[0] if shape.rank else None, "the SavedModel's input")


def _convert(folder: str) -> bytes:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        return t.cast(bytes, converter.convert())
    except Exception as exc:
        raise ModelError("project", f"the model cannot be converted to LiteRT: {_unconverted(str(exc), exc)}") from exc


def _unconverted(text: str, error: Exception) -> str:
    """Return why the converter failed, in terms of the model; its own text is about its passes."""
    if "TensorList" in text:
        return "its recurrent layers are converted only where the batch size is known: export it with a batch size of 1"
    operations = sorted(set(re.findall(r"\btf\.([A-Z]\w+)", text)))
    if operations:
        return f"LiteRT does not have TensorFlow's {', '.join(operations[:5])}: build the model without them"
    return reason_of(error)
