"""What the bench makes of its measurements: the best of the turns, ratios, and whether a goal is met."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest

from tests.bench.figures import Figure, table
from tests.bench.serving import processes, protocol, reckon, wrk
from tests.bench.serving.protocol import BINARY, FRACTIONS, INFER, PREDICT
from tests.bench.serving.reckon import Turn, figures, overview, summed_up
from tests.bench.serving.wrk import Point
from tests.bench.stand import BenchError


def turn(rates: dict[str, float], p99: float = 0.002, start: float = 0.3, memory: int = 60_000_000) -> Turn:
    """The same rate at 1, 8 and 64 connections, by form."""
    points = {(form, n): Point(rate, p99 / 2, p99) for form, rate in rates.items() for n in (1, 8, 64)}
    return Turn(start, memory, points)


OURS = turn({PREDICT: 9000, INFER: 6000, FRACTIONS: 5000, BINARY: 9000})
LIMITS = {"limit": reckon.AGAINST_LIMIT, "granian": reckon.AGAINST_GRANIAN}
NO_RIVALS = ("naive", *LIMITS)


def judged(**found: Turn) -> dict[tuple[str, str], Figure]:
    rows = figures({"ours": OURS, **found}, "ours", "naive", LIMITS, [n for n in found if n not in NO_RIVALS])
    return {(row.section, row.name): row for row in rows}


def met(row: Figure) -> bool:
    assert row.goal is not None
    return row.goal[1]


def test_best_of_the_turns() -> None:
    one, two, three = (
        turn({PREDICT: 100}, p99=0.004, start=0.9, memory=5),
        turn({PREDICT: 300}, p99=0.009, start=0.2, memory=7),
        turn({PREDICT: 200}, p99=0.001, start=0.4, memory=6),
    )
    best = summed_up([one, two, three])
    assert best.points[PREDICT, 8] == Point(300, 0.0005, 0.001)
    assert best.start == 0.4  # the median
    assert best.memory == 7  # the largest


@pytest.mark.parametrize(("rate", "p99", "fast", "steady"), [(30, 0.2, True, True), (31, 0.19, False, False)])
def test_against_the_naive_app(rate: float, p99: float, fast: bool, steady: bool) -> None:
    rows = judged(naive=Turn(2.0, 1, {(PREDICT, 8): Point(rate, 0.1, p99)}))
    assert met(rows[reckon.AGAINST_NAIVE, "requests a second"]) is fast
    assert met(rows[reckon.AGAINST_NAIVE, "p99 latency"]) is steady


def test_the_best_of_the_others_counts_for_each_figure_alone() -> None:
    quick, steady = turn({PREDICT: 3001}, p99=0.01), turn({PREDICT: 500, INFER: 2000}, p99=0.0021)
    rows = judged(quick=quick, steady=steady)
    rate = rows[reckon.AGAINST_OTHERS, f"{PREDICT}, 64: requests a second (quick)"]
    assert rate.times_better == pytest.approx(9000 / 3001)
    assert not met(rate)
    assert met(rows[reckon.AGAINST_OTHERS, f"{PREDICT}, 1: p99 latency (steady)"])
    # who does not speak V2 is not compared there
    assert met(rows[reckon.AGAINST_OTHERS, f"{INFER}, 8: requests a second (steady)"])


def test_an_equal_p99_is_not_lower() -> None:
    rows = judged(same=turn({PREDICT: 10}, p99=0.002))
    assert not met(rows[reckon.AGAINST_OTHERS, f"{PREDICT}, 8: p99 latency (same)"])


@pytest.mark.parametrize(("constant", "reached"), [(13_500, True), (13_501, False)])
def test_limit(constant: float, reached: bool) -> None:
    rows = judged(limit=turn({PREDICT: constant}))
    row = rows[reckon.AGAINST_LIMIT, f"{PREDICT}, 8 connections"]
    assert met(row) is reached
    assert row.ours == pytest.approx(8 / 9000 * 1e3)  # milliseconds a request
    assert rows[reckon.AGAINST_LIMIT, f"{BINARY}, 8 connections"].goal is None
    assert (
        met(judged(granian=turn({PREDICT: constant}))[reckon.AGAINST_GRANIAN, f"{PREDICT}, 8 connections"]) is reached
    )


def test_by_itself() -> None:
    rows = judged()
    assert met(rows[reckon.BY_ITSELF, "binary tensors, not whole numbers, 8 connections"])  # 1.5 x is enough
    assert met(rows[reckon.BY_ITSELF, "binary tensors, not fractions, 8 connections"])
    assert met(rows[reckon.BY_ITSELF, "resident memory"])
    slow = figures(
        {"ours": turn({PREDICT: 1, INFER: 2, FRACTIONS: 2, BINARY: 2.9}, start=0.51, memory=80_100_000)},
        "ours",
        "",
        {},
        [],
    )
    assert [met(row) for row in slow if row.section == reckon.BY_ITSELF] == [False] * 8


def test_missing_contestants_leave_no_rows() -> None:
    assert {section for section, _ in judged()} == {reckon.BY_ITSELF}


def test_every_section_has_a_contestant_in_the_table() -> None:
    found = dict.fromkeys(("ours", "naive", "limit", "granian", "other"), OURS)
    rows = figures(found, "ours", "naive", LIMITS, ["other"])
    assert {row.section for row in rows} == set(reckon.SECTIONS)
    text = table(rows, reckon.SECTIONS)
    assert text.count("  NO") == sum(not row.goal[1] for row in rows if row.goal) > 0


def test_overview_is_sorted_by_rate_and_leaves_out_what_was_not_measured() -> None:
    text = overview(
        {"naive": Turn(2.0, 500_000_000, {(PREDICT, 8): Point(24, 0.3, 0.5, 0.009)}), "ours": OURS},
        {"naive": "Naive", "ours": "Ours"},
    )
    lines = [line.split() for line in text.splitlines()]
    names = [line[0] for line in lines if line[0] in ("Ours", "Naive")]
    assert names == ["Ours", "Naive", "Ours", "Ours", "Ours"]
    assert ["Naive", "24", "300.00", "500.00", "9,000", "2.00", "500"] in lines
    assert ["Ours", *["9,000"] * 3, *["1.00"] * 3, *["2.00"] * 3, "0", "0.30", "60"] in lines


def figures_of_wrk(**changes: float) -> str:
    found = {"requests": 5000, "seconds": 2.0, "failed": 0, "broken": 0, "p50": 0.001, "p99": 0.004, "worst": 0.02}
    return "Running 2s test\n  5000 requests\n\n" + json.dumps({**found, **changes}) + "\n"


def test_figures_of_wrk() -> None:
    assert wrk.read(figures_of_wrk(), 1.0) == Point(2500, 0.001, 0.004, 0.0002)


def test_processes_are_weighed_with_their_descendants() -> None:
    work = "sum(range(3_000_000)); print(1, flush=True); input()"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
    with subprocess.Popen([sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert len(list(processes.family(process.pid))) == 2
        alone = subprocess.run(["ps", "-o", "rss=", "-p", str(process.pid)], capture_output=True, text=True, check=True)
        assert processes.resident(process.pid) > int(alone.stdout) * 1024
        assert processes.processor_seconds(process.pid) > 0
        process.communicate(b"\n", timeout=30)


@pytest.mark.parametrize("changes", [{"failed": 1}, {"broken": 1}, {"requests": 0}])
def test_wrk_tells_of_answers_that_are_not_right(changes: dict[str, float]) -> None:
    with pytest.raises(BenchError, match="requests"):
        wrk.read(figures_of_wrk(**changes))


def test_answers_in_each_form() -> None:
    values = [0.25, 0.75]
    data = struct.pack("<2f", *values)
    head = json.dumps({"outputs": [{"name": "p", "parameters": {"binary_data_size": 8}}]}).encode()
    assert protocol.probabilities(PREDICT, json.dumps({"probabilities": values}).encode(), None) == values
    assert protocol.probabilities(INFER, json.dumps({"outputs": [{"data": values}]}).encode(), None) == values
    assert protocol.probabilities(BINARY, head + data, str(len(head))) == values
    with pytest.raises(ValueError, match="Inference-Header"):
        protocol.probabilities(BINARY, head + data, None)


def test_alike() -> None:
    assert protocol.alike([0.1, 0.9], [0.11, 0.89], 0.02)
    assert not protocol.alike([0.1, 0.9], [0.13, 0.87], 0.02)
    assert not protocol.alike([0.1], [0.1, 0.9], 1.0)
