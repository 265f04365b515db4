"""The model modules' logic against the real model side, as far as it goes without a framework: plans, gates, refusals."""

from __future__ import annotations

import json
import shutil
import sys
import typing as t
from pathlib import Path

import pytest

pytest.importorskip("yaml", reason="the model side reads model.yml with PyYAML")

from ansible_collections.modelship.core.plugins.module_utils._core.content import canonical_json, sha256_file
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.files import locked
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._model import compress, evaluate, importing, train
from ansible_collections.modelship.core.plugins.module_utils._model.trainer import Trainer
from modelship_model.release import Draft

from .conftest import MakeTrainer

SOURCE = Path(__file__).resolve().parents[3] / "model" / "src"
CHECK, ACT = Context(check=True), Context()

MODEL_YML = """\
name: tiny
framework: sklearn
code: project.py
data: {source: npz, path: data.npz}
parameters: {epochs: 2, rate: 0.5}
gates: {accuracy: 0.9, accuracy_drop: 0.01, size_ratio: 0.5, latency_p99_ms: 50}
"""


class House:
    """A model project, a folder of releases, and the options that name them."""

    def __init__(self, folder: Path, source: Path) -> None:
        self.source = source
        self.project = folder / "project"
        self.project.mkdir()
        (self.project / "model.yml").write_text(MODEL_YML)
        (self.project / "project.py").write_text("def build(parameters, signature): ...\n")
        (self.project / "data.npz").write_bytes(b"never read by a plan")
        self.releases = folder / "releases"
        self.dest = folder / "report"
        self.trainer: dict[str, t.Any] = {
            "trainer_python": sys.executable,
            "trainer_path": str(source),
            "trainer_environment": {},
            "timeout": None,
        }

    def options(self, **given: t.Any) -> dict[str, t.Any]:
        common: dict[str, t.Any] = {"releases": str(self.releases), "work": None, "parameters": {}, "data": {}}
        return {"project": str(self.project), **common, **self.trainer, **given}

    def train(self, context: Context = CHECK, **given: t.Any) -> Outcome:
        return train.train(self.options(**given), context)

    def compress(self, release: str | None, context: Context = CHECK, **given: t.Any) -> Outcome:
        defaults: dict[str, t.Any] = {"release": release, "samples": None, "methods": None, "options": {}, "gates": {}}
        return compress.compress(self.options(**{**defaults, **given}), context)

    def evaluate(self, release: str | None, context: Context = CHECK, **given: t.Any) -> Outcome:
        options = self.options(**{"release": release, "samples": None, "dest": str(self.dest), "gates": {}, **given})
        return evaluate.evaluate(
            {key: value for key, value in options.items() if key not in ("releases", "work")}, context
        )

    def publish(self, inputs: dict[str, t.Any], **further: t.Any) -> str:
        """Put a release of *inputs* where the model side will find it, and return its path."""
        with Draft(str(self.releases), "tiny") as draft:
            Path(draft.path("model/model.bin")).write_bytes(b"weights")
            manifest = {
                "name": "tiny",
                "framework": "sklearn",
                "inputs": inputs,
                "git": None,
                "parameters": inputs["parameters"],
                "metrics": {"accuracy": 0.95},
                "signature": {"inputs": [], "outputs": [], "labels": ["0", "1"]},
                "model": {"format": "skops", "path": "model/model.bin", "size": 7, "weights": "sha256:0"},
                **further,
            }
            return str(draft.publish(manifest)["path"])

    def trained(self, **given: t.Any) -> str:
        """Publish the release that training with these options would make."""
        return self.publish(self.train(**given).result["release"]["inputs"], kind="train")

    def compressed(self, parent: str, **numbers: t.Any) -> str:
        """Publish the release that compressing *parent* would make."""
        inputs = self.compress(parent).result["release"]["inputs"]
        compression = {"methods": [], "parent_accuracy": 0.95, "accuracy_drop": 0.0, "size_ratio": 0.3, **numbers}
        return self.publish(inputs, kind="compress", compression=compression)

    def evaluated(self, release: str, evaluation: dict[str, t.Any]) -> None:
        """Write the evaluation that evaluating *release* would."""
        request = {"command": "evaluate", "release": release, "project": str(self.project), "dest": str(self.dest)}
        plan = Trainer(sys.executable, str(self.source)).call("plan", request)
        self.dest.mkdir(exist_ok=True)
        (self.dest / "report.html").write_text("<html>")
        stored = {"inputs": plan["inputs"]["digest"], "report": sha256_file(str(self.dest / "report.html"))}
        (self.dest / "evaluation.json").write_bytes(canonical_json({**stored, "evaluation": evaluation}))


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model side: its code is one of the inputs, and must not change while the tests run."""
    copy = tmp_path_factory.mktemp("model") / "src"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def house(tmp_path: Path, source: Path) -> House:
    return House(tmp_path, source)


def after(outcome: Outcome) -> dict[str, t.Any]:
    assert outcome.difference is not None
    return t.cast(dict[str, t.Any], json.loads(outcome.difference.as_result()["after"] or "{}"))


def before(outcome: Outcome) -> dict[str, t.Any]:
    assert outcome.difference is not None
    return t.cast(dict[str, t.Any], json.loads(outcome.difference.as_result()["before"] or "{}"))


def failure(call: t.Callable[[], Outcome]) -> ModelshipError:
    with pytest.raises(ModelshipError) as caught:
        call()
    assert "\n" not in caught.value.message or caught.value.kind == "gate"
    return caught.value


# --- model_train ---


def test_before_anything_exists_a_training_is_predicted_and_nothing_written(house: House) -> None:
    outcome = house.train()
    assert outcome.changed
    assert outcome.message == "no release of tiny yet: a release would be trained"
    assert (outcome.result["release"]["name"], outcome.result["release"]["path"]) == ("tiny", None)
    assert outcome.result["release"]["parameters"] == {"epochs": 2, "rate": 0.5}
    assert after(outcome)["parameters.epochs"] == 2
    assert after(outcome)["digest"] == "known only after the run"
    assert not house.releases.exists()


def test_the_release_of_the_same_inputs_is_found(house: House) -> None:
    path = house.trained()
    for context in (CHECK, ACT):
        outcome = house.train(context)
        assert not outcome.changed
        assert outcome.result["release"]["path"] == path
        assert outcome.result["release"]["digest"] == f"sha256:{Path(path).name}"
        assert outcome.difference is not None
        assert outcome.difference.names == []


def test_a_changed_parameter_is_told_with_old_and_new_value(house: House) -> None:
    house.trained()
    outcome = house.train(parameters={"epochs": "3"})
    assert outcome.changed
    assert outcome.message == "inputs changed: parameters.epochs (2 -> 3): a release would be trained"
    assert (before(outcome)["parameters.epochs"], after(outcome)["parameters.epochs"]) == (2, 3)
    assert before(outcome)["metrics"] == {"accuracy": 0.95}
    assert "code" not in after(outcome)


def test_changed_code_and_data_are_told_apart(house: House) -> None:
    house.trained()
    (house.project / "project.py").write_text("def build(parameters, signature): return None\n")
    assert house.train().message.startswith("inputs changed: code: ")
    (house.project / "data.npz").write_bytes(b"other")
    assert house.train().message.startswith("inputs changed: code, data: ")


def test_a_changed_gate_or_description_retrains_nothing(house: House) -> None:
    house.trained()
    text = MODEL_YML.replace("accuracy: 0.9", "accuracy: 0.5") + "description: other\n"
    (house.project / "model.yml").write_text(text)
    assert not house.train(ACT).changed


def test_a_removed_release_would_be_made_again(house: House) -> None:
    Path(house.trained()).rename(house.releases / "away")
    outcome = house.train()
    assert outcome.changed
    assert "no release of tiny yet" in outcome.message or "was removed" in outcome.message


def test_a_damaged_release_is_refused(house: House) -> None:
    path = Path(house.trained())
    (path / "model" / "model.bin").write_bytes(b"weighty")
    error = failure(lambda: house.train(ACT))
    assert error.kind == "release"
    assert "model.bin is corrupted" in error.message


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"parameters": {"epoch": 3}}, "parameter", "did you mean 'epochs'"),
        ({"parameters": {"epochs": "many"}}, "parameter", "'many'"),
        ({"data": {"source": "nmz"}}, "data", "nmz"),
        ({"timeout": 0}, "input", "timeout"),
        ({"trainer_environment": {"A": [1]}}, "input", "trainer_environment.A is a list"),
        ({"trainer_environment": {"A=B": "c"}}, "input", "trainer_environment: 'A=…'"),
    ],
)
def test_bad_options_are_named(house: House, given: dict[str, t.Any], kind: str, words: str) -> None:
    for context in (CHECK, ACT):
        error = failure(lambda context=context: house.train(context, **given))  # type: ignore[misc]
        assert error.kind == kind
        assert words in error.message


def test_a_folder_without_model_yml_is_named(house: House) -> None:
    (house.project / "model.yml").unlink()
    error = failure(lambda: house.train())
    assert error.kind == "project"
    assert str(house.project / "model.yml") in error.message


def test_a_trainer_that_does_not_exist_yet_is_foreseen_in_check_mode_only(house: House, tmp_path: Path) -> None:
    python = str(tmp_path / "venv" / "bin" / "python")
    outcome = house.train(trainer_python=python)
    assert outcome.changed
    assert outcome.message == f"the trainer does not exist yet ({python}): a release would be trained"
    assert outcome.result["release"]["path"] is None
    assert failure(lambda: house.train(ACT, trainer_python=python)).kind == "environment"


def test_a_project_that_does_not_exist_yet_is_foreseen_in_check_mode_only(house: House) -> None:
    for project in (None, "", str(house.project / "missing")):
        outcome = house.train(project=project)
        assert outcome.changed
        assert outcome.message.startswith("the model project does not exist yet")
    assert failure(lambda: house.train(ACT, project=str(house.project / "missing"))).kind == "project"


def test_a_trainer_without_the_frameworks_is_warned_of(house: House) -> None:
    if not any("yet" in warning for warning in house.train().warnings):
        pytest.skip("this interpreter has scikit-learn, skops and numpy")
    (warning,) = house.train().warnings
    assert sys.executable in warning
    assert "skops" in warning


def test_two_runs_at_once_do_not_collide(house: House) -> None:
    with locked(str(house.releases / ".tiny.lock")):
        assert failure(lambda: house.train(ACT)).kind == "locked"
        assert house.train().changed


def test_the_reason_is_a_step_of_its_own(house: House, tmp_path: Path) -> None:
    house.trained()
    progress = tmp_path / "progress"
    with pytest.raises(ModelshipError):  # there is nothing to train with here
        house.train(Context(progress=Progress(str(progress))), parameters={"rate": 0.7})
    first = json.loads(progress.read_text().splitlines()[0])
    assert first == {"text": "inputs changed: parameters.rate (0.5 -> 0.7)", "live": False}


# --- model_import ---


def test_an_import_is_planned_and_bad_names_are_refused(house: House, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08 begins as a model")
    (tmp_path / "samples.npz").write_bytes(b"samples")
    options = {
        "model": str(tmp_path / "model.onnx"),
        "samples": str(tmp_path / "samples.npz"),
        "name": "taken-over",
        "format": None,
        "labels": None,
        "input": None,
        "output": None,
        "releases": str(house.releases),
        **house.trainer,
    }
    outcome = importing.import_model(options, CHECK)
    assert outcome.changed
    assert outcome.message == "no release of taken-over yet: a release would be imported"
    assert after(outcome)["options.format"] == "onnx"
    assert failure(lambda: importing.import_model({**options, "name": "Taken Over"}, CHECK)).kind == "request"
    missing = {**options, "model": str(tmp_path / "none.onnx")}
    assert importing.import_model(missing, CHECK).message.startswith("the model does not exist yet")
    assert failure(lambda: importing.import_model(missing, ACT)).kind == "release"


# --- model_compress ---


def test_compression_of_a_release_that_is_only_foreseen_is_foreseen(house: House) -> None:
    for path in (None, "", str(house.releases / "missing")):
        outcome = house.compress(path)
        assert outcome.changed
        assert outcome.message.startswith("the release to compress does not exist yet")
        assert outcome.result["gates"] == []
    assert "release" in failure(lambda: house.compress("", ACT)).message
    assert failure(lambda: house.compress(str(house.releases / "missing"), ACT)).kind == "release"


def test_a_new_parent_is_told(house: House) -> None:
    house.compressed(house.trained())
    outcome = house.compress(house.trained(parameters={"epochs": 3}))
    assert outcome.changed
    assert "parent" in outcome.message
    assert outcome.difference is not None
    assert "parent" in outcome.difference.names


def test_gates_of_model_yml_are_judged_on_a_release_that_is_there(house: House) -> None:
    parent = house.trained()
    path = house.compressed(parent)
    outcome = house.compress(parent, ACT)
    assert not outcome.changed
    assert outcome.result["release"]["path"] == path
    assert [(gate["gate"], gate["verdict"]) for gate in outcome.result["gates"]] == [
        ("accuracy_drop", "passed"),
        ("size_ratio", "passed"),
    ]


@pytest.mark.parametrize("context", [CHECK, ACT])
def test_a_failing_gate_fails_every_run_and_keeps_the_release(house: House, context: Context) -> None:
    parent = house.trained()
    path = house.compressed(parent, size_ratio=0.6)
    for _run in range(2):
        error = failure(lambda: house.compress(parent, context))
        assert error.kind == "gate"
        assert "size_ratio is 0.6 and must be at most 0.5" in error.message
        assert error.details["release"]["path"] == path
        assert error.details["changed"] is False
        assert [gate["verdict"] for gate in error.details["gates"]] == ["passed", "failed"]
    assert Path(path).is_dir()


def test_gates_are_overridden_by_name_without_computing_anything(house: House) -> None:
    parent = house.trained()
    house.compressed(parent, size_ratio=0.6)
    assert not house.compress(parent, ACT, gates={"size_ratio": 0.7}).changed
    assert not house.compress(parent, ACT, gates={"size_ratio": None}).changed
    error = failure(lambda: house.compress(parent, ACT, gates={"size_ratio": 0.7, "size_bytes": 6}))
    assert "size_bytes is 7 and must be at most 6" in error.message


def test_a_misspelt_gate_is_refused_before_anything_runs(house: House) -> None:
    for run in (house.compress, house.evaluate):
        error = failure(lambda run=run: run(None, gates={"size_ration": 0.7}))  # type: ignore[misc]
        assert error.kind == "gate_name"
        assert "did you mean size_ratio?" in error.message


# --- model_evaluate ---

EVALUATION = {"accuracy": 0.93, "loss": 0.2, "samples": 100, "classes": [], "confusion": [], "latency_ms": {}}


def test_evaluation_of_a_release_that_is_only_foreseen_is_foreseen(house: House) -> None:
    for path in (None, "", str(house.releases / "missing")):
        outcome = house.evaluate(path)
        assert outcome.changed
        assert outcome.message.startswith("the release to evaluate does not exist yet")
        assert outcome.result == {"evaluation": None, "report": None, "gates": []}
    assert failure(lambda: house.evaluate(str(house.releases / "missing"), ACT)).kind == "release"


def test_a_release_that_was_not_evaluated_would_be(house: House) -> None:
    outcome = house.evaluate(house.trained())
    assert outcome.changed
    assert "was not evaluated on this data" in outcome.message
    assert not house.dest.exists()


def test_an_evaluation_that_is_there_is_judged_on_every_run(house: House) -> None:
    release = house.compressed(house.trained())
    house.evaluated(release, EVALUATION)
    for context in (CHECK, ACT):
        outcome = house.evaluate(release, context)
        assert not outcome.changed
        assert outcome.result["evaluation"] == EVALUATION
        assert outcome.result["report"] == str(house.dest / "report.html")
        assert [gate["gate"] for gate in outcome.result["gates"]] == ["accuracy", "accuracy_drop", "size_ratio"]
        error = failure(lambda context=context: house.evaluate(release, context, gates={"accuracy": 0.94}))  # type: ignore[misc]
        assert error.kind == "gate"
        assert error.details["evaluation"] == EVALUATION
        assert error.details["table"][1].split() == ["accuracy", "at", "least", "0.94", "0.93", "failed"]


def test_gates_of_compression_do_not_apply_to_a_trained_release(house: House) -> None:
    release = house.trained()
    house.evaluated(release, EVALUATION)
    verdicts = {gate["gate"]: gate["verdict"] for gate in house.evaluate(release, ACT).result["gates"]}
    assert verdicts == {"accuracy": "passed", "accuracy_drop": "not applicable", "size_ratio": "not applicable"}


def test_the_evaluation_of_another_release_is_not_taken(house: House) -> None:
    house.evaluated(house.trained(), EVALUATION)
    outcome = house.evaluate(house.trained(parameters={"epochs": 3}))
    assert outcome.changed
    assert before(outcome)["evaluation"] == {"accuracy": 0.93, "loss": 0.2, "samples": 100}


# --- check mode ---

#: A model side whose plan is complete, and whose check refuses the request.
REFUSES = """
command = sys.argv[1]
sys.stdin.read()
plan = {"name": "m", "inputs": {}, "existing": None, "latest": None, "missing": MISSING}
if command == "plan":
    say(event="result", result=plan)
elif command == "publish":
    say(event="result", result={"existing": None, "latest": None})
else:
    say(event="error", kind="release", message=f"{command} refuses it")
"""


@pytest.mark.parametrize("module", ["train", "import", "compress", "evaluate"])
def test_check_mode_gives_the_refusal_of_the_run(
    house: House, scripted: MakeTrainer, tmp_path: Path, module: str
) -> None:
    for name in ("model.onnx", "samples.npz"):
        (tmp_path / name).write_bytes(b"x")
    release = house.trained()

    def run(missing: list[str]) -> Outcome:
        trainer = scripted(REFUSES.replace("MISSING", repr(missing)))
        found = {"trainer_python": trainer.python, "trainer_path": trainer.path}
        if module == "import":
            paths = {"model": str(tmp_path / "model.onnx"), "samples": str(tmp_path / "samples.npz")}
            names = {"name": "m", "format": None, "labels": None, "input": None, "output": None}
            return importing.import_model({**house.options(), **paths, **names, **found}, CHECK)
        if module == "train":
            return house.train(**found)
        return house.compress(release, **found) if module == "compress" else house.evaluate(release, **found)

    refused = failure(lambda: run([]))
    assert (refused.kind, refused.message) == ("release", "check refuses it")
    foreseen = run(["keras"])  # an earlier task may still install it
    assert foreseen.changed
    assert any("does not have keras yet" in warning for warning in foreseen.warnings)
