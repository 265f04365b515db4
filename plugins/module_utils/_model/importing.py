# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``model_import``: a model that somebody else trained becomes a release."""

from __future__ import annotations

import typing as t

from .._core.runner import Context, Outcome
from . import making, options

FORMATS = ["keras", "savedmodel", "skops", "litert", "onnx"]

SPEC: dict[str, t.Any] = {
    "model": {"type": "path", "required": True},
    "format": {"type": "str", "choices": FORMATS},
    "name": {"type": "str", "required": True},
    "samples": {"type": "path", "required": True},
    "labels": {"type": "list", "elements": "str"},
    "input": {"type": "dict"},
    "output": {"type": "dict"},
    **options.RELEASES,
    **options.CONFINEMENT,
    **options.TRAINER,
}


def import_model(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Import the model, or find the release that it made before. See :func:`making.make` for errors."""
    request = options.request_of(
        parameters, ("model", "releases", "samples"), ("format", "name", "labels", "input", "output")
    )
    job = making.Job("import", "import", "imported", request)
    pending = making.path_pending("the model", request.get("model")) or making.path_pending(
        "the file of samples", request.get("samples")
    )
    return making.make(options.foreign_trainer_of(parameters), job, context, pending).outcome()
