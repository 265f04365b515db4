"""model.yml: read, checked, overridden; each error is one line that names the file and the value."""

from __future__ import annotations

import typing as t

import pytest

from modelship_model.errors import ModelError
from modelship_model.options import check_methods, check_options, effective_options
from modelship_model.project import check_functions, load_code, load_project, override_parameters, parse_data

if t.TYPE_CHECKING:
    from .conftest import Folder


def test_a_project_is_read(folder: Folder) -> None:
    project = load_project(str(folder.root))
    assert project.parameters == {"epochs": 3, "learning_rate": 0.001, "shuffle": True, "solver": "adam", "seed": 1}
    assert project.labels == ("no", "yes")
    assert project.input_range == (0, 255)
    assert project.data.files == {"data": (str(folder.root / "data.npz"), None)}
    assert project.compress == {"methods": ["prune", "quantize"], "sparsity": 0.6}  # in the order in which they run
    assert project.gates == {"accuracy": 0.9}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: tiny", "name: [tiny", "line 2 column 10: not YAML"),
        ("name: tiny", "name: Tiny", "name: 'Tiny' must be lower-case"),
        ("name: tiny\n", "", "the key 'name' is missing"),
        ("gates:", "gate:", "unknown key 'gate'; did you mean 'gates'?"),
        ("framework: sklearn", "framework: torch", "framework: 'torch' is not one of keras, sklearn"),
        ("code: project.py", "code: missing.py", "missing.py does not exist"),
        ("{accuracy: 0.9}", "{accurcy: 0.9}", "gates: unknown key 'accurcy'; did you mean 'accuracy'?"),
        ("{accuracy: 0.9}", '{accuracy: "high"}', "gates.accuracy must be a number, not 'high'"),
        ("range: [0, 255]", "range: [255, 0]", "the lowest value 255 is not below the highest 0"),
        ("range: [0, 255]", "shape: [28, 0]", "holds a size below 1"),
        ("seed: 1", "seed: [1]", "parameters.seed must be a number"),
        ("seed: 1", "seed: null", "parameters.seed must be a number"),
        ('["no", "yes"]', "[0, 1]", "labels[0] must be text, not 0: put it in quotes"),
        ('["no", "yes"]', '["no", "no"]', "a label appears twice"),
        ("[quantize, prune]", "[quantise]", "unknown method 'quantise'; did you mean 'quantize'?"),
        ("[quantize, prune]", "[quantize, float16]", "exclude each other"),
        ("sparsity: 0.6", "sparsity: 1.6", "sparsity must be between 0.01 and 0.99, not 1.6"),
        ("source: npz", "source: nqz", "data.source 'nqz' is not one of"),
        ("path: data.npz", "paths: data.npz", "data: unknown key 'paths' for the source npz; did you mean 'path'?"),
        ("test: 0.5", "test: 1.5", "data.test must be a fraction"),
        ("test: 0.5", "sha256: abc", "data.sha256: 'abc' is no sha256"),
        ("path: data.npz", "path: https://example.org/x.npz", "data.sha256 is missing: a URL"),
    ],
)
def test_a_wrong_model_yml_is_named_in_one_line(folder: Folder, old: str, new: str, words: str) -> None:
    folder.edit(old, new)
    with pytest.raises(ModelError) as caught:
        load_project(str(folder.root))
    assert caught.value.kind == "project"
    assert caught.value.message.startswith(str(folder.root / "model.yml"))
    assert words in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "framework: sklearn",
            "framework: sklearn\nname: other",
            "'name' appears twice, in line 1 and in line 3: remove one",
        ),
        ("{accuracy: 0.9}", "{accuracy: 0.9, accuracy: 0.5}", "'accuracy' appears twice, in line 9 and in line 9"),
        ("seed: 1", "seed: 1, seed: 1", "'seed' appears twice"),
        ("seed: 1", '"seed": 1, seed: 2', "'seed' appears twice"),
        ("path: data.npz", "path: a.npz, path: data.npz", "'path' appears twice"),
        ("seed: 1", "on: 1, true: 2", "'true' appears twice"),  # YAML 1.1 reads both as one key
    ],
)
def test_a_duplicate_key_is_refused_with_both_lines(folder: Folder, old: str, new: str, words: str) -> None:
    folder.edit(old, new)
    with pytest.raises(ModelError) as caught:
        load_project(str(folder.root))
    assert caught.value.kind == "project"
    assert words in caught.value.message


def test_a_key_that_overrides_a_merged_one_is_not_a_duplicate(folder: Folder) -> None:
    folder.edit("{epochs: 3, ", "{<<: {epochs: 9, momentum: 0.5}, epochs: 3, ")
    assert load_project(str(folder.root)).parameters["epochs"] == 3
    folder.edit("seed: 1", "1: 1, true: 1")
    with pytest.raises(ModelError, match=r"parameters\.1 must be"):  # not taken for one key
        load_project(str(folder.root))


def test_an_empty_or_endlessly_nested_model_yml_is_named(folder: Folder) -> None:
    folder.write("model.yml", "")
    with pytest.raises(ModelError, match="the file must be a mapping, not None"):
        load_project(str(folder.root))
    folder.write("model.yml", "name: " + "[" * 5000)
    with pytest.raises(ModelError, match=r"model\.yml: nested too deeply"):
        load_project(str(folder.root))


def test_a_missing_model_yml_is_named(folder: Folder) -> None:
    (folder.root / "model.yml").unlink()
    with pytest.raises(ModelError, match=r"model\.yml is missing"):
        load_project(str(folder.root))
    with pytest.raises(ModelError, match="is not a folder"):
        load_project(str(folder.root / "nowhere"))


def test_parameters_are_overridden_by_type(folder: Folder) -> None:
    project = load_project(str(folder.root))
    given = {"epochs": "7", "learning_rate": 1, "shuffle": "no", "solver": "sgd"}  # -e epochs=7 reaches Ansible as text
    assert override_parameters(project, given) == {
        "epochs": 7,
        "learning_rate": 1.0,
        "shuffle": False,
        "solver": "sgd",
        "seed": 1,
    }
    assert isinstance(override_parameters(project, {"learning_rate": 1})["learning_rate"], float)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epoch": 3}, "unknown parameter 'epoch'; did you mean 'epochs'?"),
        ({"epochs": 2.5}, "'epochs' must be a whole number like its default 3, not 2.5"),
        ({"epochs": "many"}, "'epochs' must be a whole number like its default 3, not 'many'"),
        ({"epochs": True}, "'epochs' must be a whole number"),
        ({"learning_rate": [1]}, "'learning_rate' must be a number"),
        ({"shuffle": 1}, "'shuffle' must be true or false"),
        ({"solver": 3}, "'solver' must be text"),
    ],
)
def test_a_wrong_parameter_is_named(folder: Folder, given: dict[str, t.Any], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        override_parameters(load_project(str(folder.root)), given)
    assert caught.value.kind == "parameter"
    assert words in caught.value.message


def test_code_that_raises_is_blamed_with_its_own_frames(folder: Folder) -> None:
    folder.write("helper.py", "def compute():\n    return {}['nothing']\n")
    folder.write("project.py", "import json\nfrom helper import compute\n\nVALUE = compute()\n")
    with pytest.raises(ModelError) as caught:
        load_code(load_project(str(folder.root)))
    assert caught.value.kind == "project"
    assert "KeyError: 'nothing'" in caught.value.message
    trace = caught.value.trace or ""
    assert "project.py" in trace
    assert "helper.py" in trace
    assert "importlib" not in trace
    assert not list(folder.root.rglob("__pycache__"))


def test_code_that_is_no_python_is_blamed(folder: Folder) -> None:
    folder.write("project.py", "def build(:\n")
    with pytest.raises(ModelError, match="SyntaxError") as caught:
        load_code(load_project(str(folder.root)))
    assert "def build(:" in (caught.value.trace or "")


def test_methods_run_in_their_order_and_only_their_options_count() -> None:
    assert check_methods(["quantize", "distill", "prune"]) == ["distill", "prune", "quantize"]
    assert check_methods([]) == []
    assert effective_options(["quantize"], {"sparsity": 0.9}) == {"calibration_samples": 256}
    assert effective_options(["prune"], {"sparsity": 0.9})["sparsity"] == 0.9
    assert check_options({"sparsity": "0.7", "prune_epochs": "2"}) == {"sparsity": 0.7, "prune_epochs": 2}
    for wrong in ({"prune_epochs": 0}, {"prune_epochs": 1.5}, {"sparsty": 0.5}, {"sparsity": "half"}):
        with pytest.raises(ModelError):
            check_options(wrong)
    with pytest.raises(ModelError, match="named twice"):
        check_methods(["prune", "prune"])


def test_idx_files_may_be_urls_with_their_sha256() -> None:
    digest = "ab" * 32
    spec = parse_data(
        {"source": "idx", "images": "https://example.org/i.gz", "images_sha256": f"sha256:{digest}", "labels": "l.gz"},
        "/p",
    )
    assert spec.files == {"images": ("https://example.org/i.gz", digest), "labels": ("/p/l.gz", None)}
    assert spec.test == 0.2


@pytest.mark.parametrize(
    "code",
    [
        "def build(parameters, signature): ...",
        "from helpers import make as build",
        "import helpers\nbuild = helpers.make",
        "if True:\n    def build(*_): ...",
        "from helpers import *",
        "globals()['build'] = 1",
    ],
)
def test_a_function_is_found_without_running_the_code(folder: Folder, code: str) -> None:
    folder.write("project.py", f"{code}\nraise RuntimeError")
    check_functions(load_project(str(folder.root)), ["build"])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def biuld(*_): ...", r"project\.py has no function build\(\): write one"),
        ("x = 1\ndef build(:", r"project\.py line 2: not Python: "),
        ("\0", "not Python"),
    ],
)
def test_a_missing_function_is_named_before_data_is_read(folder: Folder, code: str, words: str) -> None:
    folder.write("project.py", code)
    with pytest.raises(ModelError, match=words) as caught:
        folder.plan()
    assert caught.value.kind == "project"
