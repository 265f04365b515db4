from __future__ import annotations

import os

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving import metrics
from modelship_serving.metrics import Counters, SharedCells


def values(counters: Counters) -> dict[str, float]:
    lines = counters.text("digits", "sha256:aa", "onnx").decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_counts_by_endpoint_and_code_and_time():
    counters = Counters(1)
    row = counters.row(0)
    for status, nanoseconds in ((200, 50_000), (200, 300_000), (400, 20_000_000_000)):
        row.begin()
        row.end(metrics.PREDICT, status, nanoseconds)
    found = values(counters)
    assert found['modelship_requests_total{endpoint="predict",code="200"}'] == 2
    assert found['modelship_requests_total{endpoint="predict",code="400"}'] == 1
    assert found['modelship_request_seconds_bucket{endpoint="predict",le="0.0001"}'] == 1
    assert found['modelship_request_seconds_bucket{endpoint="predict",le="0.0005"}'] == 2
    assert found['modelship_request_seconds_bucket{endpoint="predict",le="10.0"}'] == 2
    assert found['modelship_request_seconds_bucket{endpoint="predict",le="+Inf"}'] == 3
    assert found['modelship_request_seconds_count{endpoint="predict"}'] == 3
    assert found['modelship_request_seconds_sum{endpoint="predict"}'] == pytest.approx(20.00035)
    assert found['modelship_request_seconds_count{endpoint="infer"}'] == 0
    assert found['modelship_release_info{name="digits",digest="sha256:aa",format="onnx"}'] == 1


def test_any_status_is_counted():
    counters = Counters(1)
    row = counters.row(0)
    row.begin()
    row.end(metrics.OTHER, 418, 1)
    assert values(counters)['modelship_requests_total{endpoint="other",code="500"}'] == 1


def test_rows_of_forked_workers_add_up():
    counters = Counters(2)
    counters.row(0).begin()
    pid = os.fork()
    if pid == 0:
        row = counters.row(1)
        for _ in range(3):
            row.begin()
        row.end(metrics.INFER, 200, 1)
        row.set_ready()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert values(counters)['modelship_requests_total{endpoint="infer",code="200"}'] == 1
    assert counters.row(1).in_flight == 2
    assert counters.row(1).ready
    counters.row(1).reset()
    assert counters.row(1).in_flight == 0
    assert not counters.row(1).ready
    assert counters.row(0).in_flight == 1
    assert values(counters)['modelship_requests_total{endpoint="infer",code="200"}'] == 1


def test_refusals_batches_and_connections():
    counters = Counters(1)
    row = counters.row(0)
    for reason in ("queue_full", "queue_full", "never heard of"):
        row.rejected(reason)
    for size, waited in ((1, 0), (3, 2_000_000), (500, 20_000_000_000)):
        row.batch(size, waited)
    row.connections(1)
    row.connections(1)
    row.connections(-1)
    counters.extra.append(lambda: ["modelship_more 7"])
    found = values(counters)
    assert found['modelship_rejected_total{reason="queue_full"}'] == 2
    assert found['modelship_rejected_total{reason="other"}'] == 1
    assert [found[f'modelship_batch_size_bucket{{le="{bound}"}}'] for bound in (1, 2, 4, 128, "+Inf")] == [
        1,
        1,
        2,
        2,
        3,
    ]
    assert (found["modelship_batch_size_sum"], found["modelship_batch_size_count"]) == (504, 3)
    assert found['modelship_queue_seconds_bucket{le="0.0025"}'] == 2
    assert found["modelship_queue_seconds_sum"] == pytest.approx(20.002)
    assert found["modelship_connections"] == 1
    assert found["modelship_more"] == 7


def test_shared_cells_add_up_over_processes():
    cells = SharedCells(2, 3)
    cells.row(0)[1] = 5
    pid = os.fork()
    if pid == 0:
        cells.row(1)[1] += 2
        cells.row(1)[2] = -1
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert cells.total() == [0, 7, -1]
    assert list(cells.row(1)) == [0, 2, -1]
