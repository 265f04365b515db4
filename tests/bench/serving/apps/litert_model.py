"""What every contestant runs: the release's LiteRT model, one thread, set up once, as the serving image runs it."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

#: The name that the Open Inference Protocol V2 is asked for.
NAME = os.environ["BENCH_NAME"]


class Model:
    """The model file that ``BENCH_MODEL`` names: one float32 input, one float32 output, one sample at a time.

    :ivar shape: the input's shape, the batch axis first.
    """

    def __init__(self) -> None:
        self._interpreter = Interpreter(model_path=os.environ["BENCH_MODEL"], num_threads=1)
        self._interpreter.allocate_tensors()
        given, found = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        self.shape = tuple(given["shape"].tolist())
        self._input, self._output = given["index"], found["index"]

    def __call__(self, values: Any) -> Any:
        """Return the probabilities of one sample, given flat or shaped, as an array."""
        self._interpreter.set_tensor(self._input, np.asarray(values, np.float32).reshape(self.shape))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output)[0]


def v2_outputs(probabilities: Any) -> list[dict[str, Any]]:
    """Return the ``outputs`` of the Open Inference Protocol V2."""
    values = probabilities.tolist()
    return [{"name": "probabilities", "shape": [1, len(values)], "datatype": "FP32", "data": values}]
