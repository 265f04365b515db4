"""The model modules and source_tree as tasks of a play, with a real trainer."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from .conftest import BIN, ROOT

pytestmark = pytest.mark.integration

MODEL_YML = """\
name: tiny
framework: keras
code: project.py
data: {source: digits, test: 0.2}
labels: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
input: {name: image, range: [0, 255]}
parameters: {epochs: 2, batch_size: 64, learning_rate: 0.005, seed: 1}
compress: {methods: [quantize]}
gates: {accuracy: 0.5, accuracy_drop: 0.2}
"""
PROJECT_PY = """\
import keras


def build(parameters, signature):
    keras.utils.set_random_seed(parameters["seed"])
    model = keras.Sequential([
        keras.layers.Input(signature["inputs"][0]["shape"][1:], name="image"),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax", name="probabilities"),
    ])
    optimizer = keras.optimizers.Adam(parameters["learning_rate"])
    model.compile(optimizer=optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
"""
#: Writes the last 300 digits as the data source ``digits`` resizes them.
MAKE_SAMPLES = """\
import sys
import numpy
from scipy.ndimage import zoom
from sklearn.datasets import load_digits

digits = load_digits()
x = numpy.clip(zoom(digits.images[-300:], (1, 3.5, 3.5), order=1) * (255 / 16), 0, 255)
numpy.savez(sys.argv[1], x=x[..., numpy.newaxis].astype("float32"), y=digits.target[-300:])
"""
#: A run of many epochs, to be interrupted.
LONG = {"epochs": 300}


class Task(t.NamedTuple):
    """What one task answered, and all that ansible-playbook printed."""

    result: dict[str, t.Any]
    output: str


class Tasks:
    """Runs single tasks of the collection with ansible-playbook on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        self.environment.update(ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".build"), ANSIBLE_NOCOLOR="1")

    def command(self, module: str, arguments: dict[str, t.Any], *options: str) -> list[str]:
        task = {"name": module, f"modelship.core.{module}": arguments, "register": "answer", "ignore_errors": True}
        keep = {
            "name": "Keep the answer",
            "ansible.builtin.copy": {"content": "{{ answer | to_json }}", "dest": str(self.folder / "answer.json")},
            "check_mode": False,
            "diff": False,
        }
        play = {
            "name": "Test",
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": sys.executable},
            "tasks": [task, keep],
        }
        (self.folder / "play.yml").write_text(json.dumps([play]))
        return [str(BIN / "ansible-playbook"), "-i", "localhost,", str(self.folder / "play.yml"), *options]

    def run(self, module: str, arguments: dict[str, t.Any], *options: str, **environment: str) -> Task:
        command = self.command(module, arguments, *options)
        done = subprocess.run(
            command, env={**self.environment, **environment}, capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        return Task(json.loads((self.folder / "answer.json").read_text()), output)

    def fail(self, module: str, arguments: dict[str, t.Any], *options: str) -> str:
        """Run a task that nothing rescues and that fails; return what ansible-playbook prints of it."""
        command = self.command(module, arguments, *options)
        (play,) = json.loads((self.folder / "play.yml").read_text())
        for name in ("register", "ignore_errors"):
            del play["tasks"][0][name]
        (self.folder / "play.yml").write_text(json.dumps([play]))
        environment = {**self.environment, "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"}
        # as on a terminal: errors and results in the order in which they come
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert done.returncode == 2, done.stdout
        return printed(done.stdout)


def printed(output: str) -> str:
    """What was printed from the failed task on to the recap."""
    return re.split(r"TASK \[.*\] \**\n", output)[-1].partition("\nPLAY RECAP")[0].strip() + "\n"


@pytest.fixture
def tasks(tmp_path: Path) -> Tasks:
    return Tasks(tmp_path)


# --- source_tree ---


def test_a_tree_is_copied_once_and_check_mode_reads_the_source(tasks: Tasks, tmp_path: Path) -> None:
    source, dest = tmp_path / "files" / "project", tmp_path / "host" / "project"
    (source / "sub").mkdir(parents=True)
    (source / "a.py").write_text("a")
    (source / "sub" / "b.py").write_text("b")
    arguments = {"src": "project", "dest": str(dest)}  # found in the playbook's files/, as copy finds it

    foreseen = tasks.run("source_tree", arguments, "--check", "--diff")
    assert foreseen.result["changed"]
    assert foreseen.result["tree"]["path"] == str(source)
    assert '+  "sub/b.py": "sha256:' in foreseen.output
    assert not dest.parent.exists()

    assert tasks.run("source_tree", arguments).result["changed"]
    assert (dest / "sub" / "b.py").read_text() == "b"
    for options in ((), ("--check",)):
        again = tasks.run("source_tree", arguments, *options).result
        assert (again["changed"], again["tree"]["path"]) == (False, str(dest))

    (source / "a.py").write_text("new")
    (source / "sub" / "b.py").unlink()
    changed = tasks.run("source_tree", arguments, "--diff")
    assert changed.result["msg"].endswith("0 added, 1 changed, 1 removed")
    assert changed.result["tree"]["digest"] != foreseen.result["tree"]["digest"]
    assert [path.name for path in dest.rglob("*.py")] == ["a.py"]
    assert "_tree" not in changed.result


def test_a_copied_tree_knows_its_commit(tasks: Tasks, tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "dest"
    source.mkdir()
    (source / "a.py").write_text("a")
    git = ["git", "-C", str(source), "-c", "user.name=t", "-c", "user.email=t@localhost"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    answer = tasks.run("source_tree", {"src": str(source), "dest": str(dest)}).result
    marker = json.loads((dest / ".modelship-tree").read_text())
    assert marker == {"digest": answer["tree"]["digest"], "git": {"commit": commit, "dirty": False}}
    (source / "a.py").write_text("b")
    tasks.run("source_tree", {"src": str(source), "dest": str(dest)})
    assert json.loads((dest / ".modelship-tree").read_text())["git"] == {"commit": commit, "dirty": True}


@pytest.mark.parametrize(("src", "words"), [("missing", "missing"), ("", "give the path"), ("empty", "holds no files")])
def test_a_bad_source_is_named(tasks: Tasks, tmp_path: Path, src: str, words: str) -> None:
    (tmp_path / "files" / "empty").mkdir(parents=True)
    answer = tasks.run("source_tree", {"src": src, "dest": str(tmp_path / "dest")}).result
    assert answer["failed"]
    assert words in answer["msg"]
    assert "\n" not in answer["msg"]
    assert not (tmp_path / "dest").exists()


# --- the model modules ---


class Line:
    """The folders of one model project, and its tasks."""

    def __init__(self, folder: Path, python: str) -> None:
        self.tasks = Tasks(folder)
        self.project = folder / "project"
        self.project.mkdir()
        (self.project / "model.yml").write_text(MODEL_YML)
        (self.project / "project.py").write_text(PROJECT_PY)
        self.releases, self.dest = folder / "releases", folder / "report"
        # the model side's own code is one of the inputs, and must not change while the tests run
        source = shutil.copytree(ROOT / "model" / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
        self.trainer = {"trainer_python": python, "trainer_path": str(source)}

    def arguments(self, **given: t.Any) -> dict[str, t.Any]:
        return {"project": str(self.project), "releases": str(self.releases), **self.trainer, **given}

    def train(self, *options: str, parameters: dict[str, t.Any] | None = None) -> Task:
        return self.tasks.run(
            "model_train", self.arguments(parameters=parameters or {}), *options, MODELSHIP_PROGRESS="live"
        )

    def compress(self, release: str | None, *options: str, **given: t.Any) -> Task:
        return self.tasks.run("model_compress", self.arguments(release=release, **given), *options)

    def evaluate(self, release: str | None, *options: str, **given: t.Any) -> Task:
        arguments = {key: value for key, value in self.arguments().items() if key != "releases"}
        return self.tasks.run(
            "model_evaluate", {**arguments, "release": release, "dest": str(self.dest), **given}, *options
        )


@pytest.fixture(scope="module")
def line(trainer_python: str, tmp_path_factory: pytest.TempPathFactory) -> Line:
    return Line(tmp_path_factory.mktemp("models"), trainer_python)


@pytest.fixture(scope="module")
def trained(line: Line) -> Task:
    foreseen = line.train("--check", "--diff")
    assert foreseen.result["changed"]
    assert foreseen.result["release"]["path"] is None
    assert '"parameters.epochs": 2' in foreseen.output
    assert not line.releases.exists()
    made = line.train("--diff")
    assert not made.result.get("failed"), made.output
    return made


@pytest.fixture(scope="module")
def compressed(line: Line, trained: Task) -> Task:
    return line.compress(trained.result["release"]["path"])


def test_training_shows_its_epochs_and_makes_a_release(trained: Task) -> None:
    answer = trained.result
    assert answer["changed"]
    release = answer["release"]
    assert (release["name"], release["kind"], release["format"]) == ("tiny", "train", "keras")
    assert release["metrics"]["accuracy"] > 0.5
    assert release["signature"]["inputs"][0]["name"] == "image"
    manifest = json.loads((Path(release["path"]) / "release.json").read_text())
    assert manifest["inputs"] == release["inputs"]
    assert f"sha256:{Path(release['path']).name}" == release["digest"]
    assert re.search(r"epoch 2/2  loss \d\.\d{4}  accuracy 0\.\d{4}  val 0\.\d{4}", trained.output)


def test_a_second_training_changes_nothing(line: Line, trained: Task) -> None:
    for options in ((), ("--check", "--diff")):
        again = line.train(*options).result
        assert (again["changed"], again["release"]) == (False, trained.result["release"])


def test_a_changed_parameter_trains_again_and_shows_the_difference_of_metrics(line: Line, trained: Task) -> None:
    foreseen = line.train("--check", parameters={"epochs": 1})
    assert "parameters.epochs (2 -> 1)" in foreseen.result["msg"]
    acted = line.train("--diff", parameters={"epochs": "1"})
    assert acted.result["changed"]
    assert acted.result["release"]["parameters"]["epochs"] == 1
    assert '-  "metrics.accuracy": ' in acted.output
    assert '+  "metrics.accuracy": ' in acted.output
    assert not line.train().result["changed"]


@pytest.mark.parametrize("module", ["model_evaluate", "model_compress"])
def test_the_table_of_a_failed_gate_is_the_last_that_is_printed(
    line: Line, trained: Task, compressed: Task, module: str
) -> None:
    if module == "model_compress":
        arguments = line.arguments(release=trained.result["release"]["path"], gates={"size_bytes": 10})
    else:
        arguments = line.arguments(
            release=compressed.result["release"]["path"], dest=f"{line.dest}-gate", gates={"accuracy": 1}
        )
        del arguments["releases"]
    output = line.tasks.fail(module, arguments)
    lines = [text.strip() for text in output.splitlines()]
    last = max(number for number, text in enumerate(lines) if text.startswith("gate  "))
    assert all(re.search(r" (passed|failed|not applicable)$", text) for text in lines[last + 1 :]), output
    assert len(lines) - last >= 2, output
    assert len(lines) < 25, output
    assert "confusion" not in output


def test_compression_makes_a_smaller_release_that_passes_its_gates(line: Line, trained: Task, compressed: Task) -> None:
    answer = compressed.result
    assert answer["changed"]
    assert answer["release"]["format"] == "litert"
    assert answer["release"]["inputs"]["parent"] == trained.result["release"]["digest"]
    assert answer["release"]["size"] < trained.result["release"]["size"]
    assert [(gate["gate"], gate["verdict"]) for gate in answer["gates"]] == [("accuracy_drop", "passed")]
    assert not line.compress(trained.result["release"]["path"]).result["changed"]


def test_a_failing_gate_fails_the_first_and_the_second_run(line: Line, trained: Task, compressed: Task) -> None:
    for _run in range(2):
        failed = line.compress(trained.result["release"]["path"], gates={"size_bytes": 10})
        assert failed.result["failed"]
        assert failed.result["error_kind"] == "gate"
        assert "size_bytes is" in failed.result["msg"]
        assert failed.result["release"]["digest"] == compressed.result["release"]["digest"]
    other = line.compress(trained.result["release"]["path"], methods=["float16"], gates={"size_bytes": 10}).result
    assert (other["error_kind"], other["changed"]) == ("gate", True)
    assert Path(other["release"]["path"]).is_dir()


def test_evaluation_reports_once_and_judges_every_time(line: Line, compressed: Task) -> None:
    release = compressed.result["release"]["path"]
    assert line.evaluate(release, "--check").result["changed"]
    assert not line.dest.exists()
    first = line.evaluate(release).result
    assert first["changed"]
    assert sum(map(sum, first["evaluation"]["confusion"])) == first["evaluation"]["samples"]
    assert Path(first["report"]).read_text().lstrip().lower().startswith("<!doctype html")
    written = (line.dest / "evaluation.json").stat().st_mtime_ns
    again = line.evaluate(release).result
    assert (again["changed"], again["evaluation"]) == (False, first["evaluation"])
    failed = line.evaluate(release, gates={"accuracy": 1.0, "size_bytes": 1}).result
    assert failed["error_kind"] == "gate"
    assert failed["table"][0].split() == ["gate", "limit", "value", "verdict"]
    assert (line.dest / "evaluation.json").stat().st_mtime_ns == written


def test_a_model_of_somebody_else_goes_the_same_way(line: Line, trained: Task) -> None:
    folder = line.tasks.folder
    samples = folder / "samples.npz"
    subprocess.run([line.trainer["trainer_python"], "-c", MAKE_SAMPLES, str(samples)], check=True)
    arguments = {
        "model": str(Path(trained.result["release"]["path"]) / "model" / "model.keras"),
        "name": "taken-over",
        "samples": str(samples),
        "input": {"name": "image", "range": [0, 255]},
        "releases": str(line.releases),
        **line.trainer,
    }
    imported = line.tasks.run("model_import", arguments).result
    assert imported["changed"]
    release = imported["release"]
    assert (release["name"], release["kind"], release["format"]) == ("taken-over", "import", "keras")
    assert release["metrics"]["accuracy"] > 0.5
    assert not line.tasks.run("model_import", arguments).result["changed"]
    small = line.compress(release["path"], project=None, samples=str(samples), methods=["quantize"]).result
    assert (small["release"]["name"], small["release"]["format"]) == ("taken-over", "litert")
    dest = str(folder / "taken-over")
    judged = line.evaluate(
        small["release"]["path"], project=None, samples=str(samples), dest=dest, gates={"accuracy": 0.5}
    )
    assert judged.result["evaluation"]["samples"] == 300
    assert [gate["verdict"] for gate in judged.result["gates"]] == ["passed"]


def test_check_mode_refuses_the_import_that_the_run_refuses(line: Line, trained: Task, tmp_path: Path) -> None:
    samples = tmp_path / "samples.npz"
    script = "import sys, numpy; numpy.savez(sys.argv[1], x=numpy.ones((60, 1, 28, 27)))"
    subprocess.run([line.trainer["trainer_python"], "-c", script, str(samples)], check=True)
    arguments = {
        "model": str(Path(trained.result["release"]["path"]) / "model" / "model.keras"),
        "name": "refused",
        "samples": str(samples),
        "releases": str(tmp_path / "releases"),
        **line.trainer,
    }
    checked, refused = (line.tasks.run("model_import", arguments, *options).result for options in (("--check",), ()))
    assert refused["failed"]
    assert "a sample has the shape [1, 28, 27], but the model takes [28, 28, 1]" in refused["msg"]
    assert (checked.get("failed"), checked["msg"]) == (True, refused["msg"])
    assert not (tmp_path / "releases" / "refused").exists()


def test_what_training_would_make_is_foreseen_down_the_line(line: Line) -> None:
    for path in ("", None):
        assert line.compress(path, "--check").result["changed"]
        assert line.evaluate(path, "--check").result["changed"]


def test_a_project_that_raises_shows_its_own_frames(line: Line) -> None:
    code = line.project / "project.py"
    try:
        code.write_text(PROJECT_PY + "\n\nraise RuntimeError('broken on purpose')\n")
        failed = line.train().result
    finally:
        code.write_text(PROJECT_PY)
    assert (failed["failed"], failed["error_kind"]) == (True, "project")
    assert "broken on purpose" in failed["msg"]
    assert any("project.py" in text for text in failed["traceback"])


def test_a_secret_of_the_trainers_environment_is_never_shown(line: Line, trained: Task) -> None:
    environment = {"HF_TOKEN": "tk-93f1c-very-secret", "TF_NUM_INTRAOP_THREADS": "2"}
    shown = line.tasks.run("model_train", line.arguments(trainer_environment=environment), "-vvv")
    assert not shown.result["changed"]
    assert "TF_NUM_INTRAOP_THREADS" in shown.output
    assert re.search(r"HF_TOKEN\W+VALUE_SPECIFIED_IN_NO_LOG_PARAMETER", shown.output)
    assert "very-secret" not in shown.output
    assert "very-secret" not in json.dumps(shown.result)
    assert shown.result["release"]["parameters"]["epochs"] == 2


def working(folder: Path) -> list[int]:
    """The processes of the model side whose project's folder is *folder*."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if b"modelship_model" in command and str(folder).encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def wait_until(condition: t.Callable[[], bool], seconds: float = 120) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_an_interrupted_training_stops_at_once_and_continues_in_the_next_run(line: Line) -> None:
    arguments = line.arguments(parameters=LONG, trainer_environment={"WORKS_FOR": str(line.project)})
    log = line.tasks.folder / "interrupted.log"
    with log.open("wb") as stream:
        playbook = subprocess.Popen(
            line.tasks.command("model_train", arguments),
            env={**line.tasks.environment, "MODELSHIP_PROGRESS": "live"},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert wait_until(lambda: "epoch 2/300" in log.read_text()), log.read_text()
            assert working(line.project)
            playbook.send_signal(signal.SIGINT)
            playbook.wait(timeout=60)
            assert wait_until(lambda: not working(line.project), 30)
        finally:
            playbook.kill()
            playbook.wait()
    assert "epoch 300/300" not in log.read_text()
    finished = line.train(parameters=LONG)
    assert finished.result["changed"]
    assert "from the last checkpoint" in finished.output
    assert "epoch 1/300" not in finished.output
