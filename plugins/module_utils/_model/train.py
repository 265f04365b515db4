# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``model_train``: a model project becomes a release."""

from __future__ import annotations

import typing as t

from .._core.runner import Context, Outcome
from . import making, options

SPEC: dict[str, t.Any] = {
    "project": {"type": "path", "required": True},
    **options.RELEASES,
    **options.WORK,
    **options.OVERRIDES,
    **options.TRAINER,
}


def train(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Train the project, or find the release that its inputs made before. See :func:`making.make` for errors."""
    request = options.request_of(parameters, ("project", "releases", "work"), ("parameters", "data"))
    job = making.Job("train", "train", "trained", request)
    pending = making.path_pending("the model project", request.get("project"))
    made = making.make(options.trainer_of(parameters), job, context, pending)
    return made.outcome()
