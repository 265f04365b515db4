# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The trainer: an interpreter with the frameworks, spoken to by the "Model CLI" of ``docs/formats.md``."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import typing as t

from .._core import confinement
from .._core.confinement import Confinement
from .._core.errors import ModelshipError
from . import process
from .process import StartError

_INSTALL = "install the trainer with the role modelship.core.trainer"
_NO_MODULE = re.compile(r"No module named '?([A-Za-z0-9_]+)")
#: Failures in which what the frameworks wrote to stderr may help.
_SHOW_LOG = frozenset({"project", "environment", "internal", "crash"})

#: What a foreign model did to its process where that was ended by a signal; the same model does it again.
_FAULTS = {
    **dict.fromkeys(("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP"), "crashes its framework"),
    "SIGXCPU": "used all of its CPU time",
    "SIGXFSZ": "wrote a larger file than its limit",
}

Event = dict[str, t.Any]


def ignore(_event: Event) -> None:
    """Take an event and do nothing."""


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Where the model side runs.

    :param python: path (or name on ``PATH``) of the interpreter that has the frameworks.
    :param path: folder that contains the package ``modelship_model``, put on ``PYTHONPATH``; ``None`` where the
        package is installed in the interpreter.
    :param environment: further environment variables.
    :param timeout: seconds that one call may take; ``None`` for no limit.
    """

    python: str
    path: str | None = None
    environment: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    timeout: float | None = None

    def missing(self) -> str:
        """Return the path of what does not exist (yet), or an empty string."""
        if shutil.which(self.python) is None and not os.path.exists(self.python):
            return self.python
        return self.path if self.path and not os.path.exists(self.path) else ""

    def call(
        self,
        command: str,
        request: t.Mapping[str, t.Any],
        on_event: t.Callable[[Event], None] = ignore,
        confined: Confinement | None = None,
    ) -> t.Any:
        """Run one command of the model side and return its result.

        :param request: the command's JSON request.
        :param on_event: is called with each ``stage`` and ``epoch`` event as it comes.
        :param confined: run the command in this confinement.
        :raises ModelshipError: the interpreter is missing or lacks a library (kind ``environment``), the command
            failed (the kind of its error event), crashed (``crash``), took too long (``timeout``), or was stopped
            (``interrupted``).
        """
        executable = self._executable()
        answers: list[Event] = []
        noise: list[str] = []

        def on_line(line: bytes) -> None:
            event = _parse(line)
            if event is None:
                if line.strip():
                    noise.append(line.decode(errors="replace"))
                    del noise[:-20]
            elif event["event"] in ("result", "error"):
                answers.append(event)
            else:
                on_event(event)

        program = [executable, "-m", "modelship_model", command]
        try:
            finished = process.run_lines(
                confined.command(program) if confined else program,
                stdin=json.dumps(request, allow_nan=False).encode(),
                environment=self._variables(confined is not None),
                on_line=on_line,
                timeout=self.timeout,
            )
        except StartError as exc:
            # pylint takes StartError for no exception when it reads the built collection
            raise ModelshipError(  # pylint: disable=bad-exception-cause
                f"cannot run {self.python} ({exc.message}): set trainer_python to a Python interpreter, or {_INSTALL}",
                kind="environment",
            ) from exc
        except ValueError as exc:
            raise ModelshipError(f"the request to {command} has no JSON form: {exc}", kind="request") from exc
        except ModelshipError as exc:
            if exc.kind in ("timeout", "interrupted"):
                exc.message = f"{command} was {exc.message}; {_again(command, exc.kind)}"
            raise
        if confined and (failed := confinement.failure(finished.code, finished.log)):
            if failed.kind == "start":
                raise ModelshipError(
                    f"cannot run {failed.message}: foreign models are read by an unprivileged process, which must be able "
                    "to read and run the trainer's interpreter (chmod -R go+rX)",
                    kind="environment",
                )
            if failed.kind == "confinement":
                failed.message += "; confinement: none reads a model that you trust as you trust a program unconfined"
            if failed.kind == "limit":
                failed.message = f"{command} was stopped: {failed.message}, its limit: set memory, or check the model"
            raise failed
        if len(answers) == 1 and answers[0]["event"] == "result" and finished.code == 0:
            return answers[0].get("result")
        if answers and answers[-1]["event"] == "error":
            raise _reported(answers[-1], finished.log)
        raise self._crashed(command, finished, noise, confined is not None)

    def _executable(self) -> str:
        missing = self.missing()
        if missing:
            option, wanted = ("trainer_python", "a Python interpreter with the frameworks")
            if missing == self.path:
                option, wanted = ("trainer_path", "the folder that contains modelship_model")
            raise ModelshipError(
                f"{missing} does not exist: {_INSTALL}, or set {option} to {wanted}", kind="environment"
            )
        found = shutil.which(self.python)
        if found is None:
            raise ModelshipError(
                f"{self.python} is not a program that can be run: set trainer_python to a Python interpreter",
                kind="environment",
            )
        if self.path and not os.path.isdir(os.path.join(self.path, "modelship_model")):
            raise ModelshipError(
                f"{self.path} contains no modelship_model: set trainer_path to the folder that contains the package",
                kind="environment",
            )
        return os.path.abspath(found)

    def _variables(self, confined: bool = False) -> dict[str, str]:  # noqa: ARG002 - of a foreign trainer
        variables = dict(os.environ)
        # Ansible's own settings for its modules are not the trainer's
        variables.pop("PYTHONHOME", None)
        variables["PYTHONUNBUFFERED"] = "1"
        # skl2onnx orders parts of a model by sets: the same inputs are to give the same bytes
        variables["PYTHONHASHSEED"] = "0"
        variables.update(self.environment)
        if self.path:
            inherited = variables.get("PYTHONPATH")
            variables["PYTHONPATH"] = os.pathsep.join([self.path, *([inherited] if inherited else [])])
        return variables

    def _crashed(
        self, command: str, finished: process.Finished, noise: list[str], confined: bool = False
    ) -> ModelshipError:
        log = [*noise, *finished.log]
        if finished.code < 0:
            name = _signal_name(-finished.code)
            if confined and name in _FAULTS:
                return ModelshipError(
                    f"{command} was ended by {name}: reading or running the model {_FAULTS[name]}; check where the model "
                    "comes from, or export it again",
                    kind="crash",
                    log=log,
                )
            hint = " (perhaps the machine ran out of memory)" if name == "SIGKILL" else ""
            return ModelshipError(
                f"{command} was ended by {name}{hint}: {_again(command, 'crash')}",
                kind="crash",
                log=log,
            )
        missing = next((found for line in reversed(log) if (found := _NO_MODULE.search(line))), None)
        if missing is not None and finished.code != 0:
            library = missing.group(1)
            if library == "modelship_model":
                advice = f"set trainer_path to the folder that contains it, or {_INSTALL}"
            else:
                advice = f"install it there ({_INSTALL})"
            return ModelshipError(f"{self.python} has no {library}: {advice}", kind="environment", log=log)
        return ModelshipError(
            f"{self.python} -m modelship_model {command} ended with exit status {finished.code} and no answer: "
            "check that trainer_python is a Python interpreter with a modelship_model of this collection's version",
            kind="crash",
            log=log,
        )


def _again(command: str, kind: str) -> str:
    """Return what to do about a command that did not end; only training has checkpoints to continue from."""
    if command == "train":
        return "run again to continue from its last checkpoint"
    return "give a longer timeout and run again" if kind == "timeout" else "run again"


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _reported(event: Event, log: list[str]) -> ModelshipError:
    kind = str(event.get("kind") or "internal")
    message = str(event.get("message") or "the model side failed without a word")
    if kind == "environment" and message.startswith("no space left"):
        kind = "disk_full"  # as every other module of the collection calls it
    details: dict[str, t.Any] = {}
    if event.get("traceback"):
        details["traceback"] = str(event["traceback"]).splitlines()
    if log and kind in _SHOW_LOG:
        details["log"] = log
    return ModelshipError(message, kind=kind, **details)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
