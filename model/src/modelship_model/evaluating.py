# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``evaluate`` command: a release is judged on test samples, and a report of it is written."""

from __future__ import annotations

import os
import typing as t

from .data import load_dataset, load_samples
from .errors import ModelError
from .events import Events
from .files import write_atomic
from .hashing import canonical_json, sha256_bytes
from .metrics import check_probabilities, evaluate_answers
from .planning import Plan, cached_evaluation, plan_evaluate
from .predictors import fit_samples, latency_ms, open_predictor
from .project import load_code
from .release import Manifest, read_json
from .report.page import Mistake, render
from .request import optional, required

if t.TYPE_CHECKING:
    from .data import Floats, Ints

#: Mistakes shown in the report.
MISTAKES = 24


def run(request: dict[str, t.Any], events: Events) -> dict[str, t.Any]:
    """Answer the ``evaluate`` command (docs/formats.md)."""
    plan = plan_evaluate(request)
    dest = os.path.abspath(required(request, "dest", str))
    cached = cached_evaluation(dest, plan.inputs["digest"])
    if cached:
        return {**cached, "cached": True}
    plan.check_libraries()
    manifest = t.cast(Manifest, plan.parent)
    release = os.path.abspath(request["release"])
    events.stage("loading data")
    x, y = _test_part(request, plan, manifest)
    events.stage(f"running {manifest['name']} ({manifest['model']['format']}) on {len(x)} samples")
    if plan.project and plan.project.framework == manifest["model"]["format"] == "keras":
        load_code(plan.project)  # for its custom layers
    predictor = open_predictor(release, manifest)
    answers = predictor(x)
    labels = manifest["signature"]["labels"]
    check_probabilities(answers, len(labels), f"release {manifest['name']}", "release")
    evaluation = {**evaluate_answers(answers, y, labels), "latency_ms": latency_ms(predictor, x)}
    events.stage("writing the report")
    page = render(
        manifest,
        "sha256:" + os.path.basename(release),
        evaluation,
        read_json(release, "curves.json") or {"epochs": []},
        mistakes(x, y, answers),
    ).encode()
    report = os.path.join(dest, "report.html")
    write_atomic(report, page)
    stored = {"inputs": plan.inputs["digest"], "evaluation": evaluation, "report": sha256_bytes(page)}
    write_atomic(os.path.join(dest, "evaluation.json"), canonical_json(stored))
    return {"evaluation": evaluation, "report": report, "cached": False}


def check(request: dict[str, t.Any], events: Events) -> None:
    """Check the data as ``evaluate`` does; nothing is written, downloaded or run of the project's code.

    :raises ModelError: what ``evaluate`` would raise.
    """
    plan = plan_evaluate(request)
    if request.get("samples") or (plan.data is not None and plan.data.local):
        events.stage("loading data")
        _test_part(request, plan, t.cast(Manifest, plan.parent))


def _test_part(request: dict[str, t.Any], plan: Plan, manifest: Manifest) -> tuple[Floats, Ints]:
    labels = len(manifest["signature"]["labels"])
    if request.get("samples"):
        limits = manifest["signature"]["inputs"][0].get("range")
        x, y = load_samples(request["samples"], None, tuple(limits) if limits else None, labels)
        if y is None:
            raise ModelError("data", f"{request['samples']} holds no array 'y': an evaluation needs the class numbers")
        return fit_samples(x, manifest), y
    assert plan.project is not None, "plan_evaluate() asks for a project or samples"
    assert plan.data is not None, "a project always describes its data"
    cache = os.path.join(optional(request, "work", str) or required(request, "dest", str), "data")
    data = load_dataset(plan.data, plan.project, plan.parameters, os.path.abspath(cache), labels)
    return fit_samples(data.x_test, manifest), data.y_test


def mistakes(x: Floats, y: Ints, answers: Floats) -> list[Mistake]:
    """Return the mistakes the model was surest of, at most :data:`MISTAKES`."""
    best = answers.argmax(axis=1)
    wrong = [index for index in range(len(y)) if best[index] != y[index]]
    wrong.sort(key=lambda index: -float(answers[index, best[index]]))
    return [
        Mistake(x[index], int(y[index]), int(best[index]), float(answers[index, best[index]]), index)
        for index in wrong[:MISTAKES]
    ]
