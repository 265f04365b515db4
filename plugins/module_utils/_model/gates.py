# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gates: thresholds that stop the line. The numbers come from releases and evaluations; judging computes nothing."""

from __future__ import annotations

import difflib
import typing as t

from .._core.errors import ModelshipError

#: Each gate's direction: the value must be at least, or at most, the limit.
DIRECTIONS: dict[str, str] = {
    "accuracy": "at least",
    "accuracy_drop": "at most",
    "size_ratio": "at most",
    "size_bytes": "at most",
    "latency_p99_ms": "at most",
}
#: Gates whose limit is a share.
_SHARES = frozenset({"accuracy", "accuracy_drop"})
#: Equal numbers that arithmetic on floats made differ still pass.
_EPSILON = 1e-9

#: Stands for a number that does not exist for this kind of release (no parent to lose accuracy against).
NOT_APPLICABLE = "not applicable"

Gate = dict[str, t.Any]


def limits(declared: t.Mapping[str, t.Any], overrides: t.Mapping[str, t.Any] | None) -> dict[str, float]:
    """Merge a project's gates and a task's, name by name; a gate overridden with null is not judged.

    :param declared: the gates of ``model.yml``.
    :param overrides: the task's ``gates``.
    :raises ModelshipError: a gate is unknown, or a limit is no sensible number.
    """
    for name in overrides or {}:
        if name not in DIRECTIONS:
            near = difflib.get_close_matches(name, DIRECTIONS, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise ModelshipError(f"unknown gate '{name}': {meant}known are {', '.join(DIRECTIONS)}", kind="gate_name")
    merged = {**declared, **(overrides or {})}
    return {name: _limit(name, value) for name, value in merged.items() if value is not None}


def _limit(name: str, value: t.Any) -> float:
    number: float | None = None
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = None
    highest = 1.0 if name in _SHARES else float("inf")
    if number is None or not 0 <= number <= highest or number == float("inf"):
        wanted = "a number from 0 to 1" if name in _SHARES else "a number of 0 or more"
        raise ModelshipError(f"gate {name}: '{value}' is not {wanted}", kind="gate_name")
    return int(number) if number.is_integer() and name not in _SHARES else number


def judge(wanted: t.Mapping[str, float], values: t.Mapping[str, t.Any]) -> list[Gate]:
    """Compare each limit with its value; gates that *values* does not mention are another module's to judge.

    :param values: gate name to a number, :data:`NOT_APPLICABLE`, or ``None`` where it should be known and is not.
    :returns: one dict a gate with ``gate``, ``limit``, ``direction``, ``value`` and ``verdict`` (``passed``,
        ``failed`` or ``not applicable``), in the order of :data:`DIRECTIONS`.
    """
    found: list[Gate] = []
    for name, direction in DIRECTIONS.items():
        if name not in wanted or name not in values:
            continue
        value, limit = values[name], wanted[name]
        if value == NOT_APPLICABLE:
            verdict, value = NOT_APPLICABLE, None
        elif value is None:
            verdict = "failed"  # what was not measured has not been shown to be good enough
        else:
            # written so that NaN fails
            passed = value >= limit - _EPSILON if direction == "at least" else value <= limit + _EPSILON
            verdict = "passed" if passed else "failed"
        found.append({"gate": name, "direction": direction, "limit": limit, "value": value, "verdict": verdict})
    return found


def table(judged: list[Gate]) -> list[str]:
    """Return the lines of a readable table of *judged*."""
    rows = [("gate", "limit", "value", "verdict")]
    rows += [(g["gate"], f"{g['direction']} {_text(g['limit'])}", _text(g["value"]), g["verdict"]) for g in judged]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def enforce(judged: list[Gate], what: str, **details: t.Any) -> None:
    """Fail where a gate failed.

    :param what: names what was judged, such as ``release sha256:…``.
    :param details: further return values of the failed task.
    :raises ModelshipError: kind ``gate``, with ``gates`` and the lines of the ``table``.
    """
    failed = [gate for gate in judged if gate["verdict"] == "failed"]
    if not failed:
        return
    reasons = ", ".join(_reason(gate) for gate in failed)
    lines = table(judged)
    report = f" (report: {details['report']})" if details.get("report") else ""
    raise ModelshipError(
        f"{what} does not pass: {reasons}; it is kept, and nothing is deployed{report}\n" + "\n".join(lines),
        kind="gate",
        gates=judged,
        table=lines,
        **details,
    )


def _reason(gate: Gate) -> str:
    if gate["value"] is None:
        why = " (that takes samples with labels)" if gate["gate"] in _SHARES else ""
        return f"{gate['gate']} was not measured{why} and must be {gate['direction']} {_text(gate['limit'])}"
    return f"{gate['gate']} is {_text(gate['value'])} and must be {gate['direction']} {_text(gate['limit'])}"


def _text(value: t.Any) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.6g}"
