"""A model project in a temporary folder, and the model side's plan of it."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

pytest.importorskip("yaml", reason="PyYAML, which model.yml is read with, is not installed here")

MODEL_YML = """\
name: tiny
framework: sklearn
code: project.py
data: {source: npz, path: data.npz, test: 0.5}
labels: ["no", "yes"]
input: {name: image, range: [0, 255]}
parameters: {epochs: 3, learning_rate: 1e-3, shuffle: true, solver: adam, seed: 1}
compress: {methods: [quantize, prune], sparsity: 0.6}
gates: {accuracy: 0.9}
"""


class Folder:
    """The folder of a model project, and requests about it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "project"
        self.releases = root / "releases"
        self.root.mkdir()
        self.write("model.yml", MODEL_YML)
        self.write("project.py", "def build(parameters, signature): ...\n")
        self.write("data.npz", "stands for data: plans hash it, they do not read it")

    def write(self, name: str, content: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def edit(self, old: str, new: str) -> None:
        """Replace *old*, which must be there, in ``model.yml``."""
        text = (self.root / "model.yml").read_text()
        assert old in text
        self.write("model.yml", text.replace(old, new))

    def request(self, **more: t.Any) -> dict[str, t.Any]:
        return {
            "project": str(self.root),
            "releases": str(self.releases),
            "work": str(self.root.parent / "work"),
            **more,
        }

    def plan(self, **more: t.Any) -> dict[str, t.Any]:
        """The answer of ``plan`` for a training."""
        import io

        from modelship_model import planning
        from modelship_model.events import Events

        return planning.run({"command": "train", **self.request(**more)}, Events(io.StringIO()))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
