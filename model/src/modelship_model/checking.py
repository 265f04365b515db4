# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``check`` command: what another command checks before it acts, for check mode; nothing is written."""

from __future__ import annotations

import importlib
import typing as t

from .errors import ModelError, did_you_mean
from .events import Events
from .request import required

#: Command -> module with ``check(request, events)``.
_MODULES = {"train": "training", "import": "importing", "compress": "compressing", "evaluate": "evaluating"}


def run(request: dict[str, t.Any], events: Events) -> dict[str, t.Any]:
    """Run the ``check`` command (docs/formats.md).

    :raises ModelError: what the command would raise before it acts.
    """
    command = required(request, "command", str)
    if command not in _MODULES:
        raise ModelError("request", f"check: unknown command '{command}'{did_you_mean(command, _MODULES)}")
    module = importlib.import_module(f".{_MODULES[command]}", __package__)
    module.check({name: value for name, value in request.items() if name != "command"}, events)
    return {}
