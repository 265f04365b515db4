"""Drift as a server shows it: traffic like the training data, other traffic, and back, over several workers."""

from __future__ import annotations

import time
import typing as t
from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

from modelship_model.baseline import baseline_of
from modelship_model.hashing import canonical_json

from .tiny import SIGNATURE, Server, expected, fails_to_start, nested, served, tiny_release

pytestmark = pytest.mark.integration

#: What a test waits for at most; a window is full after 16 seconds of traffic.
PATIENCE = 120


def images(count: int, seed: int) -> t.Any:
    """Dark images of 2x2x1, 0..255, some of them brighter."""
    rng = np.random.default_rng(seed)
    return (255 * rng.beta(1.2, 4, (count, 2, 2, 1))).round().astype(np.float32)


def baseline(x: t.Any) -> dict[str, t.Any]:
    answers = np.array([expected(sample.ravel().tolist()) for sample in x], dtype=np.float32)
    found = baseline_of(x, answers, SIGNATURE)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    content = canonical_json(baseline(images(1500, seed=1)))
    return tiny_release(tmp_path_factory.mktemp("drift"), "onnx", files={"baseline.json": content})


def traffic(server: Server, change: t.Callable[[t.Any], t.Any], enough: t.Callable[[dict[str, float]], bool]) -> t.Any:
    """Send images, each request on a connection of its own, until the metrics are as wanted; return those."""
    deadline = time.monotonic() + PATIENCE
    seed = 100
    while True:
        for _each in range(20):
            seed += 1
            body = {"instances": change(images(16, seed)).tolist()}
            assert server.call("POST", "/predict", body).status == 200
        found = server.counts("modelship_")
        if enough(found):
            return found
        assert time.monotonic() < deadline, found


def psi(found: dict[str, float]) -> float:
    return found.get("modelship_drift_psi_max", 0.0)


def test_drift_shows_and_goes_away(release: Path) -> None:
    with served(release, MODELSHIP_WORKERS="2") as server:
        usual = traffic(server, lambda x: x, lambda found: found["modelship_drift_observations"] >= 1000)
        assert psi(usual) < 0.1
        assert usual['modelship_prediction_psi{output="probabilities",of="class"}'] < 0.1
        assert usual['modelship_prediction_psi{output="probabilities",of="confidence"}'] < 0.1
        assert usual['modelship_input_mean{input="image"}'] == pytest.approx(images(1500, 1).mean(), rel=0.1)
        # Images upside down in brightness: the inputs differ, and so do the answers.
        other = traffic(server, lambda x: 255 - x, lambda found: psi(found) > 0.25)
        assert other['modelship_drift_psi{input="image",feature="mean"}'] > 0.25
        assert other['modelship_input_mean{input="image"}'] > usual['modelship_input_mean{input="image"}']
        back = traffic(server, lambda x: x, lambda found: psi(found) < 0.1)
        assert back["modelship_drift_sampled_total"] <= back["modelship_drift_seen_total"]
        assert back["modelship_drift_seconds_total"] > 0


def test_shifted_images_are_drift(release: Path) -> None:
    with served(release) as server:
        traffic(server, lambda x: np.minimum(255, x + 60), lambda found: psi(found) > 0.25)


def test_every_protocol_is_watched(release: Path) -> None:
    with served(release) as server:
        server.call("POST", "/predict", {"image": [1, 2, 3, 4]})
        given = {"name": "image", "shape": [2, 2, 2, 1], "datatype": "FP32", "data": [nested([1, 2, 3, 4])] * 2}
        assert server.call("POST", "/v2/models/tiny/infer", {"inputs": [given]}).status == 200
        found = server.counts("modelship_")
        assert found["modelship_drift_seen_total"] == found["modelship_drift_observations"] == 3
        assert found['modelship_input_maximum{input="image"}'] == 4


def test_a_release_without_a_baseline_says_nothing_of_drift(tmp_path: Path) -> None:
    with served(tiny_release(tmp_path, "onnx")) as server:
        assert server.call("POST", "/predict", {"image": [1, 2, 3, 4]}).status == 200
        found = server.counts("modelship_")
        assert not [name for name in found if "drift" in name or "psi" in name or "modelship_input" in name]


def test_a_baseline_of_another_model_is_refused(tmp_path: Path) -> None:
    found = baseline(images(100, seed=1))
    found["inputs"][0]["name"] = "other"
    release = tiny_release(tmp_path, "onnx", files={"baseline.json": canonical_json(found)})
    assert "input 'other' of shape [2, 2, 1] is none of the signature's" in fails_to_start(release)
