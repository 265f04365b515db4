"""From single measurements to what is shown and judged."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Iterator, Mapping

from ..figures import Figure
from .protocol import BINARY, FRACTIONS, INFER, PREDICT
from .wrk import Point

AGAINST_NAIVE = "Serving, 8 connections, /predict: against the naive app"
AGAINST_OTHERS = "Serving, one worker each: against the best of the other servers, by name"
AGAINST_LIMIT = "Serving: time a request, against its own HTTP server answering a constant"
AGAINST_GRANIAN = "Serving: time a request, against Granian answering a constant"
BY_ITSELF = "Serving: one worker by itself"
SECTIONS = {
    AGAINST_NAIVE: "Flask app that calls Keras' model.predict for each request",
    AGAINST_OTHERS: "the fastest at each rate, the lowest at each p99",
    AGAINST_LIMIT: "the constant answer",
    AGAINST_GRANIAN: "the server in Rust that the goal was set with; it reads the body and looks at nothing of it",
    BY_ITSELF: "JSON, where it is tensors as bytes against tensors as JSON",
}
NAIVE_RATE, NAIVE_P99, OTHERS_RATE, LIMIT_TIME, BINARY_RATE = 300, 100, 3, 1.5, 1.5
START_SECONDS, MEMORY_MB = 0.5, 80


@dataclasses.dataclass(frozen=True)
class Turn:
    """One start of a contestant.

    :ivar start: seconds from the start of its process to its first right answer.
    :ivar memory: bytes resident after the load, of all its processes.
    :ivar points: by form of the request and number of connections.
    """

    start: float
    memory: int
    points: dict[tuple[str, int], Point]


def summed_up(turns: list[Turn]) -> Turn:
    """Return the best of each rate and latency, the median of the starts, the largest memory."""
    points = {}
    for key in turns[0].points:
        found = [turn.points[key] for turn in turns]
        points[key] = Point(
            max(point.rate for point in found),
            min(point.p50 for point in found),
            min(point.p99 for point in found),
            min(point.cpu for point in found),
        )
    return Turn(statistics.median(turn.start for turn in turns), max(turn.memory for turn in turns), points)


def figures(
    found: Mapping[str, Turn], ours: str, naive: str, limits: Mapping[str, str], others: Iterable[str]
) -> list[Figure]:
    """Return the rows that have goals; one whose contestant is missing in *found* is left out.

    :param limits: the sections of what answers a constant, by contestant.
    """
    mine = found[ours]
    rows: list[Figure] = []
    if naive in found:
        rows += _naive(mine.points[PREDICT, 8], found[naive].points[PREDICT, 8])
    rivals = {name: found[name] for name in others if name in found}
    for form in (PREDICT, INFER):
        for connections in (1, 8, 64):
            key = (form, connections)
            rows += _rivals(
                key, mine.points[key], {name: t.points[key] for name, t in rivals.items() if key in t.points}
            )
    for limit, section in limits.items():
        if limit in found:
            rows += _limit(section, mine, found[limit])
    for form, what in ((INFER, "whole numbers"), (FRACTIONS, "fractions")):
        for connections in (1, 8, 64):
            binary, text = mine.points[BINARY, connections].rate, mine.points[form, connections].rate
            goal = (f">= {BINARY_RATE:g} x", binary >= BINARY_RATE * text)
            name = f"binary tensors, not {what}, {_connections(connections)}"
            rows.append(Figure(BY_ITSELF, name, "/s", binary, text, goal))
    memory = mine.memory / 1e6
    return [
        *rows,
        Figure(
            BY_ITSELF,
            "process start to first answer",
            "s",
            mine.start,
            goal=(f"<= {START_SECONDS:g} s", mine.start <= START_SECONDS),
        ),
        Figure(BY_ITSELF, "resident memory", "MB", memory, goal=(f"<= {MEMORY_MB} MB", memory <= MEMORY_MB)),
    ]


def _limit(section: str, mine: Turn, limit: Turn) -> Iterator[Figure]:
    for form in (PREDICT, INFER, BINARY):
        for connections in (1, 8, 64):
            here, there = mine.points[form, connections].rate, limit.points[PREDICT, connections].rate
            # The goal is for the simple protocol; the others show what their forms cost or save.
            goal = (f"<= {LIMIT_TIME:g} x", there <= LIMIT_TIME * here) if form == PREDICT else None
            name = f"{form}, {_connections(connections)}"
            yield Figure(section, name, "ms", connections / here * 1e3, connections / there * 1e3, goal)


def _connections(count: int) -> str:
    return f"{count} connection{'s' * (count > 1)}"


def _naive(mine: Point, naive: Point) -> list[Figure]:
    return [
        Figure(
            AGAINST_NAIVE,
            "requests a second",
            "/s",
            mine.rate,
            naive.rate,
            (f">= {NAIVE_RATE} x", mine.rate >= NAIVE_RATE * naive.rate),
        ),
        Figure(
            AGAINST_NAIVE,
            "p99 latency",
            "ms",
            mine.p99 * 1e3,
            naive.p99 * 1e3,
            (f"<= 1/{NAIVE_P99}", mine.p99 * NAIVE_P99 <= naive.p99),
        ),
    ]


def _rivals(key: tuple[str, int], mine: Point, rivals: Mapping[str, Point]) -> list[Figure]:
    if not rivals:
        return []
    form, connections = key
    fastest = max(rivals, key=lambda name: rivals[name].rate)
    steadiest = min(rivals, key=lambda name: rivals[name].p99)
    rate, p99 = rivals[fastest].rate, rivals[steadiest].p99
    name = f"{form}, {connections}"
    return [
        Figure(
            AGAINST_OTHERS,
            f"{name}: requests a second ({fastest})",
            "/s",
            mine.rate,
            rate,
            (f">= {OTHERS_RATE} x", mine.rate >= OTHERS_RATE * rate),
        ),
        Figure(
            AGAINST_OTHERS,
            f"{name}: p99 latency ({steadiest})",
            "ms",
            mine.p99 * 1e3,
            p99 * 1e3,
            ("less", mine.p99 < p99),
        ),
    ]


def overview(found: Mapping[str, Turn], labels: Mapping[str, str]) -> str:
    """Return all contestants as one table, by form of the request and then by rate.

    ``CPU`` is the processor time that a request takes at 8 connections, in microseconds.
    """
    lines: list[tuple[str, ...]] = [("connections", *["1", "8", "64"] * 3, "us", "s", "MB")]
    for form in (PREDICT, INFER, FRACTIONS, BINARY):
        having = [name for name, turn in found.items() if any(key[0] == form for key in turn.points)]
        having.sort(key=lambda name: -found[name].points[form, 8].rate)
        lines.append((form,))
        for name in having:
            turn = found[name]
            here = [turn.points.get((form, connections)) for connections in (1, 8, 64)]
            lines.append(
                (
                    "  " + labels[name],
                    *("" if point is None else f"{point.rate:,.0f}" for point in here),
                    *("" if point is None else f"{point.p50 * 1e3:.2f}" for point in here),
                    *("" if point is None else f"{point.p99 * 1e3:.2f}" for point in here),
                    f"{turn.points[form, 8].cpu * 1e6:,.0f}",
                    f"{turn.start:.2f}",
                    f"{turn.memory / 1e6:.0f}",
                )
            )
    first = max(len(line[0]) for line in lines)
    heading = " " * first + "".join(text.rjust(27) for text in ("requests a second", "p50, ms", "p99, ms"))
    rows = ["".join([line[0].ljust(first), *(cell.rjust(9) for cell in line[1:])]).rstrip() for line in lines]
    return "\n".join([heading + "CPU".rjust(9) + "start".rjust(9) + "RSS".rjust(9), *rows])
