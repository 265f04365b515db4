"""Drift: the baseline as it is read, the same embedding on both sides, and metrics of traffic that changes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import types
import typing as t
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_model import baseline as model_side
from modelship_serving import baseline as serving_side
from modelship_serving import drift
from modelship_serving.drift import Drift, load_drift, psi
from modelship_serving.errors import StartError
from modelship_serving.release import load_release

SHAPE = (8, 8, 1)
LABELS = ["no", "yes", 'per"haps']


def signature(*shape: int) -> dict[str, t.Any]:
    return {
        "inputs": [{"name": "image", "dtype": "float32", "shape": [-1, *shape]}],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [-1, len(LABELS)]}],
        "labels": LABELS,
    }


def images(count: int, seed: int = 0) -> t.Any:
    """Blobs of varying brightness around the middle, 0..255."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:8, 0:8]
    middle = rng.normal(3.5, 0.7, (count, 2, 1, 1))
    far = (rows - middle[:, 0]) ** 2 + (columns - middle[:, 1]) ** 2
    light = rng.uniform(150, 255, (count, 1, 1)) * np.exp(-far / 6)
    return light.round().astype(np.float32)[..., np.newaxis]


def answer(x: t.Any) -> t.Any:
    """Stands for the model: the brighter a sample, the more its class is the last."""
    score = (x.reshape(len(x), -1).mean(axis=1) - 50) / 30
    found = np.exp(np.stack([-score, np.zeros(len(x)), score], axis=1))
    with np.errstate(invalid="ignore"):
        return (found / found.sum(axis=1, keepdims=True)).astype(np.float32)


def write(folder: Path, content: bytes | None, shape: tuple[int, ...] = SHAPE, labels: bool = True) -> t.Any:
    """A release, loaded, with *content* as its ``baseline.json``."""
    files = {"model/model.onnx": b"stands for a model", **({"baseline.json": content} if content else {})}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    manifest = {
        "schema": "modelship.release/1",
        "name": "blobs",
        "kind": "import",
        "signature": signature(*shape) | ({} if labels else {"labels": None}),
        "model": {"format": "onnx", "path": "model/model.onnx", "size": 18},
        "files": {name: {"sha256": hashlib.sha256(d).hexdigest(), "size": len(d)} for name, d in files.items()},
    }
    (folder / "release.json").write_text(json.dumps(manifest))
    return load_release(str(folder))


def baseline(x: t.Any, shape: tuple[int, ...] = SHAPE) -> dict[str, t.Any]:
    found = model_side.baseline_of(x, answer(x), signature(*shape))
    assert found is not None
    return found


class Clock:
    """Nanoseconds that pass only when told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 10**12
        monkeypatch.setattr(drift, "time", types.SimpleNamespace(monotonic_ns=lambda: self.now))

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def made(folder: Path, workers: int = 1) -> Drift:
    found = load_drift(write(folder, json.dumps(baseline(images(2000))).encode()), workers)
    assert found is not None
    return found


def send(observer: drift.Observer, clock: Clock, x: t.Any) -> None:
    """One sample after the other, none so soon that it would be passed over."""
    found = answer(x)
    for index in range(len(x)):
        clock.wait(1)
        observer([x[index : index + 1]], [found[index : index + 1]])


def metrics(watched: Drift) -> dict[str, float]:
    lines = (line for line in watched.lines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


SHAPES = [(28, 28, 1), (5, 7, 3), (3, 9, 8), (2, 2, 1), (1, 100), (100,), (6, 6, 6), (3, 30, 40), (4, 1, 7)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["noise", "whole", "constant"])
def test_both_sides_reckon_the_same_embedding(shape: tuple[int, ...], kind: str):
    rng = np.random.default_rng(3)
    x = {
        "noise": rng.normal(0, 50, (40, *shape)),
        "whole": rng.integers(0, 256, (40, *shape)),
        "constant": np.full((40, *shape), 0.1),
    }[kind].astype(np.float32)
    names, wanted = model_side.embedding(x, 25.5)
    assert serving_side.embedding_names(shape) == names
    found = serving_side.embedding(x, 25.5)
    assert found == pytest.approx(wanted, rel=1e-12, abs=1e-9)
    # What counts is the bin.
    for index in range(len(names)):
        edges = model_side.histogram(wanted[:, index])["edges"]
        assert np.array_equal(np.searchsorted(edges, found[:, index]), np.searchsorted(edges, wanted[:, index]))


def test_the_psi_of_known_shares():
    # 0.5, 0.5 against 0.7, 0.3: 0.2 * ln(1.4) - 0.2 * ln(0.6); smoothing and the average of chance are small here.
    assert psi([500_000, 500_000], [700_000, 300_000]) == pytest.approx(0.169460, abs=1e-4)
    assert psi([500, 500], [500, 500]) == 0
    assert psi([7, 9], [0, 0]) == 0


def test_the_psi_of_empty_bins_is_finite():
    assert 1 < psi([0, 100, 100, 0], [0, 0, 0, 500]) < 20
    # One stray sample in a bin that training data never filled is no drift.
    assert psi([0, 1000, 1000, 0], [1, 250, 249, 0]) < 0.05


@pytest.mark.parametrize(("m", "n"), [(500, 300), (2000, 300), (100_000, 300), (500, 4096)])
def test_chance_alone_is_no_drift(m: int, n: int):
    rng = np.random.default_rng(2)
    shares = [0, *[0.1] * 10, 0]
    values = [psi(rng.multinomial(m, shares).tolist(), rng.multinomial(n, shares).tolist()) for _each in range(300)]
    assert np.mean(values) < 0.02
    assert np.mean(np.array(values) > 0.1) < 0.05


def test_many_classes_are_compared_by_the_frequent_ones():
    known = list(range(100))
    first, second = drift._common(known, known)
    assert first == second == [*range(99, 80, -1), sum(range(81))]
    assert drift._common([1, 2], [3, 4]) == ([1, 2], [3, 4])


def test_a_release_without_a_baseline(tmp_path: Path):
    assert load_drift(write(tmp_path, None), 2) is None


def test_a_file_that_is_not_the_releases_is_no_baseline(tmp_path: Path):
    (tmp_path / "baseline.json").write_text("{}")
    assert load_drift(write(tmp_path, None), 2) is None


def broken(found: dict[str, t.Any], *path: t.Any, value: t.Any) -> bytes:
    place: t.Any = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(found).encode()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), "modelship.baseline/9", "schema 'modelship.baseline/9' is not modelship.baseline/1"),
        (("inputs",), 3, "is not a baseline"),
        (("inputs",), [], "inputs: there is none"),
        (("inputs", 0, "name"), "other", r"input 'other' of shape \[8, 8, 1\] is none of the signature's"),
        (("inputs", 0, "shape"), [8, 8], r"input 'image' of shape \[8, 8\] is none of the signature's"),
        (("inputs", 0, "shape"), [], r"input 'image' of shape \[\] is none of the signature's"),
        (("inputs", 0, "kind"), "columns", "input 'image' has other features"),
        (("inputs", 0, "features"), [], "input 'image' has other features"),
        (("inputs", 0, "features", 1, "edges", 1), -9e9, "feature 'std' of input 'image': edges must rise"),
        (("inputs", 0, "features", 1, "counts"), [1, 2], "feature 'std' of input 'image': edges must rise"),
        (("prediction", "classes"), [1, 2], "prediction: 2 classes are not what output 'probabilities' gives"),
        (("prediction", "output"), "logits", "prediction: 3 classes are not what output 'logits' gives"),
        (("prediction", "confidence", "edges"), [], "prediction: edges must rise"),
    ],
)
def test_a_baseline_that_does_not_fit_is_refused(tmp_path: Path, path: t.Any, value: t.Any, message: str):
    with pytest.raises(StartError, match=message):
        load_drift(write(tmp_path, broken(baseline(images(200)), *path, value=value)), 1)


def test_nothing_is_said_of_few_samples(tmp_path: Path, clock: Clock):
    watched = made(tmp_path)
    observer = watched.row(0)
    assert metrics(watched) == {
        "modelship_drift_seen_total": 0,
        "modelship_drift_sampled_total": 0,
        "modelship_drift_seconds_total": 0,
        "modelship_drift_observations": 0,
    }
    send(observer, clock, images(drift.MINIMUM - 1, seed=1))
    found = metrics(watched)
    assert found["modelship_drift_observations"] == drift.MINIMUM - 1
    assert not [name for name in found if "psi" in name]
    send(observer, clock, images(1, seed=2))
    assert metrics(watched)["modelship_drift_psi_max"] < 0.1


def test_drift_shows_and_goes_away(tmp_path: Path, clock: Clock):
    watched = made(tmp_path)
    observer = watched.row(0)
    send(observer, clock, images(1000, seed=1))
    found = metrics(watched)
    features = [value for name, value in found.items() if name.startswith("modelship_drift_psi{")]
    assert len(features) == 3 + 16
    assert max(features) == found["modelship_drift_psi_max"] < 0.1
    assert found['modelship_prediction_psi{output="probabilities",of="class"}'] < 0.1
    assert found['modelship_prediction_psi{output="probabilities",of="confidence"}'] < 0.1
    send(observer, clock, 255 - images(3000, seed=2))
    found = metrics(watched)
    assert found['modelship_drift_psi{input="image",feature="mean"}'] > 0.25
    assert found["modelship_drift_psi_max"] > 0.25
    assert found['modelship_prediction_psi{output="probabilities",of="class"}'] > 0.25
    send(observer, clock, images(drift.WINDOW + drift.BLOCK, seed=3))
    found = metrics(watched)
    assert drift.WINDOW <= found["modelship_drift_observations"] < drift.WINDOW + drift.BLOCK
    assert found["modelship_drift_psi_max"] < 0.1
    assert found["modelship_drift_sampled_total"] == found["modelship_drift_seen_total"] == 4000 + 4352


def test_input_statistics(tmp_path: Path, clock: Clock):
    watched = made(tmp_path)
    observer = watched.row(0)
    x = images(300, seed=1)
    x[7, 2, 3] = 900
    send(observer, clock, x)
    found = metrics(watched)
    assert found['modelship_input_mean{input="image"}'] == pytest.approx(float(x.mean(dtype=np.float64)), abs=1e-5)
    assert found['modelship_input_minimum{input="image"}'] == float(x.min())
    assert found['modelship_input_maximum{input="image"}'] == 900
    assert found['modelship_input_out_of_range_ratio{input="image"}'] == pytest.approx(1 / x.size, abs=1e-6)


def test_columns_have_statistics_of_their_own(tmp_path: Path, clock: Clock):
    rng = np.random.default_rng(1)
    x = np.stack([rng.normal(size=500), rng.integers(0, 3, 500), np.full(500, 7)], axis=1).astype(np.float32)
    watched = load_drift(write(tmp_path, json.dumps(baseline(x, (3,))).encode(), (3,)), 1)
    assert watched is not None
    observer = watched.row(0)
    traffic = x[rng.permutation(500)][:400]
    traffic[:100, 2] = 8
    send(observer, clock, traffic)
    found = metrics(watched)
    assert found['modelship_drift_psi{input="image",feature="0"}'] < 0.1
    assert found['modelship_drift_psi{input="image",feature="1"}'] < 0.1
    assert found['modelship_drift_psi{input="image",feature="2"}'] > 0.25
    assert found['modelship_input_mean{input="image",feature="2"}'] == 7.25
    assert found['modelship_input_maximum{input="image",feature="1"}'] == 2
    assert found['modelship_input_out_of_range_ratio{input="image",feature="2"}'] == 0.25
    assert found['modelship_input_out_of_range_ratio{input="image",feature="1"}'] == 0


def test_what_no_training_data_holds_is_counted_too(tmp_path: Path, clock: Clock):
    watched = made(tmp_path)
    observer = watched.row(0)
    strange = images(400, seed=1)
    strange[::2, 0, 0], strange[1::2, 5, 5] = np.nan, np.inf
    send(observer, clock, strange)
    found = metrics(watched)
    assert found["modelship_drift_observations"] == 400
    assert found["modelship_drift_psi_max"] > 0.25


def test_a_busy_server_looks_at_a_bounded_number_of_samples(tmp_path: Path, clock: Clock):
    watched = made(tmp_path)
    observer = watched.row(0)
    x = images(64, seed=1)
    found = answer(x)
    for _each in range(40_000):
        observer([x[:1]], [found[:1]])
        clock.wait(10 / 40_000)
    got = metrics(watched)
    assert got["modelship_drift_seen_total"] == 40_000
    assert 0.8 * 10 * drift.RATE < got["modelship_drift_sampled_total"] < 1.2 * 10 * drift.RATE
    # Nor are there more of them where they come in batches.
    for _each in range(1000):
        observer([x], [found])
        clock.wait(10 / 1000)
    more = metrics(watched)["modelship_drift_sampled_total"] - got["modelship_drift_sampled_total"]
    assert 0.8 * 10 * drift.RATE < more < 1.2 * 10 * drift.RATE


def test_slow_reckoning_is_done_less_often(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch):
    watched = made(tmp_path)
    count = watched.layout.count

    def slowly(*arguments: t.Any) -> None:
        clock.wait(0.01)
        count(*arguments)

    monkeypatch.setattr(watched.layout, "count", slowly)
    observer = watched.row(0)
    x = images(1, seed=1)
    began = clock.now
    for _each in range(40_000):
        observer([x], [answer(x)])
        clock.wait(60 / 40_000)
    spent = metrics(watched)["modelship_drift_seconds_total"]
    assert 0 < spent <= 2 * drift.SHARE * (clock.now - began) / 1e9


def test_a_part_of_a_batch_is_spread_over_it(tmp_path: Path, clock: Clock):
    watched = made(tmp_path)
    x = images(1000, seed=1)
    x[:500] = 0
    observer = watched.row(0)
    for _each in range(200):
        clock.wait(1)
        observer([x], [answer(x)])
    found = metrics(watched)
    assert found["modelship_drift_sampled_total"] == 200 * drift.CHUNK
    assert found['modelship_input_mean{input="image"}'] == pytest.approx(float(x.mean(dtype=np.float64)), rel=0.1)


def test_arrays_may_be_written_to_afterwards(tmp_path: Path, clock: Clock):
    watched = made(tmp_path)
    observer = watched.row(0)
    x = np.full((1, *SHAPE), 5, np.float32)
    for _each in range(5):
        observer([x], [answer(x)])
        clock.wait(0.1)
        x[:] = 200
        observer([x], [answer(x)])
        clock.wait(0.1)
        x[:] = 5
    assert metrics(watched)['modelship_input_mean{input="image"}'] == 102.5


def test_workers_count_together(tmp_path: Path):
    watched = made(tmp_path, workers=3)
    x = images(200, seed=1)
    for worker in range(3):
        if (pid := os.fork()) == 0:
            observer = watched.row(worker)
            for sample in 255 - x if worker == 2 else x:
                observer._next = 0
                observer([sample[np.newaxis]], [answer(sample[np.newaxis])])
            observer.flush()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    found = metrics(watched)
    assert found["modelship_drift_observations"] == found["modelship_drift_sampled_total"] == 600
    assert found["modelship_drift_psi_max"] > 0.25


def test_the_window_is_of_the_last_samples_of_all_workers(tmp_path: Path, clock: Clock):
    """A worker whose clients left must not keep its old counts in the picture."""
    watched = made(tmp_path, workers=2)
    first, second = watched.row(0), watched.row(1)
    send(first, clock, 255 - images(1000, seed=1))
    assert metrics(watched)["modelship_drift_psi_max"] > 0.25
    send(second, clock, images(drift.WINDOW, seed=2))
    assert metrics(watched)["modelship_drift_psi_max"] < 0.1


def test_a_worker_that_died_is_followed_by_another(tmp_path: Path, clock: Clock):
    watched = made(tmp_path)
    send(watched.row(0), clock, images(1000, seed=1))
    before = metrics(watched)
    send(watched.row(0), clock, images(100, seed=2))
    found = metrics(watched)
    assert found["modelship_drift_sampled_total"] == 1100
    assert found["modelship_drift_observations"] == before["modelship_drift_observations"] + 100


def test_in_an_event_loop_the_answer_goes_first(tmp_path: Path, clock: Clock):
    watched = made(tmp_path)
    observer = watched.row(0)
    x = images(drift.CHUNK, seed=1)

    async def requests() -> list[int]:
        seen = []
        for _each in range(2):
            clock.wait(1)
            observer([x], [answer(x)])
            observer([x], [answer(x)])
            seen.append(int(observer._head[1]))
            await asyncio.sleep(0)
            seen.append(int(observer._head[1]))
        return seen

    assert asyncio.run(requests()) == [0, drift.CHUNK, drift.CHUNK, 2 * drift.CHUNK]


def test_lines_are_what_prometheus_reads(tmp_path: Path, clock: Clock):
    watched = made(tmp_path)
    send(watched.row(0), clock, images(400, seed=1))
    lines = watched.lines()
    typed = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(typed) == len(set(typed))
    for line in lines:
        if not line.startswith("#"):
            assert line.split("{")[0].split(" ")[0] in typed
    assert drift._labels(input='a"b\\c\nd', feature="") == '{input="a\\"b\\\\c\\nd"}'


def test_a_model_without_labels_has_no_drift_of_classes(tmp_path: Path, clock: Clock):
    found = load_drift(write(tmp_path, json.dumps(baseline(images(2000))).encode(), labels=False), 1)
    assert found is not None
    send(found.row(0), clock, images(400, 1))
    told = metrics(found)
    assert "modelship_drift_psi_max" in told
    assert not [name for name in told if "prediction" in name]
