"""Several releases of a model side by side, and a shadow that gets a copy of the traffic."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.tiny import (
    GREEN,
    RED,
    TOLERANCE,
    WEIGHTS,
    Server,
    expected,
    fails_to_start,
    made,
    served,
    tiny_release,
)

pytestmark = pytest.mark.integration

#: Red and green have changed places: the answers differ exactly where one of them wins.
SWAPPED = [[row[1], row[0], row[2]] for row in WEIGHTS]
#: As the original, a little more decided.
LOUDER = [[1.1 * weight for weight in row] for row in WEIGHTS]
BLUE = [0, 0, 255, 0]

#: A model of the same signature that takes its time: matrices of SIZE x SIZE.
_MAKE_SLOW = """
import sys, numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
size = int(sys.argv[1])
constants = [nh.from_array(np.array([-1, 4], "int64"), "flat"), nh.from_array(np.array([size, size], "int64"), "square"),
             nh.from_array(np.full((4, size), 1 / 1024, "float32"), "up"),
             nh.from_array(np.full((size, 3), 1 / size, "float32"), "down")]
fill = h.make_tensor("value", T.FLOAT, [1], [1 / size])
nodes = [h.make_node("Reshape", ["image", "flat"], ["x"]), h.make_node("MatMul", ["x", "up"], ["y0"]),
         h.make_node("ConstantOfShape", ["square"], ["w"], value=fill),
         *[h.make_node("MatMul", [f"y{i}", "w"], [f"y{i + 1}"]) for i in range(8)],
         h.make_node("MatMul", ["y8", "down"], ["z"]), h.make_node("Softmax", ["z"], ["probabilities"], axis=1)]
graph = h.make_graph(nodes, "slow", [h.make_tensor_value_info("image", T.FLOAT, ["n", 2, 2, 1])],
                     [h.make_tensor_value_info("probabilities", T.FLOAT, ["n", 3])], constants)
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), sys.argv[2])
"""


def version(release: Path) -> str:
    return release.name[:12]


@pytest.fixture(scope="module", params=["onnx", "litert"])
def releases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("releases")
    return [tiny_release(folder, request.param, weights=weights) for weights in (WEIGHTS, SWAPPED, LOUDER)]


def test_each_version_answers_for_itself(releases: list[Path]):
    default = releases[0]
    # Beside the releases lies what is none.
    (default.parent / "inputs").mkdir(exist_ok=True)
    (default.parent / "inputs" / "0").write_text("no release")
    with served(default, MODELSHIP_VERSIONS=str(default.parent)) as server:
        versions = server.call("GET", "/v2/models/tiny").json["versions"]
        assert versions[0] == version(default)
        assert sorted(versions) == sorted(map(version, releases))
        assert server.call("POST", "/predict", {"image": GREEN}).headers["modelship-release"] == server.digest
        for release, weights in zip(releases, (WEIGHTS, SWAPPED, LOUDER), strict=True):
            name = version(release)
            wanted = pytest.approx(expected(RED, weights), abs=TOLERANCE)
            answer = server.call("POST", f"/predict?version={name}", {"image": RED})
            assert (answer.json["probabilities"], answer.json["release"]) == (wanted, f"sha256:{release.name}")
            assert answer.headers["modelship-release"] == f"sha256:{release.name}"
            path = f"/v2/models/tiny/versions/{name}"
            body = {"inputs": [{"name": "image", "shape": [1, 2, 2, 1], "datatype": "FP32", "data": RED}]}
            answer = server.call("POST", f"{path}/infer", body)
            assert answer.json["outputs"][0]["data"] == wanted
            assert answer.json["model_version"] == name
            assert answer.headers["modelship-release"] == f"sha256:{release.name}"
            assert server.call("GET", path).json["versions"] == versions
            assert server.call("GET", f"{path}/ready").json == {"name": "tiny", "ready": True}
        for path in ("/predict?version=0123456789ab", "/v2/models/tiny/versions/0123456789ab/infer"):
            answer = server.call("POST", path, {"image": RED})
            assert (answer.status, "version '0123456789ab'" in answer.json["error"]) == (404, True)
            assert version(releases[2]) in answer.json["error"]
        roles = server.counts("modelship_version_info")
        assert {key.partition('role="')[2][:-2] for key in roles} == {"default", "version"}
        assert len(roles) == 3
        assert server.stop() == 0


def test_what_does_not_belong_together_is_refused(releases: list[Path], tmp_path: Path):
    default = releases[0]

    def refused(release: Path, **env: str) -> str:
        line = fails_to_start(default, MODELSHIP_VERSIONS=str(release.parent), **env)
        return line.removeprefix("modelship_serving: ")

    kind = "onnx" if (default / "model/model.onnx").exists() else "litert"
    model = (default / "model" / ("model.onnx" if kind == "onnx" else "model.tflite")).read_bytes()
    other = tiny_release(tmp_path / "name", kind, name="other", model=model)
    assert "the model 'other'" in refused(other)
    labels = tiny_release(tmp_path / "labels", kind, signature={"labels": ["a", "b", "c"]}, model=model)
    assert "its labels" in refused(labels)
    signature = {"inputs": [{"name": "image", "dtype": "float32", "shape": [-1, 4], "range": [0, 255]}]}
    shape = tiny_release(tmp_path / "shape", kind, signature=signature, model=model)
    assert "its inputs" in refused(shape)
    broken = tmp_path / "broken" / releases[1].name
    shutil.copytree(releases[1], broken)
    path = next((broken / "model").iterdir())
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert "does not match release.json" in refused(broken)
    assert "MODELSHIP_VERSIONS" in fails_to_start(default, MODELSHIP_VERSIONS=str(tmp_path / "absent"))
    for shadow in ("0123456789ab", version(default), "x"):
        line = fails_to_start(default, MODELSHIP_VERSIONS=str(default.parent), MODELSHIP_SHADOW=shadow)
        assert f"MODELSHIP_SHADOW='{shadow}'" in line
        assert version(releases[1]) in line


def shadow_counts(server: Server, samples: float) -> dict[str, float]:
    """The shadow's counts, once it has seen so many samples."""
    deadline = time.monotonic() + 60
    while True:
        found = {key.partition("{")[0]: value for key, value in server.counts("modelship_shadow_").items()}
        seen = sum(found[f"modelship_shadow_{name}_total"] for name in ("samples", "dropped", "failed"))
        if seen >= samples:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_shadow_is_compared_and_never_heard(releases: list[Path], workers: str):
    default, swapped, _louder = releases
    env = {"MODELSHIP_VERSIONS": str(default.parent), "MODELSHIP_WORKERS": workers}
    with served(default, **env, MODELSHIP_SHADOW=version(swapped)) as server:
        for pixels in (GREEN, RED, BLUE) * 4:
            answer = server.call("POST", "/predict", {"image": pixels})
            assert answer.headers["modelship-release"] == server.digest
            assert answer.json["probabilities"] == pytest.approx(expected(pixels), abs=TOLERANCE)
        answer = server.call("POST", "/predict", {"instances": [GREEN, BLUE]})
        assert [one["label"] for one in answer.json["predictions"]] == ["green", "blue"]
        found = shadow_counts(server, 14)
        assert found["modelship_shadow_samples_total"] == 14
        assert found["modelship_shadow_disagreements_total"] == 9, "all but the five blue ones"
        assert found["modelship_shadow_failed_total"] == found["modelship_shadow_dropped_total"] == 0
        assert found["modelship_shadow_difference_count"] == 14
        assert found["modelship_shadow_seconds_count"] == 13
        assert found["modelship_shadow_seconds_sum"] > 0
        buckets = {
            key.partition('le="')[2][:-2]: v for key, v in server.counts("modelship_shadow_difference_b").items()
        }
        # Blue pixels give the same up to rounding, for the others two probabilities change places.
        assert buckets["0.0001"] == 5
        assert buckets["0.1"] == 5
        assert buckets["+Inf"] == 14
        # Asked for by its name it answers like any other version, and that is not counted as the default's traffic.
        direct = server.call("POST", f"/predict?version={version(swapped)}", {"image": GREEN})
        assert direct.json["label"] == "red"
        time.sleep(0.2)
        assert shadow_counts(server, 14)["modelship_shadow_samples_total"] == 14
        assert server.stop() == 0


def test_a_share_of_the_traffic(releases: list[Path]):
    default, swapped, _louder = releases
    env = {"MODELSHIP_VERSIONS": str(default.parent), "MODELSHIP_SHADOW": version(swapped)}
    with served(default, **env, MODELSHIP_SHADOW_PERCENT="25") as server:
        connection = server.connect()
        for _ in range(400):
            connection.request("POST", "/predict", b'{"image":[0,255,10,0]}')
            assert connection.getresponse().read()
        found = shadow_counts(server, 40)
        # 100 expected, a standard deviation is 9.
        assert 40 <= found["modelship_shadow_samples_total"] + found["modelship_shadow_dropped_total"] <= 160


def test_a_shadow_that_cannot_keep_up_is_left_behind(tmp_path: Path):
    default = tiny_release(tmp_path)
    slow = tiny_release(tmp_path, model=made(_MAKE_SLOW, ".onnx", "1024"))
    env = {"MODELSHIP_VERSIONS": str(default.parent), "MODELSHIP_SHADOW": version(slow)}

    def ask(server: Server, count: int) -> int:
        connection: Any = server.connect()
        answered = 0
        for _ in range(count):
            connection.request("POST", "/predict", b'{"image":[0,255,10,0]}')
            response = connection.getresponse()
            answered += b'"label":"green"' in response.read() and response.status == 200
        return answered

    with served(default, **env) as server, concurrent.futures.ThreadPoolExecutor(4) as pool:
        started = time.monotonic()
        answered = sum(pool.map(ask, [server] * 4, [500] * 4))
        elapsed = time.monotonic() - started
        assert answered == 2000
        found = {key.partition("{")[0]: value for key, value in server.counts("modelship_shadow_").items()}
        runs = found["modelship_shadow_seconds_count"]
        assert found["modelship_shadow_dropped_total"] > 0
        assert runs < 2000
        # Had each answer waited for the shadow, it would have taken that much longer.
        assert runs == 0 or elapsed < 2000 * found["modelship_shadow_seconds_sum"] / runs
        assert server.stop() == 0, "it does not wait for its shadow either"


def ask_often(server: Server, count: int, **headers: str) -> list[tuple[int, str | None, str]]:
    """Status, ``retry-after`` and what the error is about of so many requests on one connection."""
    connection: Any = server.connect()
    answers = []
    for _ in range(count):
        connection.request("POST", "/predict", b'{"image":[0,255,10,0]}', headers)
        response = connection.getresponse()
        body = json.loads(response.read())
        answers.append((response.status, response.getheader("retry-after"), body.get("error", "").partition(":")[0]))
    connection.close()
    return answers


@pytest.mark.parametrize("size", ["512", "4096"])
def test_more_than_can_be_done_is_turned_away_and_not_kept(tmp_path: Path, size: str):
    """A model that runs in the event loop, and one that takes too long for that."""
    release = tiny_release(tmp_path, model=made(_MAKE_SLOW, ".onnx", size))
    with served(release, MODELSHIP_MAX_QUEUE="3", MODELSHIP_MAX_BATCH="1") as server:
        many = 400 if size == "512" else 16
        with concurrent.futures.ThreadPoolExecutor(many) as pool:
            found = [one for part in pool.map(ask_often, [server] * many, [15] * many) for one in part]
        assert {one[0] for one in found} <= {200, 503}, server.stderr.read_text()[:3000]
        refused = [one for one in found if one[0] == 503]
        assert set(refused) == ({(503, "1", "overloaded")} if refused else set())
        assert refused or size == "512", "the small one may be quick enough for all"
        assert sum(one[0] == 200 for one in found) >= 15
        assert server.counts('modelship_rejected_total{reason="queue_full"') == (
            {'modelship_rejected_total{reason="queue_full"}': len(refused)}
        )
        assert ask_often(server, 5) == [(200, None, "")] * 5, "it recovers at once"
        if size == "4096":
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                hurried = pool.map(lambda _n: ask_often(server, 5, **{"modelship-timeout-ms": "1"}), range(2))
                assert {one for part in hurried for one in part} == {(504, None, "deadline")}
            assert ask_often(server, 1) == [(200, None, "")]
