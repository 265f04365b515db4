# SPDX-License-Identifier: GPL-3.0-or-later
"""The two light runtimes behind one small interface; each is imported only when the release needs it."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Iterator

import numpy as np

from .errors import StartError
from .release import Release, TensorSpec
from .tensors import Array

_Convert = Callable[[Array], Array]


class Backend(t.Protocol):
    """A loaded model. Not safe for use by two threads at once."""

    #: A batch is one run of the model, not one run for each sample.
    batches: bool

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run the model on arrays in the signature's order, each with the batch axis first.

        It gives up the interpreter lock meanwhile.
        """

    def at_fault(self, error: Exception) -> bool:
        """Return whether *error*, raised by :meth:`run`, is due to the values of the inputs."""


def load_backend(release: Release, threads: int) -> Backend:
    """Load the release's model.

    :param threads: CPU threads for one run.
    :raises StartError: the runtime is missing, or the model is broken or does not fit its signature.
    """
    try:
        return LiteRT(release, threads) if release.format == "litert" else OnnxRuntime(release, threads)
    except ImportError as exc:
        raise StartError(
            f"the runtime for {release.format} models cannot be imported ({exc}): "
            f"install what model/locks/serving-{release.format}.txt lists"
        ) from None
    except StartError:
        raise
    except Exception as exc:  # noqa: BLE001 - native runtimes raise many types for a model they cannot read
        raise StartError(f"{release.model_path} cannot be loaded: {str(exc).splitlines()[0]}") from None


class LiteRT:
    """LiteRT's plain interpreter with XNNPACK.

    A model whose batch axis is open is resized to the batch of the run (10 microseconds); one that is not runs sample by
    sample.
    """

    def __init__(self, release: Release, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        def interpreter() -> t.Any:
            return Interpreter(model_path=release.model_path, num_threads=threads)

        self._interpreter = interpreter()
        inputs, outputs = self._details(release)
        #: Index and shape without the batch axis of each input.
        self._shapes = [
            (detail["index"], list(spec.shape[1:])) for spec, detail in _pairs(release.signature.inputs, inputs)
        ]
        self.batches = all(
            _open_batch(release, spec, detail) for spec, detail in _pairs(release.signature.inputs, inputs)
        )
        self._count = 0
        self._resize(1)
        self._inputs = [
            (detail["index"], _quantizer(spec, detail)) for spec, detail in _pairs(release.signature.inputs, inputs)
        ]
        self._outputs = [
            (detail["index"], _dequantizer(spec, detail)) for spec, detail in _pairs(release.signature.outputs, outputs)
        ]
        if self.batches and not self._takes_batches():
            # What failed once is not to be relied on any more.
            self.batches, self._interpreter, self._count = False, interpreter(), 0
            self._resize(1)

    def _resize(self, count: int) -> None:
        if count == self._count:
            return
        for index, shape in self._shapes:
            self._interpreter.resize_tensor_input(index, [count, *shape])
        self._interpreter.allocate_tensors()
        self._count = count

    def _takes_batches(self) -> bool:
        """Try a batch of two: a model may have its batch of one built into operations further on."""
        try:
            self._resize(2)
            self._interpreter.invoke()
            self._resize(1)
        except (RuntimeError, ValueError):
            return False
        return True

    def _details(self, release: Release) -> tuple[list[dict[str, t.Any]], list[dict[str, t.Any]]]:
        signature, interpreter = release.signature, self._interpreter
        named_inputs: dict[str, t.Any] = {}
        named_outputs: dict[str, t.Any] = {}
        keys = list(interpreter.get_signature_list())
        if keys:
            runner = interpreter.get_signature_runner(keys[0])
            named_inputs, named_outputs = runner.get_input_details(), runner.get_output_details()
        return (
            _match("input", signature.inputs, named_inputs, interpreter.get_input_details()),
            _match("output", signature.outputs, named_outputs, interpreter.get_output_details()),
        )

    def run(self, inputs: list[Array]) -> list[Array]:
        interpreter = self._interpreter
        count = len(inputs[0])
        if count != self._count:
            if not self.batches:
                return _one_by_one(self.run, inputs)
            self._resize(count)
        for (index, quantize), array in zip(self._inputs, inputs, strict=True):
            interpreter.set_tensor(index, array if quantize is None else quantize(array))
        interpreter.invoke()
        results = []
        for index, dequantize in self._outputs:
            array = interpreter.get_tensor(index)
            results.append(array if dequantize is None else dequantize(array))
        return results

    def at_fault(self, error: Exception) -> bool:
        # An operation that refuses its operands: an index out of range, for one.
        return type(error) is RuntimeError


def _one_by_one(run: Callable[[list[Array]], list[Array]], inputs: list[Array]) -> list[Array]:
    singles = [run([array[i : i + 1] for array in inputs]) for i in range(len(inputs[0]))]
    return [np.concatenate(arrays) for arrays in zip(*singles, strict=True)]


def _pairs(
    specs: tuple[TensorSpec, ...], details: list[dict[str, t.Any]]
) -> Iterator[tuple[TensorSpec, dict[str, t.Any]]]:
    return zip(specs, details, strict=True)


def _open_batch(release: Release, spec: TensorSpec, detail: dict[str, t.Any]) -> bool:
    """Return whether the model's input takes a batch of any size.

    :raises StartError: its shape is not that of the signature.
    """
    found = detail["shape_signature"].tolist()
    wanted = spec.shape[1:]
    if len(found) != len(wanted) + 1 or any(
        axis not in (-1, want) for axis, want in zip(found[1:], wanted, strict=True)
    ):
        raise StartError(
            f"input '{spec.name}' of {release.model_path} has shape {found}, the signature says {list(spec.shape)}"
        )
    if found[0] not in (-1, 1):
        raise StartError(
            f"input '{spec.name}' of {release.model_path} takes batches of {found[0]} only, it must take 1"
        )
    return bool(found[0] == -1)


def _match(
    kind: str, specs: tuple[TensorSpec, ...], named: dict[str, t.Any], ordered: list[dict[str, t.Any]]
) -> list[dict[str, t.Any]]:
    """Find each tensor of the signature in the model: by signature name, by tensor name, or by its place."""
    by_name = named or {detail["name"]: detail for detail in ordered}
    if all(spec.name in by_name for spec in specs):
        return [by_name[spec.name] for spec in specs]
    if len(specs) != len(ordered):
        raise StartError(f"the model has the {kind}s {sorted(by_name)}, the signature {[spec.name for spec in specs]}")
    return ordered


def _quantization(spec: TensorSpec, detail: dict[str, t.Any]) -> tuple[np.float32, int] | None:
    """Return scale and zero point where the tensor is a quantized form of the signature's float, else ``None``."""
    found = np.dtype(detail["dtype"])
    scale, zero = detail["quantization"]
    if found.kind not in "iu" or not spec.dtype.startswith("float") or not scale:
        return None
    return np.float32(scale), int(zero)


def _cast(spec: TensorSpec, given: np.dtype[t.Any], wanted: np.dtype[t.Any], found: np.dtype[t.Any]) -> _Convert | None:
    """Return a conversion between the signature's dtype and the model's, if no value can be lost by it."""
    if given == wanted:
        return None
    if not np.can_cast(given, wanted, "safe"):
        raise StartError(f"tensor '{spec.name}' of the model is {found.name}, the signature says {spec.dtype}")
    return lambda array: array.astype(wanted)


def _quantizer(spec: TensorSpec, detail: dict[str, t.Any]) -> _Convert | None:
    """Affine quantization, ``round(x / scale) + zero`` clipped to the integer type (LiteRT quantization specification)."""
    parameters = _quantization(spec, detail)
    if parameters is None:
        found = np.dtype(detail["dtype"])
        return _cast(spec, np.dtype(spec.dtype), found, found)
    factor, zero = np.float32(1) / parameters[0], np.float32(parameters[1])
    limits = np.iinfo(detail["dtype"])
    low, high = np.float32(limits.min), np.float32(limits.max)

    def quantize(array: Array) -> Array:
        work = array * factor
        np.rint(work, out=work)
        np.add(work, zero, out=work)
        np.maximum(work, low, out=work)
        np.minimum(work, high, out=work)
        return work.astype(detail["dtype"])

    return quantize


def _dequantizer(spec: TensorSpec, detail: dict[str, t.Any]) -> _Convert | None:
    """``(q - zero) * scale``, the inverse of :func:`_quantizer`."""
    parameters = _quantization(spec, detail)
    if parameters is None:
        found = np.dtype(detail["dtype"])
        return _cast(spec, found, np.dtype(spec.dtype), found)
    scale, zero = parameters

    def dequantize(array: Array) -> Array:
        return (array.astype(np.float32) - np.float32(zero)) * scale

    return dequantize


class OnnxRuntime:
    """ONNX Runtime on the CPU; takes batches of any size where the model does."""

    def __init__(self, release: Release, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(release.model_path, options, providers=["CPUExecutionProvider"])
        signature = release.signature
        found = {node.name: node for node in self._session.get_inputs()}
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]
        self.batches = True
        self._casts: list[_Convert | None] = []
        if sorted(found) != sorted(self._inputs):
            raise StartError(
                f"{release.model_path} has the inputs {sorted(found)}, the signature {sorted(self._inputs)}"
            )
        for spec in signature.inputs:
            self._check(release, spec, found[spec.name])
        given = {node.name: _ONNX_DTYPES.get(node.type) for node in self._session.get_outputs()}
        self._returns: list[_Convert | None] = []
        for spec in signature.outputs:
            if spec.name not in given:
                raise StartError(f"{release.model_path} has no output '{spec.name}', which the signature names")
            made = np.dtype(given[spec.name] or "object")
            self._returns.append(_cast(spec, made, np.dtype(spec.dtype), made))
        self._plain = not any(self._casts) and not any(self._returns)

    def _check(self, release: Release, spec: TensorSpec, node: t.Any) -> None:
        taken = np.dtype(_ONNX_DTYPES.get(node.type, "object"))
        if taken.kind == "O":
            raise StartError(
                f"input '{spec.name}' of {release.model_path} is {node.type}, which cannot be served: use numbers"
            )
        self._casts.append(_cast(spec, np.dtype(spec.dtype), taken, taken))
        axes = [axis if isinstance(axis, int) else -1 for axis in node.shape]
        fits = all(axis in (-1, want) for axis, want in zip(axes[1:], spec.shape[1:], strict=False))
        if len(axes) != len(spec.shape) or not fits or axes[0] not in (-1, 1):
            raise StartError(
                f"input '{spec.name}' of {release.model_path} has shape {node.shape}, the signature says {list(spec.shape)}"
            )
        if axes[0] == 1:
            self.batches = False

    def run(self, inputs: list[Array]) -> list[Array]:
        if not self.batches and len(inputs[0]) > 1:
            return _one_by_one(self.run, inputs)
        if self._plain:
            results: list[Array] = self._session.run(self._outputs, dict(zip(self._inputs, inputs, strict=True)))
            return results
        inputs = [array if cast is None else cast(array) for cast, array in zip(self._casts, inputs, strict=True)]
        results = self._session.run(self._outputs, dict(zip(self._inputs, inputs, strict=True)))
        return [array if cast is None else cast(array) for cast, array in zip(self._returns, results, strict=True)]

    def at_fault(self, error: Exception) -> bool:
        return type(error).__name__ in ("InvalidArgument", "RuntimeException", "Fail")


_ONNX_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}
