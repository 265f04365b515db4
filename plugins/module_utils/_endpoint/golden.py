# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The golden set: reading it from a release, asking an endpoint for the same answers, comparing."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import typing as t

from .._core.content import canonical_json, parse_digest, sha256_bytes
from .._core.errors import ModelshipError
from .._core.files import explained
from .http import Answer

#: numpy's dtype names in the words of the Open Inference Protocol V2.
V2_DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bfloat16": "BF16",
}

Numbers = list[float]


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One sample's tensor: ``shape`` without the batch axis, ``data`` in row-major order."""

    shape: tuple[int, ...]
    data: Numbers


@dataclasses.dataclass(frozen=True)
class Golden:
    """A golden set.

    :param inputs: for each sample, tensors by input name.
    :param outputs: for each sample, tensors by output name.
    :param absolute: largest absolute difference that still counts as the same answer.
    :param classes: whether the largest output must be at the same place (classifiers).
    :param name: the model's name, ``None`` where the golden set was given without its release.
    :param release: digest of the release, or ``None``.
    :param datatypes: V2 data type by input name; empty where no release says it.
    """

    inputs: list[dict[str, Tensor]]
    outputs: list[dict[str, Tensor]]
    absolute: float
    classes: bool
    name: str | None = None
    release: str | None = None
    datatypes: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Mismatch:
    """One sample that was answered differently; ``expected`` and ``got`` are what a person reads."""

    sample: int
    output: str
    expected: str
    got: str
    max_abs_difference: float | None
    reason: str


def load_release(path: str) -> Golden:
    """Read the golden set of the release folder *path*, after checking the sha256 of what is read.

    :raises ModelshipError: the folder is no release, or a file of it was changed.
    """
    with explained(path):
        with open(os.path.join(path, "release.json"), "rb") as stream:
            raw = stream.read()
        with open(os.path.join(path, "golden.json"), "rb") as stream:
            golden_raw = stream.read()
    digest = sha256_bytes(raw)
    folder = os.path.basename(os.path.normpath(path))
    if _is_hex_digest(folder) and digest != f"sha256:{folder}":
        raise ModelshipError(f"release {path} is corrupted: its release.json is {digest}; make the release again")
    try:
        manifest = json.loads(raw)
        name = str(manifest["name"])
        declared = str(manifest["files"]["golden.json"]["sha256"])
        datatypes = {item["name"]: V2_DATATYPES.get(item["dtype"], "FP32") for item in manifest["signature"]["inputs"]}
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelshipError(f"{path}/release.json is no release manifest ({exc!r}): give a release folder") from exc
    if sha256_bytes(golden_raw) != "sha256:" + declared.removeprefix("sha256:"):
        raise ModelshipError(f"release {path} is corrupted: golden.json is not the one in release.json")
    return dataclasses.replace(
        parse_golden(golden_raw, os.path.join(path, "golden.json")), name=name, release=digest, datatypes=datatypes
    )


def load_golden(path: str) -> Golden:
    """Read the golden file *path*.

    :raises ModelshipError: it cannot be read or is no golden set.
    """
    with explained(path), open(path, "rb") as stream:
        return parse_golden(stream.read(), path)


def parse_golden(raw: bytes, path: str) -> Golden:
    """Decode a golden set (docs/formats.md); *path* is named in errors.

    :raises ModelshipError: a key is missing, lists are ragged, counts of samples differ, or there is no sample.
    """
    try:
        value = json.loads(raw)
        inputs, outputs = _by_sample(value["inputs"]), _by_sample(value["outputs"])
        tolerance = value.get("tolerance") or {}
        absolute = float(tolerance.get("absolute", 0.0))
        classes = tolerance.get("classes") == "equal"
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ModelshipError(f"{path} is no golden set: {exc!r}") from exc
    if not inputs or len(inputs) != len(outputs):
        raise ModelshipError(f"{path} is no golden set: {len(inputs)} inputs and {len(outputs)} outputs")
    return Golden(inputs, outputs, absolute, classes)


def request_for(golden: Golden, sample: int, protocol: str, datatypes: t.Mapping[str, str]) -> bytes:
    """Return the JSON body that asks for the answer to one *sample* (``protocol``: ``v2`` or ``predict``)."""
    tensors = golden.inputs[sample]
    body: dict[str, t.Any]
    if protocol == "predict":
        body = {"image": next(iter(tensors.values())).data}
    else:
        body = {
            "inputs": [
                {
                    "name": key,
                    "shape": [1, *tensor.shape],
                    "datatype": datatypes.get(key, "FP32"),
                    "data": _typed(tensor.data, datatypes.get(key, "FP32")),
                }
                for key, tensor in tensors.items()
            ]
        }
    return canonical_json(body)


def path_for(protocol: str, name: str) -> str:
    """Return the path that answers one sample."""
    return "/predict" if protocol == "predict" else f"/v2/models/{name}/infer"


def compare(golden: Golden, sample: int, answer: Answer, protocol: str) -> tuple[list[Mismatch], float]:
    """Compare *answer* with the golden answer of *sample*; return what differs and the largest absolute difference."""
    expected = golden.outputs[sample]
    if answer.status != 200:
        return [_garbled(sample, expected, f"status {answer.status}", answer.beginning())], math.inf
    try:
        got = _predicted(answer.json(), expected) if protocol == "predict" else _inferred(answer.json(), expected)
    except ModelshipError as exc:
        return [_garbled(sample, expected, "no usable answer", exc.message)], math.inf
    mismatches: list[Mismatch] = []
    worst = 0.0
    for name, tensor in expected.items():
        found = _differs(golden, sample, name, tensor.data, got[name])
        worst = max(worst, found[1])
        mismatches += found[0]
    return mismatches, worst


def _differs(
    golden: Golden, sample: int, name: str, expected: Numbers, got: Numbers | int
) -> tuple[list[Mismatch], float]:
    if isinstance(got, int):  # /predict of a server that tells only the class
        wanted = _argmax(expected)
        if got == wanted:
            return [], 0.0
        return [Mismatch(sample, name, f"class {wanted}", f"class {got}", None, "another class")], 0.0
    difference = max((abs(a - b) for a, b in zip(expected, got, strict=True)), default=0.0)
    reasons = []
    if golden.classes and len(expected) > 1 and _argmax(expected) != _argmax(got):
        reasons.append("another class")
    if difference > golden.absolute:
        reasons.append(f"differs by more than {golden.absolute:g}")
    if not reasons:
        return [], difference
    shown = (_shown(golden, expected), _shown(golden, got))
    return [Mismatch(sample, name, *shown, difference, ", ".join(reasons))], difference


def _inferred(value: t.Any, expected: dict[str, Tensor]) -> dict[str, Numbers | int]:
    outputs = value.get("outputs") if isinstance(value, dict) else None
    if not isinstance(outputs, list):
        raise ModelshipError("the answer has no list 'outputs'")
    by_name = {item.get("name"): item for item in outputs if isinstance(item, dict)}
    found: dict[str, Numbers | int] = {}
    for name, tensor in expected.items():
        if name not in by_name:
            raise ModelshipError(f"the answer has no output '{name}' (it has {sorted(map(str, by_name))})")
        shape, data = by_name[name].get("shape"), by_name[name].get("data")
        if list(shape or []) not in ([1, *tensor.shape], list(tensor.shape)):
            raise ModelshipError(f"output '{name}' has shape {shape}, not {[1, *tensor.shape]}")
        found[name] = _numbers(name, data, len(tensor.data))
    return found


def _predicted(value: t.Any, expected: dict[str, Tensor]) -> dict[str, Numbers | int]:
    if not isinstance(value, dict):
        raise ModelshipError("the answer is no JSON object")
    name, tensor = next(iter(expected.items()))
    probabilities = value.get("probabilities")
    if probabilities is not None:
        return {name: _numbers("probabilities", probabilities, len(tensor.data))}
    result = value.get("result")
    if isinstance(result, bool) or not isinstance(result, int | float):
        raise ModelshipError("the answer has neither 'probabilities' nor a number 'result'")
    if len(tensor.data) == 1:
        return {name: [float(result)]}
    return {name: int(result)}


def _numbers(name: str, value: t.Any, count: int) -> Numbers:
    data, _shape = _flat(value, name)
    if len(data) != count:
        raise ModelshipError(f"'{name}' has {len(data)} values, not {count}")
    return data


def _flat(value: t.Any, name: str) -> tuple[Numbers, tuple[int, ...]]:
    """Return the numbers of nested lists and their shape.

    :raises ModelshipError: something in it is no finite number, or the lists are ragged.
    """
    if isinstance(value, list):
        parts = [_flat(item, name) for item in value]
        shapes = {shape for _data, shape in parts}
        if len(shapes) > 1:
            raise ModelshipError(f"'{name}' is ragged")
        return [number for data, _shape in parts for number in data], (len(value), *next(iter(shapes), ()))
    if isinstance(value, int | float) and math.isfinite(value):
        return [float(value)], ()
    raise ModelshipError(f"'{name}' holds {str(value)[:40]!r}, which is no finite number")


def _by_sample(tensors: dict[str, t.Any]) -> list[dict[str, Tensor]]:
    samples: list[dict[str, Tensor]] = []
    for name, values in tensors.items():
        if not samples:
            samples = [{} for _unused in values]
        if len(values) != len(samples):
            raise ValueError("tensors with different counts of samples")
        for position, value in enumerate(values):
            try:
                data, shape = _flat(value, name)
            except ModelshipError as exc:
                raise ValueError(exc.message) from exc
            samples[position][name] = Tensor(shape, data)
    return samples


def _typed(data: Numbers, datatype: str) -> list[float] | list[int] | list[bool]:
    if datatype == "BOOL":
        return [bool(number) for number in data]
    if "INT" in datatype:
        return [int(number) for number in data]
    return data


def _argmax(values: Numbers) -> int:
    return max(range(len(values)), key=values.__getitem__)


def _shown(golden: Golden, values: Numbers) -> str:
    if golden.classes and len(values) > 1:
        best = _argmax(values)
        return f"class {best} ({values[best]:.4g})"
    return ", ".join(f"{value:.4g}" for value in values[:4]) + (", …" if len(values) > 4 else "")


def _garbled(sample: int, expected: dict[str, Tensor], reason: str, got: str) -> Mismatch:
    name, tensor = next(iter(expected.items()))
    shown = ", ".join(f"{value:.4g}" for value in tensor.data[:3]) + (", …" if len(tensor.data) > 3 else "")
    return Mismatch(sample, name, shown, got, None, reason)


def _is_hex_digest(text: str) -> bool:
    try:
        parse_digest(f"sha256:{text}")
    except ModelshipError:
        return False
    return True
