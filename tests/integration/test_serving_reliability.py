"""The trials of ``python -m tests.soak``, in seconds instead of minutes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.soak import checks

pytestmark = pytest.mark.integration

TRIALS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "memory does not grow": lambda folder: checks.memory(folder, 30_000),
    "a killed worker loses only what it was working on": lambda folder: checks.killed(folder, 2),
    "twice the load is shed with 503": lambda folder: checks.overload(folder, 5),
    "slow clients do not starve others": lambda folder: checks.slowloris(folder, 2),
}


@pytest.mark.parametrize("name", TRIALS)
def test_reliability(name: str, tmp_path: Path):
    figures = TRIALS[name](tmp_path)
    print(name, json.dumps(figures))
