"""Plans: what changes a release's inputs, what does not, and that planning is quick and needs no framework."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from modelship_model import cli, planning
from modelship_model.errors import ModelError, reason_of
from modelship_model.events import Events
from modelship_model.release import Draft, find_release, open_release

if t.TYPE_CHECKING:
    from .conftest import Folder

SOURCES = Path(__file__).resolve().parents[3] / "model" / "src"


def publish(folder: Folder, inputs: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    with Draft(str(folder.releases), "tiny") as draft:
        Path(draft.path("model/model.onnx")).write_bytes(b"weights")
        draft.write_json("golden.json", {})
        model = {"format": "onnx", "path": "model/model.onnx", "size": 7}
        return draft.publish(
            {"name": "tiny", "kind": "train", "inputs": inputs, "model": model, "framework": "onnx", **more}
        )


def test_only_what_decides_a_release_changes_its_inputs(folder: Folder) -> None:
    first = folder.plan()["inputs"]
    folder.edit("accuracy: 0.9", "accuracy: 0.5")
    folder.edit("[quantize, prune]", "[quantize]")
    folder.edit("name: tiny", "name: tiny\ndescription: another text")
    folder.write(".hidden", "x")
    folder.write("__pycache__/project.pyc", "x")
    assert folder.plan()["inputs"] == first


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda folder: folder.write("project.py", "def build(*_): return 1"), "code"),
        (lambda folder: folder.write("helpers/more.py", ""), "code"),
        (lambda folder: folder.edit('["no", "yes"]', '["nay", "yes"]'), "code"),
        (lambda folder: folder.edit("range: [0, 255]", "range: [0, 1]"), "code"),
        (lambda folder: folder.write("data.npz", "other"), "data"),
        (lambda folder: folder.edit("test: 0.5", "test: 0.4"), "data"),
        (lambda folder: folder.edit("seed: 1", "seed: 2"), "parameters"),
    ],
)
def test_one_change_shows_in_one_place(folder: Folder, change: t.Callable[[Folder], t.Any], key: str) -> None:
    before = folder.plan()["inputs"]
    change(folder)
    after = folder.plan()["inputs"]
    assert {name for name in before if before[name] != after[name]} == {key, "digest"}


def test_inputs_do_not_depend_on_the_folder(folder: Folder, tmp_path: Path) -> None:
    before = folder.plan()["inputs"]
    folder.root = folder.root.rename(tmp_path / "elsewhere")
    assert folder.plan()["inputs"] == before


def test_an_existing_release_is_found_and_a_damaged_one_refused(folder: Folder) -> None:
    inputs = folder.plan()["inputs"]
    assert folder.plan()["existing"] is None
    release = publish(folder, inputs)
    answer = folder.plan()
    assert answer["existing"] == release["path"]
    assert answer["latest"] == {"path": release["path"], "inputs": inputs}
    assert os.path.basename(release["path"]) == release["digest"].removeprefix("sha256:")

    other = folder.plan(parameters={"epochs": 4})
    assert other["existing"] is None
    assert other["latest"]["inputs"] == inputs

    (Path(release["path"]) / "model" / "model.onnx").write_bytes(b"weightz")
    with pytest.raises(ModelError, match=r"model/model\.onnx is corrupted") as caught:
        folder.plan()
    assert caught.value.kind == "release"


def replace_by_link(path: Path) -> None:
    """Put a link with the same content in the place of the file or directory *path*."""
    target = path.parent.parent / f"moved-{path.name}"
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "golden.json").unlink(), "golden.json is missing"),
        (lambda root: (root / "extra").write_text("x"), "extra is not listed"),
        (lambda root: (root / "release.json").write_text("{}"), "release.json is corrupted"),
        (lambda root: (root / "release.json").unlink(), "is no release"),
        (lambda root: replace_by_link(root / "golden.json"), r"golden\.json is a link or not a regular file"),
        (lambda root: replace_by_link(root / "model"), "model is a link or not a regular file"),
    ],
)
def test_damage_is_named(folder: Folder, damage: t.Callable[[Path], t.Any], words: str) -> None:
    release = publish(folder, folder.plan()["inputs"])
    damage(Path(release["path"]))
    with pytest.raises(ModelError, match=words):
        open_release(release["path"])


def test_publishing_again_keeps_what_is_there_and_leaves_nothing_behind(folder: Folder) -> None:
    inputs = folder.plan()["inputs"]
    first, again = publish(folder, inputs), publish(folder, inputs)
    assert first["path"] == again["path"]
    with pytest.raises(RuntimeError), Draft(str(folder.releases), "tiny") as draft:
        draft.write_json("golden.json", {})
        raise RuntimeError
    assert sorted(os.listdir(folder.releases / "tiny")) == sorted([".lock", os.path.basename(first["path"]), "inputs"])


def test_a_removed_release_counts_as_none(folder: Folder) -> None:
    import shutil

    inputs = folder.plan()["inputs"]
    shutil.rmtree(publish(folder, inputs)["path"])
    assert find_release(str(folder.releases), "tiny", inputs["digest"]) is None
    assert folder.plan()["latest"] is None


def test_compression_is_planned_by_its_parent(folder: Folder) -> None:
    release = publish(folder, folder.plan()["inputs"])

    def plan(**more: t.Any) -> dict[str, t.Any]:
        request = {"command": "compress", **folder.request(release=release["path"], **more)}
        return planning.run(request, Events(io.StringIO()))

    answer = plan(methods=["quantize"])
    assert answer["inputs"]["parent"] == release["digest"]
    assert answer["inputs"]["options"] == {"methods": ["quantize"], "calibration_samples": 256}
    assert answer["inputs"]["code"] is None  # a change of the code changes the parent, not this
    assert plan(methods=[])["inputs"]["options"] == {"methods": []}
    with pytest.raises(
        ModelError,
        match="prune needs a model that can still learn: this one is onnx, give a keras release, or leave prune out",
    ):
        plan()  # model.yml says prune, quantize
    with pytest.raises(ModelError, match="compress: unknown field 'method'; did you mean 'methods'"):
        plan(method=["quantize"])


def test_quantizing_twice_is_refused(folder: Folder) -> None:
    release = publish(folder, folder.plan()["inputs"], compression={"methods": ["quantize"]})
    with pytest.raises(ModelError, match="was made with quantize already"):
        planning.plan_compress(folder.request(release=release["path"], methods=["quantize"]))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.pkl", "is a pickle, which can run any code"),
        ("model.bin", "does not show in its name: give 'format'"),
        ("absent.onnx", "does not exist"),
    ],
)
def test_foreign_models_that_cannot_be_imported_are_named(tmp_path: Path, name: str, words: str) -> None:
    if not name.startswith("absent"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelError, match=words):
        planning.detect_format(str(tmp_path / name), None)


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        (["trian"], "{}", "unknown command 'trian'; did you mean 'train'?"),
        (["plan"], "{", "is not JSON"),
        (["plan"], "[]", "must be a JSON object"),
        (["plan"], "{}", "the field 'command' is missing"),
        (["plan"], '{"command": "train", "project": 3}', "the field 'project' must be text, not 3"),
        (["plan"], '{"command": "train", "projet": "x"}', "unknown field 'projet'; did you mean 'project'?"),
    ],
)
def test_wrong_requests_are_named(arguments: list[str], text: str, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        cli.run(arguments, text, Events(io.StringIO()))
    assert caught.value.kind == "request"
    assert words in caught.value.message


def run(command: str, request: dict[str, t.Any], *options: str) -> tuple[int, list[dict[str, t.Any]], str]:
    done = subprocess.run(
        [sys.executable, *options, "-m", "modelship_model", command],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        check=False,
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_the_process_plans_without_any_framework(folder: Folder) -> None:
    code, events, log = run("plan", {"command": "train", **folder.request()}, "-X", "importtime")
    assert (code, [event["event"] for event in events]) == (0, ["result"])
    imported = {line.rsplit("|", 1)[1].strip() for line in log.splitlines() if "|" in line}
    assert "yaml" in imported
    assert not imported & {"numpy", "tensorflow", "keras", "sklearn", "scipy", "onnx", "onnxruntime"}


def test_the_process_ends_with_one_error_event(folder: Folder) -> None:
    folder.edit("gates:", "gate:")
    code, events, _log = run("plan", {"command": "train", **folder.request()})
    assert code == 1
    (event,) = events
    assert (event["event"], event["kind"], event["traceback"]) == ("error", "project", None)


def test_a_missing_library_is_named_with_the_interpreter(folder: Folder) -> None:
    found = folder.plan()["missing"]
    if not found:
        pytest.skip("this interpreter has scikit-learn and skops")
    code, events, _log = run("train", folder.request())
    assert code == 1
    assert events[-1]["kind"] == "environment"
    assert sys.executable in events[-1]["message"]
    assert found[0] in events[-1]["message"]
    assert "trainer.txt" in events[-1]["message"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.onnx", b"", "is empty"),
        ("model.onnx", b"hello", "is not a valid ONNX model"),
        ("model.onnx", b"version https://git-lfs.github.com/spec/v1", "run git lfs pull"),
        ("model.tflite", b"\x08\x08", "is not a LiteRT file"),
        ("model.keras", b"\x89HDF\r\n", "is not a keras file: it is not a zip archive"),
        ("model.skops", b"cos\nsystem\n", "is not a skops file"),
        ("saved/saved_model.pb", b"text", "is not a valid SavedModel"),
    ],
)
def test_a_file_of_another_format_is_refused_by_its_header(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    (tmp_path / "samples.npz").write_bytes(b"not read")
    model = path.parent if path.name == "saved_model.pb" else path
    with pytest.raises(ModelError, match=words) as caught:
        planning.plan_import({"model": str(model), "name": "m", "samples": str(tmp_path / "samples.npz")})
    assert caught.value.kind == "release"


@pytest.mark.parametrize(("form", "name"), [("savedmodel", "file.onnx"), ("onnx", "directory")])
def test_a_file_for_a_directory_is_named(tmp_path: Path, form: str, name: str) -> None:
    (tmp_path / "file.onnx").write_bytes(b"x")
    (tmp_path / "directory").mkdir()
    with pytest.raises(ModelError, match=f"but the format {form} is a"):
        planning.detect_format(str(tmp_path / name), form)


def test_the_advice_of_libraries_is_left_out_of_their_reasons() -> None:
    class ToldError(Exception):
        pass

    def reason(text: str) -> str:
        return reason_of(ToldError(text))

    assert reason("It failed. If you trust the file, pass allow_pickle=True. It is bad.") == "It failed. It is bad."
    assert reason("No converter. You may raise an issue at https://example.org/x.") == "No converter."
    assert reason("Please upgrade") == "ToldError"
    assert reason("first line\nsecond") == "first line"


def test_the_lock_file_that_a_missing_library_is_installed_from_exists() -> None:
    message = cli.missing_library(ImportError("missing: keras", name="keras"))
    command = message.split("): run ", 1)[1].split(", or name")[0].split()
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    lock = Path(command[-1])
    assert lock.is_file()
    assert "--hash=sha256:" in lock.read_text()
