# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the request, runs the command, and ends with exactly one ``result`` or ``error`` event."""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
import typing as t

from .errors import ModelError, did_you_mean, disk_full, first_line
from .events import Events

#: Command -> module with ``run(request, events) -> result``; imported when needed, so that ``plan`` stays quick.
COMMANDS = {
    "plan": "planning",
    "check": "checking",
    "train": "training",
    "import": "importing",
    "compress": "compressing",
    "evaluate": "evaluating",
    "publish": "publishing",
}


def main(arguments: list[str]) -> int:
    """Run one command.

    :param arguments: exactly one, a key of :data:`COMMANDS`.
    :returns: exit code: 0 after a ``result``, 1 after an ``error``.
    """
    events = Events.on_stdout()
    try:
        result = run(arguments, sys.stdin.read(), events)
    except ModelError as exc:
        return _fail(events, exc.kind, exc.message, exc.trace)
    except MemoryError:
        return _fail(events, "environment", "out of memory: use less data, a smaller batch_size, or a larger machine")
    except ImportError as exc:
        return _fail(events, "environment", missing_library(exc))
    except OSError as exc:
        if disk_full(exc):
            return _fail(events, "environment", full_disk(exc))
        return _fail(events, "environment", f"cannot use {exc.filename or 'a file'}: {exc.strerror or first_line(exc)}")
    except KeyboardInterrupt:
        return _fail(
            events, "request", "stopped on request: run again; a training continues after its last finished epoch"
        )
    except Exception as exc:  # noqa: BLE001 - the last resort: the caller must get its event
        if disk_full(exc):
            return _fail(events, "environment", full_disk(exc))
        trace = "".join(traceback.format_exception(exc))
        return _fail(events, "internal", f"{type(exc).__name__}: {first_line(exc)}", trace)
    events.write({"event": "result", "result": result})
    return 0


def run(arguments: list[str], text: str, events: Events) -> dict[str, t.Any]:
    """Parse *text* as the request of the command in *arguments* and run it.

    :raises ModelError: the command or the request is wrong, or the command failed.
    """
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        given = arguments[0] if arguments else ""
        raise ModelError("request", f"unknown command '{given}'{did_you_mean(given, COMMANDS)}")
    try:
        request = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as exc:
        raise ModelError("request", f"the request on stdin is not JSON: {first_line(exc)}") from exc
    if not isinstance(request, dict):
        raise ModelError("request", "the request on stdin must be a JSON object")
    module = importlib.import_module(f".{COMMANDS[arguments[0]]}", __package__)
    return t.cast(dict[str, t.Any], module.run(request, events))


def _unique(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    """Make a mapping of a JSON object, of which Python would silently keep the last of equal keys."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _value in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ModelError("request", f"the request on stdin holds the key '{twice}' twice: remove one")
    return found


def missing_library(error: ImportError) -> str:
    """Say which library is missing in which interpreter, and what to install."""
    name = error.name or first_line(error)
    lock = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../locks/trainer.txt"))
    advice = "install it with the role modelship.core.trainer"
    if os.path.isfile(lock):
        advice = f"run {sys.executable} -m pip install --no-deps --require-hashes -r {lock}"
    return f"{sys.executable} cannot import '{name}' ({first_line(error)}): {advice}, or name another interpreter"


def full_disk(error: BaseException) -> str:
    """Say that the disk is full, and that nothing was lost."""
    where = getattr(error, "filename", None) or os.getcwd()
    return f"no space left on the disk while writing {where}: free some space and run again; nothing finished was lost"


def _fail(events: Events, kind: str, message: str, trace: str | None = None) -> int:
    events.write({"event": "error", "kind": kind, "message": message, "traceback": trace})
    return 1
