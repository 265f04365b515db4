# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The golden set: read from a release, sent to an endpoint, compared with its responses.

Small samples are sent as JSON. Large ones, pictures for example, are sent and returned as binary tensors where the endpoint
has V2's binary tensor data extension; as JSON they would be five times as large.
"""

from __future__ import annotations

import array
import dataclasses
import json
import math
import os
import re
import typing as t
import urllib.parse

from .._core.content import canonical_json, is_digest, sha256_bytes
from .._core.errors import ModelshipError
from .._core.files import explained
from .._core.values import is_integer
from .http import Answer
from .safetensors import is_safetensors, numbers, read_tensors

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

Numbers = t.Sequence[float]

#: Where a release has its golden set; the second is how releases made by 0.1 had it.
FILES = ("golden.safetensors", "golden.json")
#: Samples whose tensors take more bytes than this are sent as binary tensors where the endpoint knows them.
JSON_BYTES = 64 << 10
#: Axes of a tensor in JSON; numpy has up to 64.
_MOST_AXES = 64
#: The header of the binary tensor data extension, for requests and responses: how many bytes of the body are JSON.
HEADER_LENGTH = "inference-header-content-length"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One sample's tensor.

    :param shape: without the batch axis.
    :param data: its numbers in row-major order.
    :param raw: the same, little-endian, where the golden set is a binary one.
    :param datatype: V2's name of the data type of *raw*.
    """

    shape: tuple[int, ...]
    data: Numbers
    raw: memoryview | None = None
    datatype: str = ""


@dataclasses.dataclass(frozen=True)
class Call:
    """One request to the endpoint."""

    method: str
    path: str
    body: bytes | None = None
    headers: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


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
    with explained(path), open(os.path.join(path, "release.json"), "rb") as stream:
        raw = stream.read()
    digest = sha256_bytes(raw)
    folder = os.path.basename(os.path.normpath(path))
    if is_digest(f"sha256:{folder}") and digest != f"sha256:{folder}":
        raise ModelshipError(f"release {path} is corrupted: its release.json is {digest}; make the release again")
    try:
        manifest = json.loads(raw)
        name = str(manifest["name"])
        file = next((each for each in FILES if each in manifest["files"]), "")
        declared = str(manifest["files"][file]["sha256"]) if file else ""
        datatypes = {item["name"]: V2_DATATYPES.get(item["dtype"], "FP32") for item in manifest["signature"]["inputs"]}
    except (ValueError, KeyError, TypeError) as exc:
        raise ModelshipError(f"{path}/release.json is no release manifest ({exc!r}): give a release folder") from exc
    if not file:
        raise ModelshipError(f"release {path} has no golden set ({FILES[0]}): make the release again")
    place = os.path.join(path, file)
    with explained(place), open(place, "rb") as stream:
        content = stream.read()
    if sha256_bytes(content) != "sha256:" + declared.removeprefix("sha256:"):
        raise ModelshipError(f"release {path} is corrupted: {file} is not the one in release.json")
    return dataclasses.replace(parse_golden(content, place), name=name, release=digest, datatypes=datatypes)


def load_golden(path: str) -> Golden:
    """Read the golden file *path*.

    :raises ModelshipError: it cannot be read or is no golden set.
    """
    with explained(path), open(path, "rb") as stream:
        return parse_golden(stream.read(), path)


def parse_golden(raw: bytes, path: str) -> Golden:
    """Decode a golden set (docs/formats.md), binary or JSON; *path* is named in errors.

    :raises ModelshipError: a key is missing, lists are ragged, counts of samples differ, or there is no sample.
    """
    try:
        golden = _parse_safetensors(raw) if is_safetensors(raw) else _parse_json(raw)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ModelshipError(f"{path} is not a golden set: {exc!r}") from exc
    if not golden.inputs or len(golden.inputs) != len(golden.outputs):
        raise ModelshipError(
            f"{path} is not a golden set: {len(golden.inputs)} inputs and {len(golden.outputs)} outputs"
        )
    return golden


def _parse_json(raw: bytes) -> Golden:
    value = json.loads(raw)
    return _golden(_by_sample(value["inputs"]), _by_sample(value["outputs"]), value.get("tolerance") or {})


def _parse_safetensors(raw: bytes) -> Golden:
    tensors, metadata = read_tensors(raw)
    parts: dict[str, list[dict[str, Tensor]]] = {"inputs": [], "outputs": []}
    datatypes = {}
    for name, tensor in tensors.items():
        part, _slash, key = name.partition("/")
        if not tensor.shape or part not in parts or not key:
            raise ValueError(f"'{name}' is neither inputs/NAME nor outputs/NAME with a sample axis")
        if tensor.shape[0] > len(raw):
            raise ValueError(f"'{name}' has {tensor.shape[0]} samples, but the file only {len(raw)} bytes")
        samples = parts[part] = parts[part] or [{} for _unused in range(tensor.shape[0])]
        if len(samples) != tensor.shape[0]:
            raise ValueError("tensors with different counts of samples")
        size = len(tensor.data) // max(1, tensor.shape[0])
        for index, sample in enumerate(samples):
            data = tensor.data[index * size : (index + 1) * size]
            sample[key] = Tensor(tensor.shape[1:], numbers(tensor.datatype, data), data, tensor.datatype)
        if part == "inputs":
            datatypes[key] = tensor.datatype
    golden = _golden(parts["inputs"], parts["outputs"], json.loads(metadata.get("tolerance", "{}")))
    return dataclasses.replace(golden, datatypes=datatypes)


def _golden(
    inputs: list[dict[str, Tensor]], outputs: list[dict[str, Tensor]], tolerance: t.Mapping[str, t.Any]
) -> Golden:
    absolute = tolerance.get("absolute", 0.0)
    if not _is_finite(absolute) or absolute < 0:
        raise ValueError(f"its tolerance {str(absolute)[:40]!r} is not a number of at least 0")
    return Golden(inputs, outputs, float(absolute), tolerance.get("classes") == "equal")


def wants_binary(golden: Golden) -> bool:
    """Whether samples are better sent as binary tensors: they are large or hold NaN or infinity, and there are such tensors."""
    tensors = [*golden.inputs[0].values(), *golden.outputs[0].values()]
    if any(each.raw is None for each in tensors):
        return False
    if sum(len(each.raw or b"") for each in tensors) > JSON_BYTES:
        return True
    return not all(
        math.isfinite(number)
        for sample in (*golden.inputs, *golden.outputs)
        for tensor in sample.values()
        for number in tensor.data
    )


def model_path(name: str) -> str:
    """Return the path of the model *name* in V2."""
    return f"/v2/models/{urllib.parse.quote(name, safe='')}"


def call_for(
    golden: Golden, sample: int, protocol: str, name: str, datatypes: t.Mapping[str, str], *, binary: bool = False
) -> Call:
    """Return the request for one *sample*.

    :param protocol: ``v2`` or ``predict``.
    :param name: the model's name in V2 paths.
    :param datatypes: V2 data types of the inputs by name.
    :param binary: send and ask for binary tensors; for ``v2`` alone, where :func:`wants_binary`.
    :raises ModelshipError: the sample holds numbers that have no JSON form.
    """
    tensors = golden.inputs[sample]
    if protocol == "predict":
        return Call("POST", "/predict", canonical_json({"image": list(next(iter(tensors.values())).data)}))
    path = f"{model_path(name)}/infer"
    if not binary:
        inputs = []
        for key, tensor in tensors.items():
            datatype = datatypes.get(key, "FP32")
            data = _typed(tensor.data, datatype)
            inputs.append({"name": key, "shape": [1, *tensor.shape], "datatype": datatype, "data": data})
        try:
            return Call("POST", path, canonical_json({"inputs": inputs}))
        except ValueError as exc:
            raise ModelshipError(
                f"golden sample {sample} holds NaN or infinity, which JSON cannot carry, and the endpoint has no binary tensors: "
                "verify it with a golden set of finite numbers"
            ) from exc
    header = canonical_json(
        {
            "inputs": [
                {
                    "name": key,
                    "shape": [1, *tensor.shape],
                    "datatype": tensor.datatype,
                    "parameters": {"binary_data_size": len(tensor.raw or b"")},
                }
                for key, tensor in tensors.items()
            ],
            "parameters": {"binary_data_output": True},
        }
    )
    headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return Call("POST", path, b"".join([header, *(tensor.raw or b"" for tensor in tensors.values())]), headers)


def compare(golden: Golden, sample: int, answer: Answer, protocol: str) -> tuple[list[Mismatch], float]:
    """Compare *answer* with the golden answer of *sample*; return what differs and the largest absolute difference."""
    expected = golden.outputs[sample]
    if answer.status != 200:
        return [_garbled(sample, expected, f"status {answer.status}", answer.beginning())], math.inf
    try:
        got = _predicted(answer.json(), expected) if protocol == "predict" else _inferred(*_decoded(answer), expected)
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
    difference = max((_difference(a, b) for a, b in zip(expected, got, strict=True)), default=0.0)
    reasons = []
    if golden.classes and len(expected) > 1 and _argmax(expected) != _argmax(got):
        reasons.append("another class")
    if difference > golden.absolute:
        reasons.append(f"differs by more than {golden.absolute:g}")
    if not reasons:
        return [], difference
    shown = (_shown(golden, expected), _shown(golden, got))
    known = difference if math.isfinite(difference) else None
    return [Mismatch(sample, name, *shown, known, ", ".join(reasons))], difference


def _difference(one: float, other: float) -> float:
    """Return the absolute difference; NaN equals NaN alone, and an infinity itself alone."""
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    difference = abs(one - other)
    return difference if math.isfinite(difference) else math.inf


def _decoded(answer: Answer) -> tuple[t.Any, memoryview]:
    """Return the JSON of a V2 response and the binary tensors behind it.

    :raises ModelshipError: it is not JSON, or its header length cannot be right.
    """
    length = answer.headers.get(HEADER_LENGTH)
    if length is None:
        return answer.json(), memoryview(b"")
    if not re.fullmatch("[0-9]{1,18}", length) or int(length) > len(answer.body):
        raise ModelshipError(f"the response's {HEADER_LENGTH} {length!r} cannot be right")
    document = dataclasses.replace(answer, body=answer.body[: int(length)]).json()
    return document, memoryview(answer.body)[int(length) :]


def _inferred(value: t.Any, binary: memoryview, expected: dict[str, Tensor]) -> dict[str, Numbers | int]:
    outputs = value.get("outputs") if isinstance(value, dict) else None
    if not isinstance(outputs, list):
        raise ModelshipError("the answer has no list 'outputs'")
    by_name = {item["name"]: item for item in outputs if isinstance(item, dict) and isinstance(item.get("name"), str)}
    content: dict[str, Numbers] = {}
    for name, item in by_name.items():
        parameters = item.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is not None:
            if not is_integer(size) or not 0 <= size <= len(binary):
                raise ModelshipError(f"output '{name}' has binary_data_size {size!r}, but {len(binary)} bytes follow")
            try:
                content[name] = numbers(str(item.get("datatype")), binary[:size])
            except ValueError as exc:
                raise ModelshipError(f"output '{name}': {exc}") from exc
            binary = binary[size:]
    found: dict[str, Numbers | int] = {}
    for name, tensor in expected.items():
        if name not in by_name:
            raise ModelshipError(f"the answer has no output '{name}' (it has {sorted(by_name)})")
        shape, data = by_name[name].get("shape"), content.get(name, by_name[name].get("data"))
        if (shape or []) not in ([1, *tensor.shape], list(tensor.shape)):
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
    if isinstance(result, bool) or not _is_finite(result):
        raise ModelshipError("the answer has neither 'probabilities' nor a number 'result'")
    if len(tensor.data) == 1:
        return {name: [float(result)]}
    if result != int(result):
        raise ModelshipError(f"'result' is {result}, which is not a class")
    return {name: int(result)}


def _numbers(name: str, value: t.Any, count: int) -> Numbers:
    data: Numbers = value if isinstance(value, array.array | tuple) else _flat(value, name)[0]
    if len(data) != count:
        raise ModelshipError(f"'{name}' has {len(data)} values, not {count}")
    return data


def _flat(value: t.Any, name: str, depth: int = 0) -> tuple[list[float], tuple[int, ...]]:
    """Return the numbers of nested lists and their shape.

    :raises ModelshipError: something in it is not a finite number, or the lists are ragged or nested too deeply.
    """
    if isinstance(value, list):
        if depth == _MOST_AXES:
            raise ModelshipError(f"'{name}' has more than {_MOST_AXES} axes")
        parts = [_flat(item, name, depth + 1) for item in value]
        shapes = {shape for _data, shape in parts}
        if len(shapes) > 1:
            raise ModelshipError(f"'{name}' is ragged")
        return [number for data, _shape in parts for number in data], (len(value), *next(iter(shapes), ()))
    if _is_finite(value):
        return [float(value)], ()
    raise ModelshipError(f"'{name}' holds {str(value)[:40]!r}, which is no finite number")


def _is_finite(value: t.Any) -> t.TypeGuard[float]:
    """Whether *value* is a number that a float can hold."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False


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
    return list(data)


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
