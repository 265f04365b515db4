"""The model side as a process: its commands in the trainer's interpreter, and what they returned."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import typing as t
from pathlib import Path

from .conftest import ROOT

MODEL_YML = """\
name: tiny
framework: {framework}
code: project.py
data: {{source: digits, test: 0.3}}
labels: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
input: {{name: image, range: [0, 255]}}
parameters: {{epochs: 5, batch_size: 64, learning_rate: 0.003, seed: 7, fault: ""}}
"""
_RUN_MANY = """
import io, json, sys
from modelship_model import cli
from modelship_model.errors import ModelError
from modelship_model.events import Events

last = []
for command, request in json.loads(sys.argv[1]):
    stream = io.StringIO()
    try:
        result = cli.run([command], json.dumps(request), Events(stream))
        last.append({"event": "result", "result": result})
    except ModelError as error:
        last.append({"event": "error", "kind": error.kind, "message": error.message})
    last[-1]["stages"] = [json.loads(line).get("message") for line in stream.getvalue().splitlines()]
print(json.dumps(last))
"""


@dataclasses.dataclass(frozen=True)
class Answer:
    """How one command ended."""

    events: list[dict[str, t.Any]]

    @property
    def last(self) -> dict[str, t.Any]:
        return self.events[-1]

    @property
    def result(self) -> dict[str, t.Any]:
        assert self.last["event"] == "result", self.last
        return t.cast(dict[str, t.Any], self.last["result"])

    @property
    def manifest(self) -> dict[str, t.Any]:
        return t.cast(dict[str, t.Any], self.result["release"]["manifest"])

    @property
    def path(self) -> Path:
        return Path(self.result["release"]["path"])

    @property
    def epochs(self) -> list[dict[str, t.Any]]:
        return [event for event in self.events if event["event"] == "epoch"]


class ModelSide:
    """Runs commands of the model side in the trainer's interpreter."""

    def __init__(self, python: str, home: Path) -> None:
        self.python, self.home = python, home
        # The sources are one of the inputs: a copy does not change while the tests run.
        self.sources = home / "src"
        shutil.copytree(ROOT / "model" / "src" / "modelship_model", self.sources / "modelship_model")
        self.environment = {**os.environ, "PYTHONPATH": str(self.sources)}

    def start(self, command: str, request: dict[str, t.Any]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self.python, "-m", "modelship_model", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=self.environment,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        return process

    def run(self, command: str, /, **request: t.Any) -> Answer:
        with self.start(command, request) as process:
            assert process.stdout is not None
            events = [json.loads(line) for line in process.stdout]
        assert process.returncode == (0 if events[-1]["event"] == "result" else 1)
        assert [event["event"] for event in events[:-1] if event["event"] in ("result", "error")] == []
        return Answer(events)

    def run_many(self, *calls: tuple[str, dict[str, t.Any]]) -> list[dict[str, t.Any]]:
        """Run several commands one after the other in one process, which starts its frameworks once.

        :returns: of each the last event: ``result``, or ``error`` without a traceback.
        """
        printed = self.python_script(_RUN_MANY, json.dumps(calls))
        return t.cast(list[dict[str, t.Any]], json.loads(printed.splitlines()[-1]))

    def python_script(self, script: str, *arguments: str) -> str:
        """Run a script in the trainer's interpreter and return what it printed."""
        command = [self.python, "-c", script, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=self.environment).stdout

    def project(self, name: str, framework: str, code: str) -> str:
        folder = self.home / name
        folder.mkdir()
        (folder / "model.yml").write_text(MODEL_YML.format(framework=framework))
        (folder / "project.py").write_text(code)
        return str(folder)

    def stores(self, name: str) -> dict[str, str]:
        return {"releases": str(self.home / name / "releases"), "work": str(self.home / name / "work")}

    def train_killed_and_resumed(self, project: str, stores: dict[str, str], after: int) -> Answer:
        """Kill a training with SIGKILL once *after* epochs are reported, then run it again."""
        with self.start("train", {"project": project, **stores}) as process:
            assert process.stdout is not None
            for line in process.stdout:
                event = json.loads(line)
                assert event["event"] not in ("result", "error"), "it ended before it could be killed"
                if event["event"] == "epoch" and event["epoch"] == after:
                    process.send_signal(signal.SIGKILL)
                    break
            process.stdout.read()
        assert process.returncode == -signal.SIGKILL
        return self.run("train", project=project, **stores)
