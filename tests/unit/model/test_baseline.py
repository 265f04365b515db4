"""The baseline of a release: histograms and embedding of training samples, against their definitions."""

from __future__ import annotations

import itertools
import json
import typing as t

import pytest

np = pytest.importorskip("numpy")

from modelship_model.baseline import MINIMUM_SAMPLES, SCHEMA, baseline_of, embedding, histogram, inputs_of
from modelship_model.hashing import canonical_json


def signature(*shape: int, labels: int = 3) -> dict[str, t.Any]:
    return {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [-1, *shape], "range": [0, 255]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [-1, labels]}],
        "labels": [str(index) for index in range(labels)],
    }


def answers(count: int) -> t.Any:
    """Of *count* samples, every second is of class 0, the others of class 2; never of class 1."""
    found = np.full((count, 3), 0.1, dtype=np.float32)
    found[::2, 0] = found[1::2, 2] = 0.8
    return found


rng = np.random.default_rng(5)
CASES = {
    "normal": rng.normal(size=2000),
    "few": rng.normal(size=60),
    "constant": np.full(500, 0.1),
    "zero": np.zeros(500),
    "switch": (rng.random(100) < 0.05).astype(float),
    "discrete": rng.integers(0, 10, 500).astype(float),
    "mostly one": np.where(rng.random(2000) < 0.98, 0, rng.random(2000)),
    "mostly the last": np.where(rng.random(2000) < 0.98, 1, rng.random(2000)),
    "far": np.append(rng.random(999), 1e9),
    "large": 1e30 + 1e29 * rng.random(500),
    "tiny": 1e-30 * rng.random(500),
}


@pytest.mark.parametrize("case", CASES)
def test_every_value_lies_between_the_outer_edges(case: str):
    values = CASES[case]
    found = histogram(values)
    edges, counts = found["edges"], found["counts"]
    assert all(low < high for low, high in itertools.pairwise(edges))
    assert len(counts) == len(edges) + 1
    assert (counts[0], counts[-1], sum(counts)) == (0, 0, len(values))
    assert min(counts[1:-1]) > 0
    # By the definition, one value at a time.
    wanted = [0] * len(counts)
    for value in values.tolist():
        wanted[sum(edge <= value for edge in edges)] += 1
    assert counts == wanted


def test_bins_hold_equal_shares_of_what_is_continuous():
    counts = histogram(np.random.default_rng(5).normal(size=2000))["counts"][1:-1]
    assert len(counts) == 10
    assert max(counts) - min(counts) <= 2


def test_fewer_samples_have_fewer_bins():
    rng = np.random.default_rng(5)
    assert len(histogram(rng.normal(size=60))["counts"]) - 2 == 2
    assert len(histogram(rng.normal(size=260))["counts"]) - 2 == 5


def test_few_distinct_values_have_a_bin_each():
    values = np.repeat([0.0, 1.0, 7.0], [3, 90, 7])
    found = histogram(values)
    assert found["counts"] == [0, 3, 90, 7, 0]
    assert found["edges"][1:3] == [0.5, 4.0]


def test_a_value_that_occurs_often_keeps_a_bin_of_its_own():
    values = np.concatenate([np.zeros(900), np.linspace(0.1, 1, 30), np.full(70, 3.0)])
    assert histogram(values)["counts"] == [0, 900, 100, 0]
    values = np.concatenate([np.linspace(0.1, 1, 30), np.full(970, 3.0)])
    assert histogram(values)["counts"] == [0, 30, 970, 0]


@pytest.mark.parametrize("case", ["constant", "discrete", "switch", "mostly one"])
def test_rounding_moves_no_frequent_value(case: str):
    values = CASES[case]
    found = histogram(values)
    moved = np.searchsorted(found["edges"], values * (1 + 1e-9) + 1e-12, side="right")
    assert np.bincount(moved, minlength=len(found["counts"])).tolist() == found["counts"]


def test_one_far_value_does_not_widen_the_other_end():
    edges = histogram(np.append(np.random.default_rng(5).random(999), 1e9))["edges"]
    assert -0.01 < edges[0] < 0


@pytest.mark.parametrize("shape", [(28, 28, 1), (5, 7, 3), (3, 9, 8), (2, 2, 1), (1, 100), (100,), (65,), (6, 6, 6)])
def test_the_embedding_is_what_the_page_of_formats_says(shape: tuple[int, ...]):
    x = np.random.default_rng(1).uniform(0, 255, (9, *shape)).round(1).astype(np.float32)
    names, found = embedding(x, 25.5)
    # The two longest axes, of equal ones the first; 16 cells where there is one axis only.
    lengths = list(shape)
    axes = []
    for _unused in range(min(2, len(shape))):
        axis = max((one for one in range(len(shape)) if one not in axes), key=lambda one: (lengths[one], -one))
        axes.append(axis)
    axes.sort()
    sides = [min(lengths[axis], 4 if len(axes) == 2 else 16) for axis in axes]
    cells = list(itertools.product(*map(range, sides)))
    assert names == ["mean", "std", "low", *("cell_" + "_".join(map(str, cell)) for cell in cells)]
    for sample, row in zip(x, found, strict=True):
        values = [float(value) for value in sample.ravel()]
        mean = sum(values) / len(values)
        wanted = [mean, (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5]
        wanted.append(sum(v <= 25.5 for v in values) / len(values))
        for cell in cells:
            inside = []
            for place in np.ndindex(*shape):
                bounds = [
                    (i * lengths[axis] // n, (i + 1) * lengths[axis] // n)
                    for i, n, axis in zip(cell, sides, axes, strict=True)
                ]
                if all(low <= place[axis] < high for (low, high), axis in zip(bounds, axes, strict=True)):
                    inside.append(float(sample[place]))
            wanted.append(sum(inside) / len(inside))
        assert row.tolist() == pytest.approx(wanted, rel=1e-9)


def test_a_long_run_of_samples_is_embedded_as_each_alone():
    x = np.random.default_rng(1).uniform(0, 255, (2500, 4, 5)).astype(np.float32)
    whole = embedding(x, 20.0)[1]
    assert np.array_equal(whole[[0, 1023, 1024, 2499]], embedding(x[[0, 1023, 1024, 2499]], 20.0)[1])


def test_images_are_described_by_their_embedding():
    x = np.random.default_rng(1).integers(0, 256, (200, 8, 9, 1)).astype(np.float32)
    found = baseline_of(x, answers(200), signature(8, 9, 1))
    assert found is not None
    (given,) = found["inputs"]
    assert (found["schema"], given["name"], given["kind"], given["shape"]) == (SCHEMA, "x", "embedding", [8, 9, 1])
    assert (given["samples"], given["minimum"], given["maximum"]) == (200, 0, 255)
    assert given["mean"] == pytest.approx(x.mean(), rel=1e-6)
    assert given["low"] == 25.5
    names, values = embedding(x, 25.5)
    assert given["features"] == [{"name": n, **histogram(values[:, i])} for i, n in enumerate(names)]
    assert found["prediction"]["classes"] == [100, 0, 100]
    assert found["prediction"]["confidence"]["counts"] == [0, 200, 0]


def test_few_columns_are_described_one_by_one():
    x = np.random.default_rng(1).normal(size=(200, 64)).astype(np.float32)
    found = baseline_of(x, answers(200), signature(64))
    assert found is not None
    (given,) = found["inputs"]
    assert given["kind"] == "columns"
    assert "low" not in given
    assert [one["name"] for one in given["features"]] == [str(index) for index in range(64)]
    assert given["features"][3] == {"name": "3", **histogram(x[:, 3])}
    wide = baseline_of(np.zeros((200, 65), dtype=np.float32), answers(200), signature(65))
    assert wide is not None
    assert wide["inputs"][0]["kind"] == "embedding"


def test_the_threshold_is_the_data_s_own_where_the_signature_has_no_range():
    x = np.linspace(-1, 1, 200 * 70, dtype=np.float32).reshape(200, 70)
    given = signature(70)
    del given["inputs"][0]["range"]
    found = baseline_of(x, answers(200), given)
    assert found is not None
    assert found["inputs"][0]["low"] == float(np.float32(-0.8))


def test_too_few_samples_make_no_baseline():
    x = np.zeros((MINIMUM_SAMPLES, 4), dtype=np.float32)
    assert baseline_of(x[1:], answers(500), signature(4)) is None
    found = baseline_of(x, answers(MINIMUM_SAMPLES - 1), signature(4))
    assert found is not None
    assert found["prediction"] is None
    # A parent's inputs count whatever there is here.
    kept = baseline_of(x[:1], answers(1), signature(4), found["inputs"])
    assert kept == found


def test_the_file_is_the_same_each_time_and_goes_through_json():
    x = np.random.default_rng(1).uniform(0, 255, (300, 12, 12)).astype(np.float32)
    first, second = (canonical_json(baseline_of(x.copy(), answers(80), signature(12, 12))) for _unused in range(2))
    assert first == second
    assert inputs_of(json.loads(first)) == json.loads(second)["inputs"]
    assert len(first) < 20_000


@pytest.mark.parametrize("stored", [None, {}, {"schema": "modelship.baseline/0", "inputs": []}])
def test_another_baseline_gives_no_inputs(stored: t.Any):
    assert inputs_of(stored) is None
