"""The requests that all contestants get, in the forms they understand, and what a right answer is."""

from __future__ import annotations

import dataclasses
import http.client
import json
import random
import struct
from pathlib import Path
from typing import Any

from ansible_collections.modelship.core.plugins.module_utils._endpoint.golden import load_release

from .wrk import Request

PREDICT, INFER, BINARY = "/predict", "V2 infer, JSON", "V2 infer, binary"
#: INFER with numbers as a preprocessing leaves them: every digit that a float32 has when it is written as JSON.
FRACTIONS = "V2 infer, JSON of fractions"
_JSON = {"Content-Type": "application/json"}


class WrongAnswer(ValueError):  # noqa: N818 - a verdict on a contestant
    """An answer is not 200, or not what the release's golden set says."""


@dataclasses.dataclass(frozen=True)
class Golden:
    """Samples (flat) with the answers they must get.

    :ivar tolerance: by how much a probability may differ.
    """

    samples: list[list[float]]
    answers: list[list[float]]
    tolerance: float


def golden(release: Path) -> Golden:
    """Return the release's golden set."""
    found = load_release(str(release))
    samples, outputs = (
        [list(next(iter(each.values())).data) for each in part] for part in (found.inputs, found.outputs)
    )
    return Golden(samples, outputs, found.absolute)


def signature(release: Path) -> tuple[str, str, list[int]]:
    """Return the model's name, its input's name, and the shape of one sample in a batch of one."""
    manifest = json.loads((release / "release.json").read_text())
    spec = manifest["signature"]["inputs"][0]
    return manifest["name"], spec["name"], [1, *spec["shape"][1:]]


def sample(release: Path) -> bytes:
    """Return the body for ``/predict``: whole numbers, four fifths zeros, as an image of a digit has."""
    return request(PREDICT, release, values(release)).body


def values(release: Path) -> list[int]:
    """Return the numbers of that body."""
    size = 1
    for axis in signature(release)[2]:
        size *= axis
    source = random.Random(1)  # noqa: S311 - the same body in every run
    return [0 if source.random() < 0.8 else source.randrange(256) for _ in range(size)]


def fractions(release: Path) -> list[float]:
    """Return as many numbers from 0 to 255, each a float32 with its fraction."""
    source = random.Random(2)  # noqa: S311 - the same body in every run
    return [struct.unpack("<f", struct.pack("<f", source.uniform(0, 255)))[0] for _ in values(release)]


def request(form: str, release: Path, numbers: list[float] | list[int]) -> Request:
    """Return the request that asks for one sample in this *form*."""
    name, field, shape = signature(release)
    path = f"/v2/models/{name}/infer"
    if form == PREDICT:
        return Request("/predict", json.dumps({field: numbers}).encode(), _JSON)
    tensor: dict[str, Any] = {"name": field, "shape": shape, "datatype": "FP32"}
    if form in (INFER, FRACTIONS):
        return Request(path, json.dumps({"inputs": [{**tensor, "data": numbers}]}).encode(), _JSON)
    # https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
    data = struct.pack(f"<{len(numbers)}f", *numbers)
    tensor["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return Request(path, head + data, headers)


def ask(port: int, form: str, wanted: Request) -> list[float]:
    """Send the request once and return the probabilities.

    :raises OSError: no connection. :raises WrongAnswer: anything but 200 with probabilities.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", wanted.path, wanted.body, wanted.headers)
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as exc:
        raise WrongAnswer(f"{form}: no HTTP answer ({exc!r})") from exc
    finally:
        connection.close()
    if answer.status != 200:
        raise WrongAnswer(f"{form}: {answer.status} {body[:200]!r}")
    try:
        return probabilities(form, body, answer.headers.get("Inference-Header-Content-Length"))
    except (ValueError, KeyError, IndexError, TypeError, struct.error) as exc:
        raise WrongAnswer(f"{form}: {exc!r} in {body[:200]!r}") from exc


def probabilities(form: str, body: bytes, head: str | None) -> list[float]:
    """Read them from an answer; *head* is the length of its JSON where tensors follow in binary."""
    if form == PREDICT:
        return [float(value) for value in json.loads(body)["probabilities"]]
    if form in (INFER, FRACTIONS):
        return [float(value) for value in json.loads(body)["outputs"][0]["data"]]
    if head is None:
        raise ValueError("no Inference-Header-Content-Length")
    data = body[int(head) :]
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def check(port: int, form: str, release: Path, expected: Golden) -> None:
    """Ask for each sample of the golden set.

    :raises WrongAnswer: an answer is not right.
    """
    for number, (numbers, right) in enumerate(zip(expected.samples, expected.answers, strict=True)):
        got = ask(port, form, request(form, release, numbers))
        if not alike(got, right, expected.tolerance) or got.index(max(got)) != right.index(max(right)):
            raise WrongAnswer(f"{form}: golden sample {number}: {got} instead of {right}")


def alike(one: list[float], other: list[float], tolerance: float) -> bool:
    """Tell whether no number differs by more than *tolerance*."""
    return len(one) == len(other) and all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def _flat(value: Any) -> list[float]:
    return [number for part in value for number in _flat(part)] if isinstance(value, list) else [value]
