# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that the model modules share, and what is made of them."""

from __future__ import annotations

import os
import re
import typing as t

from .._core.errors import ModelshipError
from .._core.runner import PROGRESS_OPTION
from .._core.values import variables
from .foreign import ForeignTrainer, is_foreign
from .trainer import Trainer

#: Documented by the fragment ``modelship.core.trainer``.
TRAINER: dict[str, t.Any] = {
    "trainer_python": {"type": "path", "required": True},
    "trainer_path": {"type": "path"},
    "trainer_environment": {"type": "dict", "default": {}},
    "timeout": {"type": "int"},
    **PROGRESS_OPTION,
}
#: Documented by the fragment ``modelship.core.model.confinement``.
CONFINEMENT: dict[str, t.Any] = {
    "confinement": {"type": "str", "choices": ["required", "none"], "default": "required"},
    "memory": {"type": "str"},
}
#: Documented by the fragment ``modelship.core.model.releases``.
RELEASES: dict[str, t.Any] = {"releases": {"type": "path", "required": True}}
#: Documented by the fragment ``modelship.core.model.work``.
WORK: dict[str, t.Any] = {"work": {"type": "path"}}
#: Documented by the fragment ``modelship.core.model.overrides``.
OVERRIDES: dict[str, t.Any] = {"parameters": {"type": "dict", "default": {}}, "data": {"type": "dict", "default": {}}}


def trainer_of(parameters: t.Mapping[str, t.Any]) -> Trainer:
    """Return the trainer that the options of :data:`TRAINER` describe.

    :raises ModelshipError: the timeout is not positive, or a variable cannot be one.
    """
    timeout = parameters["timeout"]
    if timeout is not None and timeout <= 0:
        raise ModelshipError(f"timeout: {timeout} is not a positive number of seconds: leave it out for no limit")
    python = parameters["trainer_python"]
    return Trainer(
        python=absolute(python) if os.sep in python else python,
        path=absolute(parameters["trainer_path"]) if parameters["trainer_path"] else None,
        environment=variables(parameters["trainer_environment"], "trainer_environment"),
        timeout=timeout,
    )


def foreign_trainer_of(parameters: t.Mapping[str, t.Any]) -> Trainer:
    """Return the trainer for a model that somebody else made: confined, unless O(confinement) is V(none).

    :raises ModelshipError: as :func:`trainer_of`; the memory is not a size.
    """
    trainer = trainer_of(parameters)
    if parameters.get("confinement") == "none":
        return trainer
    memory = parameters.get("memory")
    return ForeignTrainer(
        trainer.python, trainer.path, trainer.environment, trainer.timeout, size_of(memory) if memory else None
    )


def trainer_for(parameters: t.Mapping[str, t.Any]) -> Trainer:
    """Return the trainer for the release that *parameters* name: confined where that was imported."""
    path = parameters.get("release")
    if path and os.path.isfile(os.path.join(path, "release.json")) and is_foreign(absolute(path)):
        return foreign_trainer_of(parameters)
    return trainer_of(parameters)


def size_of(text: str) -> int:
    """Return a size such as ``8g`` or ``512m`` in bytes.

    :raises ModelshipError: it is not one, or less than 256 MiB, with which no framework starts.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kmgt]?)(?:i?b)?", text.strip().lower())
    size = int(float(match[1]) * 1024 ** " kmgt".index(match[2] or " ")) if match else 0
    if size < 256 << 20:
        raise ModelshipError(f"memory: '{text}' is not a size of at least 256m: write it like 8g or 4096m")
    return size


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
