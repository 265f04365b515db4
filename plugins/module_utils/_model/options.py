# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that the model modules share, and what is made of them."""

from __future__ import annotations

import os
import typing as t

from .._core.errors import ModelshipError
from .._core.runner import PROGRESS_OPTION
from .trainer import Trainer

#: Documented by the fragment ``modelship.core.trainer``.
TRAINER: dict[str, t.Any] = {
    "trainer_python": {"type": "path", "required": True},
    "trainer_path": {"type": "path"},
    "trainer_environment": {"type": "dict", "default": {}},
    "timeout": {"type": "int"},
    **PROGRESS_OPTION,
}
#: Documented by the fragment ``modelship.core.model.releases``.
RELEASES: dict[str, t.Any] = {"releases": {"type": "path", "required": True}}
#: Documented by the fragment ``modelship.core.model.work``.
WORK: dict[str, t.Any] = {"work": {"type": "path"}}
#: Documented by the fragment ``modelship.core.model.overrides``.
OVERRIDES: dict[str, t.Any] = {"parameters": {"type": "dict", "default": {}}, "data": {"type": "dict", "default": {}}}


def trainer_of(parameters: t.Mapping[str, t.Any]) -> Trainer:
    """Return the trainer that the options of :data:`TRAINER` describe.

    :raises ModelshipError: the timeout is not positive, or a variable's value is no text or number.
    """
    timeout = parameters["timeout"]
    if timeout is not None and timeout <= 0:
        raise ModelshipError(f"timeout: {timeout} is not a positive number of seconds: leave it out for no limit")
    environment: dict[str, str] = {}
    for name, value in parameters["trainer_environment"].items():
        if not isinstance(value, (str, int, float)) or isinstance(value, bool):
            raise ModelshipError(f"trainer_environment: {name} must be text or a number (quote true and false)")
        environment[str(name)] = str(value)
    python = parameters["trainer_python"]
    return Trainer(
        python=absolute(python) if os.sep in python else python,
        path=absolute(parameters["trainer_path"]) if parameters["trainer_path"] else None,
        environment=environment,
        timeout=timeout,
    )


def absolute(path: str) -> str:
    """Return *path* made absolute: the model side runs in another folder."""
    return os.path.abspath(path)


def request_of(parameters: t.Mapping[str, t.Any], paths: t.Iterable[str], values: t.Iterable[str]) -> dict[str, t.Any]:
    """Return the options that are set as a request to the model side, those named in *paths* made absolute."""
    request: dict[str, t.Any] = {name: absolute(parameters[name]) for name in paths if parameters[name]}
    # an empty dict overrides nothing; an empty list is a choice of its own (no method at all)
    request.update({name: parameters[name] for name in values if parameters[name] not in (None, {}, "")})
    if "releases" in request and "work" in parameters and not parameters["work"]:
        request["work"] = os.path.join(request["releases"], ".work")
    return request
