"""The shadow's queue: what it holds, and that it holds no more."""

from __future__ import annotations

import threading
import time
import types
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="the serving runtime's dependencies are not installed here")
pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving import shadow
from modelship_serving.logs import Log
from modelship_serving.settings import Settings
from modelship_serving.shadow import Shadow, ShadowCounts


class Slow:
    """A model that runs only once it may."""

    version = "slow"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.inputs: list[Any] = []

    def run(self, inputs: list[Any]) -> list[Any]:
        assert self.gate.wait(20)
        self.inputs.append(inputs[0])
        return inputs


def shadow_of(run: Any, counts: ShadowCounts, class_output: int | None) -> Shadow:
    signature = types.SimpleNamespace(class_output=class_output)
    model: Any = types.SimpleNamespace(run=run, version="slow", release=types.SimpleNamespace(signature=signature))
    return Shadow(model, counts.row(0), Settings(), Log("error"))


def count(counts: ShadowCounts, name: str) -> int:
    line = next(line for line in counts.lines() if line.startswith(f"modelship_shadow_{name}_total{{"))
    return int(line.rpartition(" ")[2])


@pytest.mark.parametrize(("samples", "numbers", "taken"), [(1, 100, shadow.MAX_WAITING), (8, 1 << 16, 4)])
def test_samples_and_bytes_that_wait_are_bounded(samples: int, numbers: int, taken: int):
    model, counts = Slow(), ShadowCounts("slow", 1)
    observer = shadow_of(model.run, counts, None)
    body = np.zeros((samples * 4, numbers), "float32")
    for _ in range(taken + 7):
        observer([body[:samples]], [body[:samples]])  # 4 MB or next to nothing, each
    assert count(counts, "dropped") == 7 * samples
    model.gate.set()
    deadline = time.monotonic() + 20
    while observer._done_bytes < observer._bytes and time.monotonic() < deadline:
        time.sleep(0.01)
    assert count(counts, "samples") == taken * samples
    assert all(array.base is None for array in model.inputs), "none keeps the body alive that it came from"
    observer([body[:samples]], [body[:samples]])
    assert count(counts, "dropped") == 7 * samples, "there is room again"


@pytest.mark.parametrize(("class_output", "disagreements"), [(None, 0), (0, 1), (1, 0)])
def test_versions_disagree_on_classes_only(class_output: int | None, disagreements: int):
    """Whose greatest number stands elsewhere differs; a disagreement is another class."""
    counts = ShadowCounts("slow", 1)
    outputs = [np.array([[0.6, 0.4]], "float32"), np.array([[0.1, 0.9]], "float32")]
    observer = shadow_of(lambda _inputs: [outputs[0][:, ::-1], outputs[1]], counts, class_output)
    observer([np.zeros((1, 1), "float32")], outputs)
    deadline = time.monotonic() + 20
    while not count(counts, "samples") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert count(counts, "disagreements") == disagreements
