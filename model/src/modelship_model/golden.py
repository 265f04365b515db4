# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The golden set of a release: a few inputs with the release's own outputs, as binary tensors.

The file is in the safetensors format (https://huggingface.co/docs/safetensors, "Format"): the length of a JSON header as a
little-endian 64-bit integer, the header, the tensors' bytes. Tensors are named ``inputs/NAME`` and ``outputs/NAME``; the first
axis is the sample's.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from .hashing import canonical_json

if t.TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[t.Any, np.dtype[t.Any]]

#: Its path in a release.
FILE = "golden.safetensors"
SCHEMA = "modelship.golden/2"

#: safetensors' names of numpy's dtypes.
_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}


@dataclasses.dataclass(frozen=True)
class GoldenSet:
    """Inputs and outputs by name, with the same number of samples on the first axis.

    :param tolerance: ``{"absolute": 0.02, "classes": "equal"}``: the largest absolute difference of an output that still
        counts as equal, and whether the largest output must be the same.
    """

    inputs: dict[str, Array]
    outputs: dict[str, Array]
    tolerance: dict[str, t.Any]

    def encode(self) -> bytes:
        """Return the content of the file; equal sets give equal bytes."""
        tensors = {f"inputs/{name}": value for name, value in self.inputs.items()}
        tensors |= {f"outputs/{name}": value for name, value in self.outputs.items()}
        header: dict[str, t.Any] = {
            "__metadata__": {"schema": SCHEMA, "tolerance": json.dumps(self.tolerance, sort_keys=True)}
        }
        content = []
        end = 0
        # The widest first, so that each tensor begins at a multiple of its item's size.
        for name, value in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
            data = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
            begin, end = end, end + len(data)
            header[name] = {"dtype": _DTYPES[value.dtype.name], "shape": [*value.shape], "data_offsets": [begin, end]}
            content.append(data)
        text = canonical_json(header).rstrip()
        text += b" " * (-len(text) % 8)
        return b"".join((len(text).to_bytes(8, "little"), text, *content))
