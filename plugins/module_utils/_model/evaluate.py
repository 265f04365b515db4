# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``model_evaluate``: how good a release is, told in numbers and a report, and whether that is good enough."""

from __future__ import annotations

import json
import os
import typing as t

from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.files import locked
from .._core.runner import Context, Outcome
from . import compress, gates, making, options, release
from .report import Reporter
from .trainer import Trainer

SPEC: dict[str, t.Any] = {
    "release": {"type": "path", "required": True},
    "project": {"type": "path"},
    "samples": {"type": "path"},
    "dest": {"type": "path", "required": True},
    "gates": {"type": "dict", "default": {}},
    **options.OVERRIDES,
    **options.CONFINEMENT,
    **options.TRAINER,
}

_PENDING = "the release would be evaluated"


def evaluate(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Evaluate the release, or find the evaluation made before, and judge the gates on every run.

    :raises ModelshipError: a gate fails (kind ``gate``), the release is damaged (``release``); see
        :meth:`Trainer.call` for the others.
    """
    gates.limits({}, parameters["gates"])
    if not parameters["release"] and not context.check:
        raise ModelshipError("release: the path is empty: give the folder of the release to evaluate")
    trainer = options.trainer_for(parameters)
    request = options.request_of(parameters, ("release", "project", "samples", "dest"), ("parameters", "data"))
    if context.check and (pending := making.inputs_pending(request, "evaluate") or making.trainer_pending(trainer)):
        return _foreseen(f"{pending}: {_PENDING}")
    try:
        plan = making.ask(trainer, "evaluate", request)
    except ModelshipError as exc:
        if context.check and exc.kind == "environment":
            return _foreseen(f"the trainer is not ready: {_PENDING}", [exc.message])
        raise
    wanted = gates.limits(plan.get("gates") or {}, parameters["gates"])
    subject = release.describe(request["release"], release.read_manifest(request["release"]))
    difference = Difference(f"evaluation of {subject['name']}")
    before = _evaluation(request["dest"])
    if plan["existing"]:
        answer: dict[str, t.Any] = {
            "evaluation": plan.get("evaluation") or before,
            "report": os.path.join(request["dest"], "report.html"),
            "cached": True,
        }
    elif context.check:
        difference.add("evaluation", _numbers(before) or None, release.UNKNOWN)
        message = f"release {subject['digest'][:19]} was not evaluated on this data: it would be"
        warnings = making.trainer_lacks(trainer, plan)
        if not warnings:
            making.preflight(trainer, "evaluate", request)
        return Outcome(True, _nothing(), difference, message, warnings)
    else:
        answer = _run(trainer, request, context)
    evaluation = answer["evaluation"]
    changed = not answer["cached"]
    if changed:
        old, new = _numbers(before), _numbers(evaluation)
        for name in sorted(old.keys() | new.keys()):
            difference.add(name, old.get(name), new.get(name))
    judged = gates.judge(wanted, {"accuracy": evaluation.get("accuracy"), **compress.measured(subject)})
    # its path is not taken from the process, which may be one that nobody trusts
    result = {"evaluation": evaluation, "report": os.path.join(request["dest"], "report.html")}
    gates.enforce(judged, f"release {subject['digest']}", changed=changed, **result)
    for line in gates.table(judged) if judged and changed else []:
        context.progress.step(line)
    return Outcome(changed, {**result, "gates": judged}, difference, _message(subject, evaluation, changed))


def _run(trainer: Trainer, request: dict[str, t.Any], context: Context) -> dict[str, t.Any]:
    with locked(os.path.join(request["dest"], ".lock")):
        answer = trainer.call("evaluate", request, Reporter(context.progress))
    if not isinstance(answer, dict) or not {"evaluation", "report", "cached"} <= answer.keys():
        raise ModelshipError(
            "the answer of modelship_model is not what this collection expects: install the same version of both",
            kind="environment",
        )
    return answer


def _evaluation(dest: str) -> dict[str, t.Any]:
    """Return what the last evaluation left in *dest*, or an empty dict."""
    try:
        with open(os.path.join(dest, "evaluation.json"), "rb") as stream:
            found = json.load(stream)
    except (OSError, ValueError):
        return {}
    found = found.get("evaluation", found) if isinstance(found, dict) else {}
    return found if isinstance(found, dict) else {}


def _numbers(evaluation: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {name: evaluation[name] for name in ("accuracy", "loss", "samples") if name in evaluation}


def _message(subject: t.Mapping[str, t.Any], evaluation: t.Mapping[str, t.Any], changed: bool) -> str:
    accuracy = evaluation.get("accuracy")
    shown = "not measured" if accuracy is None else f"{accuracy:.4f}"
    word = "evaluated" if changed else "nothing to do: evaluated before"
    on = f"on {evaluation.get('samples')} samples"
    return f"{word}: {subject['name']} {subject['digest'][:19]}, accuracy {shown} {on}"


def _nothing() -> dict[str, t.Any]:
    return {"evaluation": None, "report": None, "gates": []}


def _foreseen(message: str, warnings: list[str] | None = None) -> Outcome:
    difference = Difference("evaluation")
    difference.add("evaluation", None, release.UNKNOWN)
    return Outcome(True, _nothing(), difference, message, warnings or [])
