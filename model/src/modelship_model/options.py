# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The methods of compression and their options, with defaults and limits."""

from __future__ import annotations

import dataclasses
import typing as t

from .errors import ModelError, did_you_mean

#: In the order in which they must run: what learns comes before what rounds.
METHODS = ("distill", "prune", "quantize", "float16")


@dataclasses.dataclass(frozen=True)
class Option:
    """One option: default, lowest and highest value (both allowed), and the methods it matters to."""

    default: int | float
    low: float
    high: float
    methods: tuple[str, ...]


OPTIONS: dict[str, Option] = {
    "sparsity": Option(0.5, 0.01, 0.99, ("prune",)),
    "prune_epochs": Option(3, 1, 10_000, ("prune",)),
    "distill_epochs": Option(20, 1, 10_000, ("distill",)),
    "temperature": Option(3.0, 0.1, 100.0, ("distill",)),
    "teacher_weight": Option(0.7, 0.0, 1.0, ("distill",)),
    "prune_learning_rate": Option(0.0005, 1e-9, 10.0, ("prune",)),
    "distill_learning_rate": Option(0.002, 1e-9, 10.0, ("distill",)),
    "tune_batch_size": Option(32, 1, 1_000_000, ("prune", "distill")),
    "calibration_samples": Option(256, 1, 100_000, ("quantize",)),
    "seed": Option(42, 0, 2**31, ("prune", "distill")),
}


def check_methods(value: t.Any) -> list[str]:
    """Return the methods in the order in which they run, whatever the order they were written in.

    :raises ModelError: not a list, an unknown or repeated method, or ``quantize`` with ``float16``.
    """
    if not isinstance(value, list):
        raise ModelError("request", f"methods must be a list of {', '.join(METHODS)}, not {value!r}")
    for method in value:
        if method not in METHODS:
            raise ModelError("request", f"methods: unknown method '{method}'{did_you_mean(str(method), METHODS)}")
    if len(set(value)) != len(value):
        raise ModelError("request", f"methods: a method is named twice in {value}")
    if "quantize" in value and "float16" in value:
        raise ModelError("request", "methods: quantize (int8) and float16 exclude each other: choose one")
    return [method for method in METHODS if method in value]


def check_options(value: dict[str, t.Any]) -> dict[str, int | float]:
    """Check the given options.

    :raises ModelError: unknown, of a wrong type, or out of its limits.
    """
    found: dict[str, int | float] = {}
    for name, given in value.items():
        if name not in OPTIONS:
            raise ModelError("request", f"options: unknown option '{name}'{did_you_mean(name, OPTIONS)}")
        option = OPTIONS[name]
        whole = isinstance(option.default, int)
        if isinstance(given, str):  # Ansible's -e sparsity=0.6 is text
            try:
                given = int(given) if whole else float(given)
            except ValueError:
                pass
        if isinstance(given, bool) or not isinstance(given, int if whole else (int, float)):
            raise ModelError("request", f"options: {name} must be a {'whole ' if whole else ''}number, not {given!r}")
        if not option.low <= given <= option.high:
            raise ModelError(
                "request", f"options: {name} must be between {option.low:g} and {option.high:g}, not {given}"
            )
        found[name] = given if whole else float(given)
    return found


def effective_options(methods: list[str], given: dict[str, int | float]) -> dict[str, int | float]:
    """Return the options that matter to *methods*, defaults filled in; others change nothing and are left out."""
    return {
        name: given.get(name, option.default) for name, option in OPTIONS.items() if set(option.methods) & set(methods)
    }
