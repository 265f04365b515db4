# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""ONNX models: names, weights, and smaller number formats by ONNX Runtime's own tools."""

from __future__ import annotations

import hashlib
import os
import tempfile
import typing as t

from .errors import ModelError, NotApplicable, disk_full, reason_of

Model = t.Any


def parse(content: bytes, what: str = "the model") -> Model:
    """Parse and check an ONNX model.

    :raises ModelError: it is damaged (kind ``release``).
    """
    import onnx

    try:
        model = onnx.load_model_from_string(content)
        outside = list(_external_tensors(model))
        if not outside:
            onnx.checker.check_model(model)
    except Exception as exc:
        raise ModelError("release", f"{what} is not a valid ONNX model: {reason_of(exc)}") from exc
    if outside:
        raise ModelError(
            "release",
            f"{what} keeps the weights '{outside[0]}' in another file: save all in one, "
            "onnx.save(onnx.load(path), other_path) does",
        )
    return model


def _external_tensors(message: t.Any) -> t.Iterator[str]:
    """Yield the names of the tensors whose data is in other files: of initializers, attributes, subgraphs and functions."""
    import onnx

    rest = [message]
    while rest:
        item = rest.pop()
        if isinstance(item, onnx.TensorProto):
            if item.data_location == onnx.TensorProto.EXTERNAL:
                yield item.name
            continue
        for field, value in item.ListFields():
            if field.message_type is not None:
                rest.extend([value] if hasattr(value, "ListFields") else value)


def name_output(model: Model, old: str, new: str, classes: int) -> None:
    """Make *old* the graph's one output, in place, called *new*, float32 ``(batch, classes)``."""
    import onnx

    for node in model.graph.node:
        node.output[:] = [new if name == old else name for name in node.output]
        node.input[:] = [new if name == old else name for name in node.input]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(new, onnx.TensorProto.FLOAT, [None, classes]))


def tidy(model: Model) -> None:
    """Remove, in place, what cutting outputs off leaves behind: unused weights, and type notes without a type."""
    used = {name for node in model.graph.node for name in node.input} | {item.name for item in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]


def weights_digest(content: bytes) -> str:
    """Return the digest of the initializers: names, types, shapes and bytes, in the order of their names."""
    digest = hashlib.sha256()
    for tensor in sorted(parse(content).graph.initializer, key=lambda item: item.name):
        digest.update(tensor.SerializeToString(deterministic=True))
    return "sha256:" + digest.hexdigest()


#: Operations whose weights ONNX Runtime's dynamic quantization makes integers; Gemm becomes MatMul before.
_QUANTIZABLE = frozenset({"Attention", "Conv", "EmbedLayerNormalization", "Gather", "Gemm", "LSTM", "MatMul"})


def quantize_int8(content: bytes) -> bytes:
    """Return the model with int8 weights, activations quantized as they come (ONNX Runtime's dynamic quantization).

    Dynamic, since the dense layers that come out of scikit-learn have their cost in the weights, and activations scaled
    sample by sample lose less than ranges fixed by calibration.

    :raises NotApplicable: the model has no weights to quantize, as trees and linear classifiers, or the quantizer fails.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not _has_weights_to_quantize(parse(content)):
        raise NotApplicable("the model has no matrix product, convolution or recurrent layer with weights of its own")
    with tempfile.TemporaryDirectory() as folder:
        source, ready, target = (os.path.join(folder, name) for name in ("in.onnx", "ready.onnx", "out.onnx"))
        with open(source, "wb") as stream:
            stream.write(content)
        try:
            quant_pre_process(source, ready, skip_symbolic_shape=True)
            # Shape inference does not pass the operators of ai.onnx.ml, behind which everything is float32 here.
            extra = {"DefaultTensorType": onnx.TensorProto.FLOAT}
            quantize_dynamic(ready, target, weight_type=QuantType.QInt8, per_channel=True, extra_options=extra)
        except MemoryError:
            raise
        except Exception as exc:
            if disk_full(exc):
                raise
            raise NotApplicable("ONNX Runtime's quantizer does not support the model", reason_of(exc)) from exc
        with open(target, "rb") as stream:
            return stream.read()


def _has_weights_to_quantize(model: Model) -> bool:
    weights = {tensor.name for tensor in model.graph.initializer if tensor.data_type == 1 and len(tensor.dims) > 1}
    return any(node.op_type in _QUANTIZABLE and weights.intersection(node.input) for node in model.graph.node)


def to_float16(content: bytes) -> bytes:
    """Return the model with float16 weights and arithmetic, its input and output left float32.

    :raises NotApplicable: the converter does not support the model.
    """
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    try:
        model = convert_float_to_float16(parse(content), keep_io_types=True)
        ONNXModel(model).topological_sort()  # the converter appends its casts out of order
        for tensor in model.graph.initializer:
            # It also writes each float16 as a varint of up to 3 bytes; as raw bytes it is 2.
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    except MemoryError:
        raise
    except Exception as exc:
        raise NotApplicable("ONNX Runtime's float16 converter does not support the model", reason_of(exc)) from exc
    return t.cast(bytes, model.SerializeToString(deterministic=True))
