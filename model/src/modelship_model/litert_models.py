# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""LiteRT models made smaller by Google's own quantizer, ``ai-edge-quantizer``; no TensorFlow needed."""

from __future__ import annotations

import contextlib
import re
import sys
import typing as t

from .errors import NotApplicable, reason_of
from .predictors import LitertPredictor

if t.TYPE_CHECKING:
    from .data import Floats

#: Convolutions over fewer channels are not made int8.
_LEAST_CHANNELS = 4


def quantize_int8(model: bytes, samples: Floats) -> bytes:
    """Return the model with int8 weights and activations; its input and output stay float32.

    Static: the ranges of the activations are measured on *samples*, so that whole stretches of the graph run in
    integers. Float input and output keep one contract for every release, whatever it was compressed with. What would be
    slower in integers stays float32 (:func:`_narrow_convolutions`).

    :param samples: float32 ``(n, …)``, typical raw inputs.
    :raises NotApplicable: the quantizer does not support the model, or changes nothing in it.
    """
    from ai_edge_quantizer import Quantizer, qtyping, recipe
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    key, name = _signature(model)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            quantizer = Quantizer(bytearray(model), recipe.static_wi8_ai8())
            for operation in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
                quantizer.update_quantization_recipe(".*", operation, None, AlgorithmName.NO_QUANTIZE)
            for scope in _narrow_convolutions(model):
                quantizer.update_quantization_recipe(
                    re.escape(scope), qtyping.TFLOperationName.CONV_2D, None, AlgorithmName.NO_QUANTIZE
                )
            feed = [{name: samples[index : index + 1]} for index in range(len(samples))]
            ranges = quantizer.calibrate({key: feed}, num_threads=1)
            return _content(quantizer.quantize(ranges))
    except (ValueError, RuntimeError, KeyError) as exc:
        raise NotApplicable("LiteRT's quantizer does not support the model", reason_of(exc)) from exc


def to_float16(model: bytes) -> bytes:
    """Return the model with float16 weights, computed with in float32.

    :raises NotApplicable: the converter does not support the model.
    """
    from ai_edge_quantizer import Quantizer, qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    try:
        with contextlib.redirect_stdout(sys.stderr):
            quantizer = Quantizer(bytearray(model))
            quantizer.add_weight_only_config(
                ".*", qtyping.TFLOperationName.ALL_SUPPORTED, 16, algorithm_key=AlgorithmName.FLOAT_CASTING
            )
            return _content(quantizer.quantize())
    except (ValueError, RuntimeError, KeyError) as exc:
        raise NotApplicable("LiteRT's float16 converter does not support the model", reason_of(exc)) from exc


def _narrow_convolutions(model: bytes) -> list[str]:
    """Return the names, as the quantizer has them, of convolutions over so few channels that int8 would slow them down.

    XNNPACK's int8 convolutions take channels eight at a time, so that seven eighths of the work on a grey picture is done
    on padding: such a first layer took 3 to 6 times as long as in float32, and half the time of the whole model. Its few
    weights are no loss.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    found = []
    graph = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in graph.operatorCodes]
    for subgraph in graph.subgraphs:
        for operation in subgraph.operators:
            if codes[operation.opcodeIndex] == schema.BuiltinOperator.CONV_2D:
                kernel = subgraph.tensors[operation.inputs[1]].shape  # outputs, height, width, inputs
                if kernel[3] < _LEAST_CHANNELS:
                    found.append(subgraph.tensors[operation.outputs[0]].name.decode())
    return found


def _signature(model: bytes) -> tuple[str | None, str]:
    """Return the key of the model's signature and the name of its input."""
    predictor = LitertPredictor(model)
    for key, names in predictor.signatures().items():
        return key, names["inputs"][0]
    return None, predictor.inputs[0]["name"]


def _content(result: t.Any) -> bytes:
    if result.quantized_model is None:
        raise ValueError("the quantizer returned no model")
    return bytes(result.quantized_model)
