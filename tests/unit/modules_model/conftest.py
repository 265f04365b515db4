"""A trainer whose model side is a few lines of Python, for what can go wrong with a process."""

from __future__ import annotations

import sys
import textwrap
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._model.trainer import Trainer

#: Put before each scripted model side: writes one event.
PRELUDE = """
import json, os, subprocess, sys, time

def say(**event):
    print(json.dumps(event), flush=True)
"""


class MakeTrainer(t.Protocol):
    """Makes a trainer whose ``python -m modelship_model`` runs *script*."""

    def __call__(self, script: str, **settings: t.Any) -> Trainer: ...


@pytest.fixture
def scripted(tmp_path: Path) -> MakeTrainer:
    """A real interpreter with a model side of the test's own."""

    def make(script: str, **settings: t.Any) -> Trainer:
        package = tmp_path / "scripted" / "modelship_model"
        package.mkdir(parents=True, exist_ok=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(PRELUDE + textwrap.dedent(script))
        return Trainer(python=sys.executable, path=str(package.parent), **settings)

    return make
