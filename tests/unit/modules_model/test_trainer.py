"""The trainer's process: its events, its failures, and that it never outlives the module."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._model.trainer import Trainer

from .conftest import MakeTrainer

ROOT = Path(__file__).resolve().parents[3]


def failure(trainer: Trainer, command: str = "train") -> ModelshipError:
    with pytest.raises(ModelshipError) as caught:
        trainer.call(command, {})
    return caught.value


def wait_until(condition: t.Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def is_alive(pid: int) -> bool:
    """A zombie that nobody has waited for does no work any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_request_goes_in_and_events_and_result_come_out(scripted: MakeTrainer) -> None:
    trainer = scripted("""
        say(event="stage", message="begins")
        say(event="epoch", epoch=1)
        say(event="result", result={"command": sys.argv[1], "request": json.load(sys.stdin)})
    """)
    events: list[dict[str, t.Any]] = []
    answer = trainer.call("train", {"project": "/a", "ü": [1]}, events.append)
    assert answer == {"command": "train", "request": {"project": "/a", "ü": [1]}}
    assert [event["event"] for event in events] == ["stage", "epoch"]


def test_a_large_request_that_is_never_read_blocks_nothing(scripted: MakeTrainer) -> None:
    trainer = scripted("say(event='result', result=7)", timeout=60)
    assert trainer.call("train", {"labels": ["x" * 1000] * 1000}) == 7


def test_noise_on_stdout_and_a_missing_last_newline_are_tolerated(scripted: MakeTrainer) -> None:
    trainer = scripted("""
        print("a library prints")
        print("[1, 2]")
        sys.stdout.buffer.write(b"\\xff\\xfe not text\\n")
        sys.stdout.write(json.dumps({"event": "result", "result": "ok"}))
    """)
    assert trainer.call("train", {}) == "ok"


def test_variables_and_path_reach_the_process(scripted: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/inherited")
    trainer = scripted(
        "say(event='result', result=[os.environ['PYTHONPATH'], os.environ['WHO'], os.getcwd()])",
        environment={"WHO": "me"},
    )
    path, who, folder = trainer.call("plan", {})
    assert path == f"{trainer.path}{os.pathsep}/inherited"
    assert (who, folder) == ("me", "/")


def test_an_error_event_becomes_the_failure(scripted: MakeTrainer) -> None:
    error = failure(
        scripted("""
            print("a warning of a framework", file=sys.stderr)
            say(event="error", kind="project", message="build() raised", traceback="a\\nb")
            sys.exit(1)
        """)
    )
    assert (error.message, error.kind) == ("build() raised", "project")
    assert error.details == {"traceback": ["a", "b"], "log": ["a warning of a framework"]}


def test_an_error_of_the_request_shows_no_log(scripted: MakeTrainer) -> None:
    error = failure(
        scripted("""
            print("a warning of a framework", file=sys.stderr)
            say(event="error", kind="parameter", message="unknown parameter 'epoch'", traceback=None)
        """)
    )
    assert (error.kind, error.details) == ("parameter", {})


def test_a_full_disk_is_called_so_whoever_meets_it(scripted: MakeTrainer) -> None:
    """On a device that is always full, through the model side's own words for it."""
    error = failure(
        scripted(f"""
            sys.path.insert(0, {str(ROOT / "model" / "src")!r})
            del sys.modules["modelship_model"]
            from modelship_model.cli import full_disk
            try:
                with open("/dev/full", "w") as stream:
                    stream.write("x")
            except OSError as exc:
                say(event="error", kind="environment", message=full_disk(exc), traceback=None)
                sys.exit(1)
        """)
    )
    assert error.kind == "disk_full"
    assert "no space left" in error.message


def test_an_end_without_an_answer_shows_the_tail_of_the_log(scripted: MakeTrainer) -> None:
    error = failure(
        scripted("""
            for number in range(100000):
                print("line", number, file=sys.stderr)
            sys.exit(3)
        """)
    )
    assert error.kind == "crash"
    assert "exit status 3" in error.message
    assert error.details["log"][-1] == "line 99999"
    assert sum(map(len, error.details["log"])) < 20_000


def test_a_result_with_a_failing_exit_status_is_not_believed(scripted: MakeTrainer) -> None:
    error = failure(scripted("say(event='result', result={}); sys.exit(1)"))
    assert error.kind == "crash"


def test_death_by_a_signal_is_named(scripted: MakeTrainer) -> None:
    error = failure(scripted("os.kill(os.getpid(), 9)"))
    assert error.kind == "crash"
    assert "SIGKILL" in error.message
    assert "memory" in error.message


def test_a_missing_library_is_named_with_its_interpreter(scripted: MakeTrainer) -> None:
    error = failure(scripted("import no_such_library_anywhere"))
    assert error.kind == "environment"
    assert "no_such_library_anywhere" in error.message
    assert sys.executable in error.message


def test_an_interpreter_without_the_package_is_told_apart() -> None:
    error = failure(Trainer(python=sys.executable, environment={"PYTHONPATH": ""}))
    assert error.kind == "environment"
    assert "has no modelship_model" in error.message
    assert "trainer_path" in error.message


@pytest.mark.parametrize("content", ["not a program", "#!/nowhere/python\n"])
def test_what_is_no_interpreter_is_named(tmp_path: Path, content: str) -> None:
    program = tmp_path / "python"
    program.write_text(content)
    error = failure(Trainer(python=str(program)))
    assert (error.kind, str(program) in error.message) == ("environment", True)
    program.chmod(0o755)
    error = failure(Trainer(python=str(program)))
    assert (error.kind, str(program) in error.message) == ("environment", True)


def test_another_program_is_not_taken_for_the_model_side() -> None:
    error = failure(Trainer(python="true"))
    assert error.kind == "crash"
    assert "no answer" in error.message


def test_missing_paths_say_what_to_install(tmp_path: Path) -> None:
    python = str(tmp_path / "bin" / "python")
    trainer = Trainer(python=python)
    assert trainer.missing() == python
    error = failure(trainer)
    assert error.kind == "environment"
    assert error.message.startswith(f"{python} does not exist: install the trainer")
    path = str(tmp_path / "src")
    trainer = Trainer(python=sys.executable, path=path)
    assert trainer.missing() == path
    assert "trainer_path" in failure(trainer).message
    (tmp_path / "src").mkdir()
    assert trainer.missing() == ""
    assert "contains no modelship_model" in failure(trainer).message


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        ("train", "run again to continue from its last checkpoint"),
        ("import", "give a longer timeout and run again"),  # it has no checkpoint
    ],
)
def test_what_to_do_after_the_time_limit_depends_on_checkpoints(
    scripted: MakeTrainer, command: str, advice: str
) -> None:
    with pytest.raises(ModelshipError) as caught:
        scripted("time.sleep(600)", timeout=0.5).call(command, {})
    assert caught.value.message == f"{command} was stopped after 0.5 s, the limit set by timeout; {advice}"


def test_the_time_limit_ends_the_whole_process_group(scripted: MakeTrainer, tmp_path: Path) -> None:
    trainer = scripted(
        f"""
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open({str(tmp_path / "pids")!r}, "w").write(f"{{os.getpid()}} {{child.pid}}")
        time.sleep(600)
        """,
        timeout=2,
    )
    error = failure(trainer)
    assert error.kind == "timeout"
    assert "2 s" in error.message
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(pids) == 2
    assert wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_grandchild_that_keeps_the_pipes_does_not_keep_the_module(scripted: MakeTrainer) -> None:
    trainer = scripted(
        """
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        say(event="result", result="done")
        """,
        timeout=120,
    )
    assert trainer.call("train", {}) == "done"


#: Stands for the module: calls the trainer and says how it ended.
MODULE = """
import sys
sys.path.insert(0, {tree!r})
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._model.trainer import Trainer
try:
    Trainer(python=sys.executable, path={path!r}).call("train", {{}})
except ModelshipError as exc:
    open({ended!r}, "w").write(exc.kind + ": " + exc.message)
"""


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGHUP", "SIGKILL", "reader gone"])
def test_nothing_keeps_working_once_the_module_is_stopped(scripted: MakeTrainer, tmp_path: Path, how: str) -> None:
    pid_file, ended = tmp_path / "pid", tmp_path / "ended"
    trainer = scripted(f"""
        open({str(pid_file)!r} + ".new", "w").write(str(os.getpid()))
        os.rename({str(pid_file)!r} + ".new", {str(pid_file)!r})
        time.sleep(600)
    """)
    code = textwrap.dedent(MODULE).format(tree=str(ROOT / ".build"), path=trainer.path, ended=str(ended))
    module = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert wait_until(pid_file.exists)
        child = int(pid_file.read_text())
        assert is_alive(child)
        if how == "reader gone":
            assert module.stdout is not None
            module.stdout.close()
        else:
            module.send_signal(getattr(signal, how))
        module.wait(timeout=30)
        assert wait_until(lambda: not is_alive(child))
    finally:
        module.kill()
        module.wait()
    if how == "SIGKILL":
        assert not ended.exists()
    else:
        assert ended.read_text().startswith("interrupted: train was stopped")
