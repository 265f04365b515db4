"""The README's example project, taken from the README, passes its own gates, whatever the size of its model."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from .conftest import ROOT
from .test_model_modules import Tasks

pytestmark = pytest.mark.integration

#: Red apples and green pears on noise.
MAKE_FRUIT = """
import sys
import numpy
rng = numpy.random.default_rng(0)
classes = rng.permutation(numpy.arange(400) % 2)
images = rng.integers(0, 60, (400, 12, 12, 3))
images[numpy.arange(400), 3:9, 3:9, classes] += rng.integers(80, 190, (400, 6, 6))
numpy.savez(sys.argv[1], x=images.astype("uint8"), y=classes)
"""
SKLEARN = """
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def build(parameters, signature):
    return make_pipeline(StandardScaler(), LogisticRegression())
"""


def blocks(language: str, first_line: str) -> str:
    """The README's block of code that begins with *first_line*."""
    found = re.findall(
        rf"```{language}\n({re.escape(first_line)}\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert len(found) == 1, f"the README has {len(found)} blocks that begin with {first_line}"
    return str(found[0])


def write(folder: Path, variant: str) -> None:
    yml, code = blocks("yaml", "# model.yml"), blocks("python", "# project.py")
    if variant == "tiny":
        code, count = re.subn(r"\n.*Dense\(32,.*", "", code)
        assert count == 1
    if variant == "large":
        code = code.replace("Dense(32,", "Dense(1000,")
    if variant == "sklearn":
        yml, code = yml.replace("framework: keras", "framework: sklearn"), SKLEARN
    folder.mkdir()
    (folder / "model.yml").write_text(yml)
    (folder / "project.py").write_text(code)


@pytest.mark.parametrize("variant", ["as written", "tiny", "large", "sklearn"])
def test_the_example_project_passes_its_own_gates(trainer_python: str, tmp_path: Path, variant: str) -> None:
    project, tasks = tmp_path / "fruit", Tasks(tmp_path)
    write(project, variant)
    subprocess.run([trainer_python, "-c", MAKE_FRUIT, str(project / "fruit.npz")], check=True)
    trainer = {"trainer_python": trainer_python, "trainer_path": str(ROOT / "model" / "src")}
    common = {"project": str(project), "releases": str(tmp_path / "releases"), **trainer}
    trained = tasks.run("model_train", common).result
    assert not trained.get("failed"), trained
    compressed = tasks.run("model_compress", {**common, "release": trained["release"]["path"]}).result
    assert not compressed.get("failed"), compressed
    assert {gate["gate"]: gate["verdict"] for gate in compressed["gates"]} == {
        "accuracy_drop": "passed",
        "size_bytes": "passed",
    }
    facts = compressed["release"]["compression"]
    assert facts["size_ratio"] <= 1
    if variant in ("as written", "large"):
        assert facts["methods"] == ["quantize"]
    if variant == "large":
        assert facts["size_ratio"] <= 0.35  # what the README says of larger models
    for method, reason in facts.get("skipped", {}).items():
        assert f"{method} was skipped: {reason}" in compressed["msg"]
    assert bool(facts.get("skipped")) == (variant == "sklearn")
    request = {key: value for key, value in common.items() if key != "releases"}
    evaluated = tasks.run(
        "model_evaluate", {**request, "release": compressed["release"]["path"], "dest": str(tmp_path / "report")}
    ).result
    assert not evaluated.get("failed"), evaluated
    assert "failed" not in json.dumps([gate["verdict"] for gate in evaluated["gates"]])
    assert evaluated["evaluation"]["accuracy"] >= 0.95
