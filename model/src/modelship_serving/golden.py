# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inputs of a release's golden set, which are its examples."""

from __future__ import annotations

import json
import os
import typing as t

import numpy as np

Array = np.ndarray[t.Any, np.dtype[t.Any]]

#: numpy's dtypes by their names in safetensors files.
_DTYPES = {
    "BOOL": "?",
    "U8": "u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}


def golden_inputs(release: t.Any) -> dict[str, Array]:
    """Return the inputs of the release's golden samples by name, with the sample's axis first; none where it has none.

    Source: https://huggingface.co/docs/safetensors, "Format"; ``golden.json`` is how releases made by 0.1 have them.
    """
    try:
        with open(os.path.join(release.folder, "golden.safetensors"), "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
            inputs = {}
            for name, entry in header.items():
                if name.startswith("inputs/"):
                    begin, end = entry["data_offsets"]
                    stream.seek(8 + length + begin)
                    content = np.frombuffer(stream.read(end - begin), _DTYPES[entry["dtype"]])
                    inputs[name.removeprefix("inputs/")] = content.reshape(entry["shape"])
            return inputs
    except FileNotFoundError:
        return _of_json(os.path.join(release.folder, "golden.json"))
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _of_json(path: str) -> dict[str, Array]:
    try:
        with open(path, "rb") as stream:
            return {str(name): np.asarray(values) for name, values in json.load(stream)["inputs"].items() if values}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
