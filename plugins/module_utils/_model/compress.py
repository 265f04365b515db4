# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``model_compress``: a release becomes a smaller one that can be served, and must pass its gates."""

from __future__ import annotations

import typing as t

from .._core.errors import ModelshipError
from .._core.runner import Context, Outcome
from . import gates, making, options

METHODS = ["prune", "distill", "quantize", "float16"]

SPEC: dict[str, t.Any] = {
    "release": {"type": "path", "required": True},
    "project": {"type": "path"},
    "samples": {"type": "path"},
    "methods": {"type": "list", "elements": "str", "choices": METHODS},
    "options": {"type": "dict", "default": {}},
    "gates": {"type": "dict", "default": {}},
    **options.RELEASES,
    **options.WORK,
    **options.OVERRIDES,
    **options.CONFINEMENT,
    **options.TRAINER,
}


def compress(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Compress the release, or find what was made of it before, and judge the result's gates on every run.

    :raises ModelshipError: a gate fails (kind ``gate``); see :func:`making.make` for the others.
    """
    gates.limits({}, parameters["gates"])  # a misspelt gate must not cost a compression
    request = options.request_of(
        parameters, ("release", "project", "samples", "releases", "work"), ("methods", "options", "parameters", "data")
    )
    if not parameters["release"] and not context.check:
        raise ModelshipError("release: the path is empty: give the folder of the release to compress")
    pending = making.inputs_pending(request, "compress")
    job = making.Job("compress", "compress", "compressed", request)
    made = making.make(options.trainer_for(parameters), job, context, pending)
    wanted = gates.limits((made.plan or {}).get("gates") or {}, parameters["gates"])
    if not made.exists:
        return made.outcome(gates=[])
    judged = gates.judge(wanted, measured(made.release))
    without = "".join(f" ({line})" for line in skipped(made.release))
    gates.enforce(judged, f"release {made.release['digest']}{without}", changed=made.changed, release=made.release)
    for line in gates.table(judged) if judged and made.changed else []:
        context.progress.step(line)
    made.message += "".join(f"; {line}" for line in skipped(made.release))
    return made.outcome(gates=judged)


def skipped(release: t.Mapping[str, t.Any]) -> list[str]:
    """Return one line for each method that does not apply to the release's model, such as ``quantize was skipped: …``."""
    reasons = (release["compression"] or {}).get("skipped") or {}
    return [f"{method} was skipped: {reason}" for method, reason in reasons.items()]


def measured(release: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the values of the gates that a release itself answers: accuracy drop, size ratio and size in bytes."""
    compression = release["compression"]
    if compression is None:
        return {
            "accuracy_drop": gates.NOT_APPLICABLE,
            "size_ratio": gates.NOT_APPLICABLE,
            "size_bytes": release["size"],
        }
    return {
        "accuracy_drop": compression.get("accuracy_drop"),
        "size_ratio": compression.get("size_ratio"),
        "size_bytes": release["size"],
    }
