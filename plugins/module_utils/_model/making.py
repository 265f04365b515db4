# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making a release: plan, compare with what is there, and act only on a difference."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.files import exists, locked
from .._core.runner import Context, Outcome
from . import release
from .report import Reporter, summary
from .trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Job:
    """One way to make a release.

    :param command: the model side's command: ``train``, ``import`` or ``compress``.
    :param kind: the kind of release it makes.
    :param past: what was done to the release, in words: ``trained``.
    :param request: the command's request, its paths absolute.
    """

    command: str
    kind: str
    past: str
    request: t.Mapping[str, t.Any]


@dataclasses.dataclass
class Made:
    """The release that answers a job's inputs.

    :param release: the result dict.
    :param changed: it was made now, or would be in check mode.
    :param exists: it is on disk.
    :param plan: what the model side planned; ``None`` where it could not be asked.
    """

    release: dict[str, t.Any]
    changed: bool
    exists: bool
    difference: Difference
    message: str
    plan: dict[str, t.Any] | None = None
    warnings: list[str] = dataclasses.field(default_factory=list)

    def outcome(self, **further: t.Any) -> Outcome:
        """Return this as a module's outcome, with *further* return values."""
        return Outcome(self.changed, {"release": self.release, **further}, self.difference, self.message, self.warnings)


def make(trainer: Trainer, job: Job, context: Context, pending: str = "") -> Made:
    """Return the release of the job's inputs, made now where it does not exist yet.

    :param pending: check mode only: what an earlier task would make and this one needs, such as
        ``the project /x does not exist yet``.
    :raises ModelshipError: see :meth:`Trainer.call`; another run holds the release's lock (kind ``locked``).
    """
    if context.check and (pending := pending or trainer_pending(trainer)):
        return _foreseen(job, f"{pending}: a release would be {job.past}")
    try:
        plan = ask(trainer, job.command, job.request)
    except ModelshipError as exc:
        if context.check and exc.kind == "environment":
            # the task that installs the trainer has not acted yet; the real run fails where it really is wrong
            return _foreseen(job, f"the trainer is not ready: a release would be {job.past}", [exc.message])
        raise
    name = str(plan["name"])
    if plan["existing"]:
        found = release.describe(plan["existing"], release.read_manifest(plan["existing"]))
        difference = Difference(f"release {name}")
        return Made(found, False, True, difference, f"nothing to do: {summary(found)} is up to date", plan)

    difference = Difference(f"release {name}")
    latest = plan.get("latest")
    changes = release.compare_inputs(latest["inputs"] if latest else None, plan["inputs"], difference)
    before = _describe_if_there(latest["path"]) if latest else None
    reason = _reason(name, latest is not None, changes)
    if context.check:
        release.compare_results(before, None, difference)
        message = f"{reason}: a release would be {job.past}"
        warnings = trainer_lacks(trainer, plan)
        if not warnings:
            preflight(trainer, job.command, job.request)
        return Made(release.predicted(job.kind, plan), True, False, difference, message, plan, warnings)

    context.progress.step(reason)
    with locked(os.path.join(job.request["releases"], f".{name}.lock")):
        answer = trainer.call(job.command, job.request, Reporter(context.progress))
    made = _made(answer)
    release.compare_results(before, made, difference)
    context.progress.step(f"{job.past} {summary(made)}")
    return Made(made, True, True, difference, f"{job.past} {summary(made)}; {reason}", plan)


def trainer_pending(trainer: Trainer) -> str:
    """Say that the trainer does not exist yet, or return an empty string where it does."""
    missing = trainer.missing()
    return f"the trainer does not exist yet ({missing})" if missing else ""


def trainer_lacks(trainer: Trainer, plan: t.Mapping[str, t.Any]) -> list[str]:
    """Return a warning for check mode where the trainer has no libraries (yet) that the plan's command needs."""
    missing = plan.get("missing")
    return [f"{trainer.python} does not have {', '.join(missing)} yet: install the trainer first"] if missing else []


def path_pending(what: str, path: str | None) -> str:
    """Say that *what* does not exist yet, or return an empty string where *path* is there."""
    if not path:
        return f"{what} does not exist yet"
    return "" if exists(path) else f"{what} does not exist yet ({path})"


def inputs_pending(request: t.Mapping[str, t.Any], verb: str) -> str:
    """Say which input of a request with a release does not exist yet, or return an empty string."""
    pending = path_pending(f"the release to {verb}", request.get("release"))
    for name, what in (("project", "the model project"), ("samples", "the file of samples")):
        if not pending and name in request:
            pending = path_pending(what, request[name])
    return pending


def ask(trainer: Trainer, command: str, request: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the model side's plan for *command*, which imports no framework and changes nothing.

    :raises ModelshipError: see :meth:`Trainer.call`; the plan is not of this collection's version.
    """
    plan = trainer.call("plan", {**request, "command": command})
    if not isinstance(plan, dict) or not {"name", "inputs", "existing"} <= plan.keys():
        raise ModelshipError(
            "the plan of modelship_model is not what this collection expects: install the same version of both",
            kind="environment",
        )
    return plan


def preflight(trainer: Trainer, command: str, request: t.Mapping[str, t.Any]) -> None:
    """Have the model side check what *command* checks before it acts, for check mode; nothing is written.

    :raises ModelshipError: what the command would raise, with the same message.
    """
    trainer.call("check", {**request, "command": command})


def _made(answer: t.Any) -> dict[str, t.Any]:
    try:
        made = answer["release"]
        return release.describe(made["path"], made["manifest"])
    except (TypeError, KeyError) as exc:
        raise ModelshipError(
            f"the answer of modelship_model lacks {exc}: install the version that belongs to this collection",
            kind="environment",
        ) from exc


def _describe_if_there(path: str) -> dict[str, t.Any] | None:
    """The latest release is only compared with: where it is damaged, the new one is all the more wanted."""
    try:
        return release.describe(path, release.read_manifest(path))
    except ModelshipError:
        return None


def _reason(name: str, is_there: bool, changes: list[str]) -> str:
    if not is_there:
        return f"no release of {name} yet"
    if not changes:
        return f"the release of {name} with these inputs was removed"
    return f"inputs changed: {', '.join(changes)}"


def _foreseen(job: Job, message: str, warnings: list[str] | None = None) -> Made:
    difference = Difference("release")
    release.compare_results(None, None, difference)
    return Made(release.predicted(job.kind), True, False, difference, message, None, warnings or [])
