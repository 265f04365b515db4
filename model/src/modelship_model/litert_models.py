# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""LiteRT models made smaller by Google's own quantizer, ``ai-edge-quantizer``; no TensorFlow needed."""

from __future__ import annotations

import contextlib
import sys
import typing as t

from .errors import ModelError, first_line
from .predictors import LitertPredictor

if t.TYPE_CHECKING:
    from .data import Floats


def quantize_int8(model: bytes, samples: Floats) -> bytes:
    """Return the model with int8 weights and activations; its input and output stay float32.

    Static: the ranges of the activations are measured on *samples*, so that whole stretches of the graph run in
    integers. Float input and output keep one contract for every release, whatever it was compressed with.

    :param samples: float32 ``(n, …)``, typical raw inputs.
    :raises ModelError: the quantizer refuses the model (kind ``project``).
    """
    from ai_edge_quantizer import Quantizer, qtyping, recipe
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    key, name = _signature(model)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            quantizer = Quantizer(bytearray(model), recipe.static_wi8_ai8())
            for operation in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
                quantizer.update_quantization_recipe(".*", operation, None, AlgorithmName.NO_QUANTIZE)
            feed = [{name: samples[index : index + 1]} for index in range(len(samples))]
            ranges = quantizer.calibrate({key: feed}, num_threads=1)
            return _content(quantizer.quantize(ranges))
    except (ValueError, RuntimeError, KeyError) as exc:
        raise ModelError("project", f"the model cannot be quantized: {first_line(exc)}") from exc


def to_float16(model: bytes) -> bytes:
    """Return the model with float16 weights, computed with in float32.

    :raises ModelError: the quantizer refuses the model (kind ``project``).
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
        raise ModelError("project", f"the model cannot be made float16: {first_line(exc)}") from exc


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
