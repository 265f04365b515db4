"""What a confined process made is kept only where it holds; nothing of it is believed."""

from __future__ import annotations

import io
import os
import typing as t
from pathlib import Path

import pytest

from modelship_model import publishing
from modelship_model.errors import ModelError
from modelship_model.events import Events
from modelship_model.hashing import sha256_file, sha256_json
from modelship_model.release import Draft, open_release


class Import:
    """An import whose draft was made in a scratch directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.model, self.samples = root / "model.onnx", root / "samples.npz"
        self.model.write_text("model")
        self.samples.write_text("samples")
        inputs: dict[str, t.Any] = {
            "kind": "import",
            "data": sha256_json({"samples": sha256_file(str(self.samples))}),
            "parent": None,
            "options": {"model": sha256_json(sha256_file(str(self.model)))},
        }
        self.inputs = {**inputs, "digest": sha256_json(inputs)}
        self.draft = self.made()

    def made(self, **lies: t.Any) -> Path:
        with Draft(str(self.root / "scratch"), "x") as draft:
            Path(draft.path("model/model.onnx")).write_text("model")
            manifest = {"name": "x", "kind": "import", "inputs": self.inputs, "model": {"path": "model/model.onnx"}}
            return Path(draft.publish({**manifest, **lies})["path"])

    def publish(self, **more: t.Any) -> dict[str, t.Any]:
        request = {
            "inputs": self.inputs, "name": "x", "kind": "import", "releases": str(self.root / "releases"),
            "model": str(self.model), "samples": str(self.samples), "draft": str(self.draft), **more,
        }  # fmt: skip
        return publishing.run(request, Events(io.StringIO()))

    def refusal(self, **more: t.Any) -> str:
        with pytest.raises(ModelError) as caught:
            self.publish(**more)
        assert list((self.root / "releases").glob("x/[0-9a-f]*")) == []
        return caught.value.message


@pytest.fixture
def made(tmp_path: Path) -> Import:
    return Import(tmp_path)


def test_a_whole_draft_is_published_under_the_same_digest_and_found(made: Import) -> None:
    assert made.publish(draft=None) == {"existing": None, "latest": None}
    release = made.publish()["release"]
    assert Path(release["path"]).name == made.draft.name
    assert open_release(release["path"])["inputs"] == made.inputs
    found = made.publish(draft=None)
    assert found["existing"] == release["path"]
    assert found["latest"]["path"] == release["path"]


def test_links_and_special_files_are_refused(made: Import) -> None:
    (made.draft / "link").symlink_to("/etc/passwd")
    assert "'link' is a link or a special file" in made.refusal()
    (made.draft / "link").unlink()
    os.mkfifo(made.draft / "pipe")
    assert "'pipe' is a link or a special file" in made.refusal()


@pytest.mark.parametrize("what", ["model", "samples"])
def test_inputs_that_were_not_given_are_refused(made: Import, what: str) -> None:
    getattr(made, what).write_text("something else")
    assert f"the digest of the {what} is wrong" in made.refusal()


def test_a_wrong_digest_of_the_inputs_is_refused(made: Import) -> None:
    assert "the digest of the inputs is wrong" in made.refusal(inputs={**made.inputs, "digest": "sha256:" + "0" * 64})


def test_a_release_of_another_name_or_kind_is_refused(made: Import) -> None:
    assert "not of the inputs that were planned" in made.refusal(name="y")
    assert "not of the inputs that were planned" in made.refusal(kind="compress")


def test_an_altered_file_is_refused(made: Import) -> None:
    (made.draft / "model" / "model.onnx").write_text("other")
    assert "is corrupted" in made.refusal()


@pytest.mark.parametrize("path", ["", "..", "../x", "/etc/passwd", "model/other", "mod", None, 1])
def test_a_model_outside_of_its_release_is_refused(made: Import, path: t.Any) -> None:
    """Even where it is the very file that was given: the release would not hold it."""
    wanted = str(made.model) if path == "/etc/passwd" else path
    assert "is not among the release's files" in made.refusal(draft=str(made.made(model={"path": wanted})))


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "..", ".", "", "X", "a/b", None, ["x"]])
def test_a_release_whose_name_is_a_path_is_refused(made: Import, name: t.Any) -> None:
    draft = made.made(name=name)
    with pytest.raises(ModelError, match="not lower-case letters, digits and inner dashes") as caught:
        open_release(str(draft))
    assert caught.value.kind == "release"
    assert "lower-case" in made.refusal(draft=str(draft))
