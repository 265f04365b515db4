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


def count(counts: ShadowCounts, name: str) -> int:
    line = next(line for line in counts.lines() if line.startswith(f"modelship_shadow_{name}_total{{"))
    return int(line.rpartition(" ")[2])


@pytest.mark.parametrize(("samples", "numbers", "taken"), [(1, 100, shadow.MAX_WAITING), (8, 1 << 16, 4)])
def test_samples_and_bytes_that_wait_are_bounded(samples: int, numbers: int, taken: int):
    model, counts = Slow(), ShadowCounts("slow", 1)
    observer = Shadow(types.SimpleNamespace(run=model.run, version="slow"), counts.row(0), Settings(), Log("error"))
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
