"""The figures as rows of one table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Figure:
    """One row: what was measured of this collection (*ours*) and of the contestant (*other*).

    :param unit: ``s``, ``ms``, ``MB``, ``MB sent`` or ``/s``; all but ``/s`` are better where they are smaller.
    :param goal: ``(what is promised, whether it is met)``; ``None`` for a row that only informs.
    """

    section: str
    name: str
    unit: str
    ours: float
    other: float | None = None
    goal: tuple[str, bool] | None = None

    @property
    def times_better(self) -> float | None:
        """How many times better ours is than the contestant's."""
        if not self.other or not self.ours:
            return None
        return self.ours / self.other if self.unit == "/s" else self.other / self.ours


def smaller(section: str, name: str, unit: str, ours: float, other: float) -> Figure:
    """Return a row whose goal is to be better than the contestant."""
    return Figure(section, name, unit, ours, other, ("less", ours < other))


def table(figures: list[Figure], contestants: dict[str, str]) -> str:
    """Return the rows, aligned; *contestants* names what each section is compared with."""
    header = ("figure", "modelship", "contestant", "ratio", "goal", "met")
    body: list[tuple[str, ...] | str] = []
    section = ""
    for figure in figures:
        if figure.section != section:
            section = figure.section
            body.append(f"{section}\n(contestant: {contestants[section]})")
        better = figure.times_better
        goal, met = figure.goal or ("", None)
        body.append(
            (
                "  " + figure.name,
                _value(figure.ours, figure.unit),
                "" if figure.other is None else _value(figure.other, figure.unit),
                ""
                if better is None
                else f"{better:,.0f} x"
                if better >= 20
                else f"{better:.1f} x"
                if better >= 2
                else f"{better:.2f} x",
                goal,
                "" if met is None else "yes" if met else "NO",
            )
        )
    rows = [header, *(row for row in body if isinstance(row, tuple))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    align: list[Callable[[str, int], str]] = [str.ljust, str.rjust, str.rjust, str.rjust, str.ljust, str.ljust]
    lines = []
    for row in [header, *body]:
        if isinstance(row, str):
            lines += ["", row]
        else:
            cells = [place(cell, width) for place, cell, width in zip(align, row, widths, strict=True)]
            lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _value(value: float, unit: str) -> str:
    if value >= 100:
        return f"{value:,.0f} {unit}"
    return f"{value:.1f} {unit}" if value >= 10 else f"{value:.2f} {unit}" if value >= 0.095 else f"{value:.3f} {unit}"
