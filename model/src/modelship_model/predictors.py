# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One way to ask a model of any format for its answers."""

from __future__ import annotations

import time
import typing as t

from .data import reshaped
from .errors import ModelError, reason_of
from .metrics import percentile_ms
from .release import Manifest, model_path

if t.TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .data import Floats

_BATCH = 256


class Predictor(t.Protocol):
    """Answers float32 samples ``(n, …)`` with float32 probabilities ``(n, classes)``."""

    def __call__(self, x: Floats) -> Floats:
        """Return the answers to *x*."""


class LitertPredictor:
    """A LiteRT model with float32 input and output.

    :param model: content of a ``.tflite`` file.
    """

    def __init__(self, model: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_content=model, num_threads=1)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as exc:
            raise ModelError("release", f"LiteRT cannot load the model: {reason_of(exc)}") from exc
        self.inputs = self._interpreter.get_input_details()
        self.outputs = self._interpreter.get_output_details()
        self._batch = 1
        # Of a batch that the model fixes, resizing the input need not reach what follows.
        self._fixed = bool(self.inputs) and list(self.inputs[0]["shape_signature"][:1]) == [1]

    def signatures(self) -> dict[str, t.Any]:
        """Return the model's signatures: key -> names of inputs and outputs."""
        return t.cast(dict[str, t.Any], self._interpreter.get_signature_list())

    def __call__(self, x: Floats) -> Floats:
        import numpy as np

        parts = [self._answer(x[start : start + self._step()]) for start in range(0, len(x), self._step())]
        return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)

    def _step(self) -> int:
        return 1 if self._fixed else _BATCH

    def _answer(self, x: Floats) -> Floats:
        import numpy as np

        if len(x) != self._batch:
            try:
                self._resize(len(x))
            except (ValueError, RuntimeError):
                return self._one_by_one(x)
        try:
            self._interpreter.set_tensor(self.inputs[0]["index"], x)
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as exc:
            if len(x) == 1:
                raise ModelError("release", f"LiteRT cannot run the model: {reason_of(exc)}") from exc
            return self._one_by_one(x)
        outputs = np.array(self._interpreter.get_tensor(self.outputs[0]["index"]), dtype=np.float32)
        return outputs if len(outputs) == len(x) or len(x) == 1 else self._one_by_one(x)

    def _one_by_one(self, x: Floats) -> Floats:
        """Run each sample by itself from now on: a batch of one is written into an operation inside."""
        import numpy as np

        self._fixed = True
        self._resize(1)
        return np.concatenate([self._answer(x[index : index + 1]) for index in range(len(x))])

    def _resize(self, batch: int) -> None:
        shape = [batch, *self.inputs[0]["shape"][1:]]
        self._interpreter.resize_tensor_input(self.inputs[0]["index"], shape)
        self._interpreter.allocate_tensors()
        self._batch = batch


class OnnxPredictor:
    """An ONNX model by ONNX Runtime on the processor.

    :param model: path or content; :param output: name of the output with the probabilities.
    """

    def __init__(self, model: str | bytes, output: str) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4  # what fails is reported by the exception
        try:
            self.session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as exc:
            raise ModelError("release", f"ONNX Runtime cannot load the model: {reason_of(exc)}") from exc
        given = self.session.get_inputs()[0]
        self._input = given.name
        self._output = output
        self._step = check_batch(given.shape[0] if given.shape else None, f"the input '{given.name}'") or _BATCH

    def __call__(self, x: Floats) -> Floats:
        import numpy as np

        # The step may become 1 on the way: see _answer().
        parts, start = [], 0
        while start < len(x):
            part = x[start : start + self._step]
            parts.append(self._answer(part))
            start += len(part)
        return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)

    def _answer(self, x: Floats) -> Floats:
        import numpy as np

        try:
            (outputs,) = self.session.run([self._output], {self._input: x})
        except Exception as exc:
            if len(x) == 1:
                raise ModelError("release", f"ONNX Runtime cannot run the model: {reason_of(exc)}") from exc
            outputs = ()
        if len(x) > 1 and len(outputs) != len(x):
            # The input's batch is free, but a batch of one is written into an operation inside.
            self._step = 1
            return np.concatenate([self._answer(x[index : index + 1]) for index in range(len(x))])
        return np.asarray(outputs, dtype=np.float32)


def check_batch(size: t.Any, what: str) -> int | None:
    """Return the number of samples a model's input takes at once: 1, or ``None`` for any number.

    :param size: length of the input's first axis as its format gives it: a name, ``None`` or -1 stand for any.
    :raises ModelError: it is fixed to more than one, which cannot be served (kind ``release``).
    """
    if not isinstance(size, int) or size < 0:
        return None
    if size != 1:
        raise ModelError(
            "release", f"{what} takes batches of {size} only: export the model with a free batch size, or 1"
        )
    return 1


def open_predictor(release: str, manifest: Manifest) -> Predictor:
    """Return the predictor for a verified release.

    :raises ModelError: its model cannot be loaded (kind ``release``).
    """
    path, form = model_path(release, manifest), manifest["model"]["format"]
    if form == "litert":
        with open(path, "rb") as stream:
            return LitertPredictor(stream.read())
    if form == "onnx":
        return OnnxPredictor(path, manifest["signature"]["outputs"][0]["name"])
    if form == "skops":
        from .sklearn_models import load, predict

        estimator = load(path)
        return lambda x: predict(estimator, x)
    from . import keras_models

    keras_models.start(0)
    if form == "keras":
        model = keras_models.load(path)
        return lambda x: keras_models.predict(model, x) if len(x) > 1 else _array(model(x, training=False))
    function = keras_models.load_saved_model(path)
    return lambda x: keras_models.call_saved_model(function, x)


def fit_samples(x: Floats, manifest: Manifest) -> Floats:
    """Return the samples *x* in the shape of the release's signature.

    :raises ModelError: they do not fit (kind ``data``).
    """
    wanted = manifest["signature"]["inputs"][0]["shape"][1:]
    return t.cast("Floats", reshaped(x, wanted, f"release {manifest['name']} takes"))


def latency_ms(predictor: Predictor, x: Floats, calls: int = 200, seconds: float = 3.0) -> dict[str, float]:
    """Time single samples: ``{"p50", "p99"}`` in milliseconds, of at most *calls* calls or *seconds*."""
    for _warm_up in range(3):
        predictor(x[:1])
    times: list[float] = []
    end = time.perf_counter() + seconds
    for index in range(calls):
        sample = x[index % len(x) : index % len(x) + 1]
        start = time.perf_counter()
        predictor(sample)
        times.append(time.perf_counter() - start)
        if times[-1] + start > end:
            break
    return {"p50": percentile_ms(times, 50), "p99": percentile_ms(times, 99)}


def _array(value: t.Any) -> npt.NDArray[np.float32]:
    import numpy as np

    return np.asarray(value, dtype=np.float32)
