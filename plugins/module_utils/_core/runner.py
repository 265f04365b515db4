# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module's ``main()`` does around its logic."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule

from .diff import Difference
from .errors import ModelshipError
from .progress import Progress


@dataclasses.dataclass
class Outcome:
    """What a module's logic found or did.

    :param changed: something was changed, or would be in check mode.
    :param result: the module's documented return values.
    :param difference: before and after, returned and printed under ``--diff``.
    :param message: one line for ``msg``: what was done, or would be and why.
    :param warnings: shown by Ansible beside the task's result.
    """

    changed: bool
    result: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    difference: Difference | None = None
    message: str = ""
    warnings: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Context:
    """How the logic is to run: ``check`` forbids every change, ``progress`` reports to who watches."""

    check: bool = False
    progress: Progress = dataclasses.field(default_factory=Progress)


#: The hidden option through which an action plugin names the progress file.
PROGRESS_OPTION: dict[str, t.Any] = {"_progress": {"type": "path"}}


def run(module: AnsibleModule, logic: t.Callable[[dict[str, t.Any], Context], Outcome]) -> None:
    """Call ``logic(parameters, context)`` and end the module with its outcome, or with a clear failure."""
    parameters = dict(module.params)
    try:
        progress = Progress(parameters.pop("_progress", None))
        outcome = logic(parameters, Context(check=module.check_mode, progress=progress))
    except ModelshipError as exc:
        module.fail_json(msg=exc.message, error_kind=exc.kind, **exc.details)
    for warning in outcome.warnings:
        module.warn(warning)
    result = dict(outcome.result, changed=outcome.changed)
    if outcome.message:
        result["msg"] = outcome.message
    if outcome.difference is not None and module._diff:
        result["diff"] = outcome.difference.as_result()
    module.exit_json(**result)
