# SPDX-License-Identifier: GPL-3.0-or-later
"""The two light runtimes behind one small interface; each is imported only when the release needs it."""

from __future__ import annotations

import typing as t

import numpy as np

from .errors import StartError
from .release import Release, TensorSpec
from .tensors import Array


class Backend(t.Protocol):
    """A loaded model. Not safe for use by two threads at once."""

    #: The event loop goes on while :meth:`run` works in another thread (the runtime gives up the interpreter lock).
    concurrent: bool

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run the model on arrays in the signature's order, each with the batch axis first."""


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

    It keeps one sample's tensors, set up once; a batch runs sample by sample, which for small models costs less than
    resizing. It holds the interpreter lock while it runs, so threads would win nothing.
    """

    concurrent = False

    def __init__(self, release: Release, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=release.model_path, num_threads=threads)
        inputs, outputs = self._details(release)
        for spec, detail in zip(release.signature.inputs, inputs, strict=True):
            wanted = (1, *spec.shape[1:])
            if tuple(detail["shape"].tolist()) != wanted:
                if len(detail["shape"]) != len(wanted) or any(
                    axis not in (-1, want) for axis, want in zip(detail["shape_signature"], wanted, strict=True)
                ):
                    raise StartError(
                        f"input '{spec.name}' of {release.model_path} has shape {detail['shape_signature'].tolist()}, "
                        f"the signature says {list(spec.shape)}"
                    )
                self._interpreter.resize_tensor_input(detail["index"], wanted)
        self._interpreter.allocate_tensors()
        self._inputs = [
            (detail["index"], _quantizer(spec, detail))
            for spec, detail in zip(release.signature.inputs, inputs, strict=True)
        ]
        self._outputs = [
            (detail["index"], _dequantizer(spec, detail))
            for spec, detail in zip(release.signature.outputs, outputs, strict=True)
        ]

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
        if count > 1:
            singles = [self.run([array[i : i + 1] for array in inputs]) for i in range(count)]
            return [np.concatenate(arrays) for arrays in zip(*singles, strict=True)]
        for (index, quantize), array in zip(self._inputs, inputs, strict=True):
            interpreter.set_tensor(index, array if quantize is None else quantize(array))
        interpreter.invoke()
        results = []
        for index, dequantize in self._outputs:
            array = interpreter.get_tensor(index)
            results.append(array if dequantize is None else dequantize(array))
        return results


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


_Convert = t.Callable[[Array], Array]


def _quantization(spec: TensorSpec, detail: dict[str, t.Any]) -> tuple[np.float32, int] | None:
    """Return scale and zero point where the tensor is a quantized form of the signature's float, else ``None``."""
    found = np.dtype(detail["dtype"])
    if found.name == spec.dtype:
        return None
    scale, zero = detail["quantization"]
    if found.kind not in "iu" or not spec.dtype.startswith("float") or not scale:
        raise StartError(f"tensor '{spec.name}' of the model is {found.name}, the signature says {spec.dtype}")
    return np.float32(scale), int(zero)


def _quantizer(spec: TensorSpec, detail: dict[str, t.Any]) -> _Convert | None:
    """Affine quantization, ``round(x / scale) + zero`` clipped to the integer type (LiteRT quantization specification)."""
    parameters = _quantization(spec, detail)
    if parameters is None:
        return None
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
        return None
    scale, zero = parameters

    def dequantize(array: Array) -> Array:
        return (array.astype(np.float32) - np.float32(zero)) * scale

    return dequantize


class OnnxRuntime:
    """ONNX Runtime on the CPU; takes batches of any size where the model does."""

    concurrent = True

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
        self._one_by_one = False
        if sorted(found) != sorted(self._inputs):
            raise StartError(
                f"{release.model_path} has the inputs {sorted(found)}, the signature {sorted(self._inputs)}"
            )
        for spec in signature.inputs:
            self._check(release, spec, found[spec.name])
        missing = set(self._outputs) - {node.name for node in self._session.get_outputs()}
        if missing:
            raise StartError(f"{release.model_path} has no output '{missing.pop()}', which the signature names")

    def _check(self, release: Release, spec: TensorSpec, node: t.Any) -> None:
        dtype = _ONNX_DTYPES.get(node.type)
        if dtype != spec.dtype:
            raise StartError(
                f"input '{spec.name}' of {release.model_path} is {node.type}, the signature says {spec.dtype}"
            )
        axes = [axis if isinstance(axis, int) else -1 for axis in node.shape]
        fits = all(axis in (-1, want) for axis, want in zip(axes[1:], spec.shape[1:], strict=False))
        if len(axes) != len(spec.shape) or not fits or axes[0] not in (-1, 1):
            raise StartError(
                f"input '{spec.name}' of {release.model_path} has shape {node.shape}, the signature says {list(spec.shape)}"
            )
        if axes[0] == 1:
            self._one_by_one = True

    def run(self, inputs: list[Array]) -> list[Array]:
        if self._one_by_one and len(inputs[0]) > 1:
            singles = [self.run([array[i : i + 1] for array in inputs]) for i in range(len(inputs[0]))]
            return [np.concatenate(arrays) for arrays in zip(*singles, strict=True)]
        results: list[Array] = self._session.run(self._outputs, dict(zip(self._inputs, inputs, strict=True)))
        return results


_ONNX_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}
