"""The whole line as a user runs it: the installed collection, a real Docker Engine, a real registry, a real endpoint."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import ROOT, Playbooks, free_port
from .load import Load

# what is tested is the line, not how well three epochs learn or how fast a busy machine answers
GATES = {"accuracy": 0.8, "accuracy_drop": 0.1, "latency_p99_ms": 10000}

pytestmark = [pytest.mark.integration, pytest.mark.line]


@pytest.fixture(scope="module")
def line(installed: Path, docker_engine: str, trainer_python: str) -> Iterator[Playbooks]:
    """The line in a home and on ports of its own; the trainer's virtual environment is shared with the other tests."""
    registry = free_port()
    # not pytest's own folder, which only root may enter: the registry and Prometheus run as users of their own
    folder = Path(tempfile.mkdtemp(prefix="modelship-line-"))
    folder.chmod(0o755)
    trainer_home = Path(trainer_python).parents[2]
    books = Playbooks(
        installed,
        {
            "modelship_home": str(folder / "home"),
            "modelship_name": "line-test",
            "modelship_port": free_port(),
            "modelship_registry": f"127.0.0.1:{registry}",
            "registry_port": registry,
            "monitoring_port": free_port(),
            "trainer_home": str(trainer_home),
            "modelship_trainer_python": trainer_python,
            # small enough to train in seconds; what is tested is the line
            "modelship_parameters": {"epochs": 3},
            "modelship_gates": GATES,
        },
    )
    yield books
    # the shared trainer stays
    books.run("destroy", "--skip-tags", "trainer")
    shutil.rmtree(folder)


def _call(line: Playbooks, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{line.variables['modelship_port']}{path}",
        data=None if body is None else json.dumps(body).encode(),
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, json.load(answer)


def _digits() -> list[list[float]]:
    return [[float((i * j) % 256) for i in range(784)] for j in range(8)]


def test_check_mode_before_anything_exists_changes_nothing(line: Playbooks) -> None:
    play = line.run("site", "--check", "--diff")
    assert play.rc == 0, play.output
    assert play.recap["changed"] > 0
    assert not Path(str(line.variables["modelship_home"])).exists()


def test_the_line_ends_in_a_verified_endpoint(line: Playbooks) -> None:
    play = line.run("site")
    assert play.rc == 0, play.output
    for promised in ("http://127.0.0.1:", "sha256:", "accuracy", "MB", "report.html", "destroy"):
        assert promised in play.output
    status, answer = _call(line, "/predict", {"image": _digits()[0]})
    assert status == 200
    assert answer["result"] in range(10)
    assert str(answer["release"]).startswith("sha256:")


def test_the_second_run_changes_nothing(line: Playbooks) -> None:
    play = line.run("site")
    assert play.rc == 0, play.output
    assert play.recap["changed"] == 0, play.output
    assert play.recap["failed"] == 0


def test_check_mode_in_the_steady_state_reports_nothing_to_do(line: Playbooks) -> None:
    play = line.run("site", "--check", "--diff")
    assert play.rc == 0, play.output
    assert play.recap["changed"] == 0, play.output


def test_deploy_alone_finds_the_release_of_the_image(line: Playbooks) -> None:
    play = line.run("deploy")
    assert play.rc == 0, play.output
    assert play.recap["changed"] == 0, play.output
    assert "golden answers; latency" in play.output


def test_a_changed_gate_retrains_nothing_and_a_missed_gate_keeps_the_old_release(line: Playbooks) -> None:
    before = _call(line, "/predict", {"image": _digits()[0]})[1]["release"]
    play = line.run("site", modelship_gates={**GATES, "accuracy": 0.81})
    assert play.rc == 0, play.output
    assert play.recap["changed"] == 0, play.output
    play = line.run("site", modelship_gates={**GATES, "accuracy": 1.0})
    assert play.rc != 0
    assert "accuracy" in play.output
    assert _call(line, "/predict", {"image": _digits()[0]})[1]["release"] == before


def test_check_mode_tells_which_input_changed(line: Playbooks) -> None:
    play = line.run("site", "--check", "--diff", modelship_parameters={"epochs": 4})
    assert play.rc == 0, play.output
    assert play.recap["changed"] > 0
    assert "epochs" in play.output
    assert line.run("site", "--check").recap["changed"] == 0


def test_a_changed_parameter_is_redeployed_under_load_and_no_request_is_lost(line: Playbooks) -> None:
    address = ("127.0.0.1", int(str(line.variables["modelship_port"])))
    with Load([address], {"image": _digits()[0]}, kept=4) as load:
        play = line.run("site", modelship_parameters={"epochs": 4})
    assert play.rc == 0, play.output
    assert load.losses == []
    assert sum(load.answers.values()) > 100
    assert len(load.answers) == 2


def test_a_killed_run_can_be_run_again(line: Playbooks) -> None:
    process = subprocess.Popen(
        line.command("site", modelship_parameters={"epochs": 30}),
        env={**line.environment, "MODELSHIP_PROGRESS": "live"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd="/",
    )
    assert process.stdout is not None
    seen = ""
    for text in process.stdout:
        seen += text
        if "epoch 2/" in text:
            break
    assert "epoch 2/" in seen
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    play = line.run("site", modelship_parameters={"epochs": 4})
    assert play.rc == 0, play.output
    assert play.recap["changed"] == 0, play.output


def test_scikit_learn_goes_through_the_same_line(line: Playbooks) -> None:
    own = {
        "modelship_project": str(ROOT / "model/examples/digits_mlp"),
        "modelship_name": "line-test-mlp",
        "modelship_port": free_port(),
        "modelship_parameters": {},
        "modelship_gates": {"accuracy": 0.9, "latency_p99_ms": 10000},
    }
    books = Playbooks(line.collections, {**line.variables, **own})
    try:
        play = books.run("site")
        assert play.rc == 0, play.output
        assert _call(books, "/predict", {"image": _digits()[0]})[0] == 200
        play = books.run("site")
        assert play.recap["changed"] == 0, play.output
    finally:
        play = books.run("destroy", "--tags", "deployments", modelship_deployments=["line-test-mlp"])
        assert play.rc == 0, play.output


def test_destroy_removes_what_was_made_and_only_that(line: Playbooks) -> None:
    play = line.run("destroy", "--skip-tags", "trainer")
    assert play.rc == 0, play.output
    assert not Path(str(line.variables["modelship_home"])).exists()
    with pytest.raises(OSError):
        _call(line, "/v2/health/ready")
    left = subprocess.run(["docker", "ps", "-a", "--format", "{{.Names}}"], capture_output=True, text=True, check=True)
    assert "line-test" not in left.stdout
    play = line.run("destroy", "--skip-tags", "trainer")
    assert play.rc == 0, play.output
    assert play.recap["changed"] == 0, play.output
