"""The serving runtime as a process: both runtimes, both protocols, bad input, limits, workers, draining."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.tiny import (
    GREEN,
    KINDS,
    RED,
    TOLERANCE,
    Server,
    expected,
    fails_to_start,
    nested,
    served,
    tiny_release,
)

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    release = tiny_release(tmp_path_factory.mktemp("release"), request.param)
    with served(release, MODELSHIP_MAX_BODY_BYTES="4000") as running:
        yield running
        assert running.process.poll() is None, "the server died of a request"
        failures = {key: value for key, value in running.counts("modelship_requests_total").items() if 'code="5' in key}
        assert failures == {}
        assert running.stop() == 0
        assert {event["level"] for event in running.log()} == {"info"}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is told of connections and processes is the same with every model."""
    return tiny_release(tmp_path_factory.mktemp("release"))


@pytest.mark.parametrize("value", [GREEN, nested(GREEN), [[0, 255], [10, 0]], [float(p) for p in GREEN]])
def test_predict_one(server: Server, value: Any):
    answer = server.call("POST", "/predict", {"image": value})
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["modelship-release"] == server.digest
    assert {k: v for k, v in answer.json.items() if k != "probabilities"} == {
        "result": 1,
        "label": "green",
        "release": server.digest,
    }
    assert answer.json["probabilities"] == pytest.approx(expected(GREEN), abs=TOLERANCE)


@pytest.mark.parametrize("shape", [list, nested])
def test_predict_several(server: Server, shape: Any):
    answer = server.call("POST", "/predict", {"instances": [shape(GREEN), shape(RED), shape(GREEN)]})
    assert answer.status == 200
    assert answer.json["release"] == server.digest
    assert [p["label"] for p in answer.json["predictions"]] == ["green", "red", "green"]
    assert answer.json["predictions"][1]["probabilities"] == pytest.approx(expected(RED), abs=TOLERANCE)
    named = server.call("POST", "/predict", {"instances": [{"image": shape(GREEN)}]})
    assert named.json["predictions"] == answer.json["predictions"][:1]


@pytest.mark.parametrize(
    "kind", [None, "application/json", "application/json; charset=utf-8", "application/x-www-form-urlencoded"]
)
def test_content_types_that_carry_json(server: Server, kind: str | None):
    headers = {} if kind is None else {"content-type": kind}
    assert server.call("POST", "/predict", {"image": GREEN}, headers).status == 200


BAD = [
    (b"", 400, "body: empty"),
    (b"{", 400, "body: not JSON"),
    (b"\xff\xfe", 400, "body: not JSON"),
    (b'{"image":[1,2,3,NaN]}', 400, "body: not JSON"),
    (b'{"image":' + b"[" * 3000, 400, "nested too deep"),
    (b"[1,2,3,4]", 400, "expected a JSON object"),
    (b"null", 400, "expected a JSON object"),
    (b'{"image":[1,2,3]}', 400, "image: expected"),
    (b'{"image":[1,2,3,4,5]}', 400, "got 5 numbers"),
    (b'{"image":[[1,2],[3]]}', 400, "image: axis 1"),
    (b'{"image":[1,2,3,"4"]}', 400, "image[3]: "),
    (b'{"image":[1,2,true,4]}', 400, "image[2]: "),
    (b'{"image":[1,2,null,4]}', 400, "image[2]: "),
    (b'{"image":[1,2,256,4]}', 400, "image[2]: 256 is not in the range 0 to 255"),
    (b'{"image":[1,2,3,-0.5]}', 400, "image[3]: -0.5"),
    (b'{"image":[1,2,3,1e39]}', 400, "image[3]: 1e+39"),
    (b'{"image":[1,2,3,1e999]}', 400, "out of range"),
    (b'{"image":{}}', 400, "image: expected an array"),
    (b"{}", 400, "image: missing"),
    (b'{"picture":[1,2,3,4]}', 400, "got 'picture'"),
    (b'{"image":[1,2,3,4],"more":1}', 400, "more: unknown field"),
    (b'{"instances":[]}', 400, "instances: "),
    (b'{"instances":7}', 400, "instances: "),
    (b'{"instances":[[1,2,3,4],[1,2,3]]}', 400, "instances[1]: "),
    (b'{"instances":[[1,2,3,4],[1,2,3,300]]}', 400, "instances[1][3]: 300"),
    (b'{"instances":[[1,2,3,4],{"image":[1,2,3,4]}]}', 400, "instances[1]: "),
    (b'{"instances":[{"image":[1,2,3,4]},[1,2,3,4]]}', 400, "instances[1]: "),
    (b'{"instances":[{"picture":[1,2,3,4]}]}', 400, "instances[0].image: missing"),
    (b'{"instances":[[1,2,3,4]],"image":1}', 400, "image: not allowed beside"),
]


@pytest.mark.parametrize(("body", "status", "message"), BAD)
def test_bad_input_is_named(server: Server, body: bytes, status: int, message: str):
    answer = server.call("POST", "/predict", body)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert message in answer.json["error"]
    assert "\n" not in answer.json["error"]
    assert answer.headers["modelship-release"] == server.digest


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/nothing", 404, "/nothing"),
        ("GET", "/predict", 405, "use POST"),
        ("DELETE", "/v2/health/live", 405, "use GET"),
        ("POST", "/metrics", 405, "use GET"),
        ("GET", "/v2/models/other", 404, "model 'other'"),
        ("POST", "/v2/models/other/infer", 404, "model 'other'"),
        ("GET", "/v2/models/tiny/versions/7", 404, "version '7'"),
    ],
)
def test_wrong_paths_and_methods(server: Server, method: str, path: str, status: int, message: str):
    answer = server.call(method, path)
    assert answer.status == status
    assert message in answer.json["error"]
    assert ("allow" in answer.headers) == (status == 405)


def test_wrong_content_types(server: Server):
    for headers in ({"content-type": "text/xml"}, {"content-encoding": "br"}):
        answer = server.call("POST", "/predict", {"image": GREEN}, headers)
        assert answer.status == 415
        assert next(iter(headers)) in answer.json["error"]


@pytest.mark.parametrize("headers", [{}, {"transfer-encoding": "chunked"}])
def test_bodies_over_the_limit(server: Server, headers: dict[str, str]):
    def chunked(body: bytes) -> bytes:
        return f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n" if headers else body

    small = json.dumps({"image": GREEN}).encode()
    assert server.call("POST", "/predict", chunked(small), headers).status == 200
    answer = server.call("POST", "/predict", chunked(b"[" + b"1," * 2500), headers)
    assert answer.status == 413
    assert "4000" in answer.json["error"]


def test_a_client_that_leaves_is_no_error_of_the_server(server: Server):
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{"im')
        time.sleep(0.1)
    deadline = time.monotonic() + 10
    name = 'modelship_requests_total{endpoint="predict",code="499"}'
    while server.counts("modelship_requests_total").get(name, 0) < 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert server.counts("modelship_in_flight") == {"modelship_in_flight": 0}


def test_health_and_metadata(server: Server):
    assert server.call("GET", "/v2/health/live").json == {"live": True}
    assert server.call("GET", "/v2/health/ready").json == {"ready": True}
    assert server.call("GET", "/v2/models/tiny/ready").json["ready"] is True
    about = server.call("GET", "/v2").json
    assert (about["name"], sorted(about)) == ("modelship", ["extensions", "name", "version"])
    model = server.call("GET", "/v2/models/tiny").json
    assert model["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 2, 2, 1]}]
    assert model["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}]
    version = model["versions"][0]
    assert server.digest.startswith(f"sha256:{version}")
    assert server.call("GET", f"/v2/models/tiny/versions/{version}").json == model
    head = server.call("HEAD", "/v2/models/tiny")
    assert (head.status, head.body) == (200, b"")


def v2(data: Any, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "shape": shape, "datatype": "FP32", "data": data}], **more}


def test_v2_infer(server: Server):
    request = v2(GREEN + RED, [2, 2, 2, 1], id="a-1", outputs=[{"name": "probabilities"}])
    answer = server.call("POST", "/v2/models/tiny/infer", request).json
    output = answer["outputs"][0]
    assert (answer["model_name"], answer["id"], len(answer["outputs"])) == ("tiny", "a-1", 1)
    assert (output["name"], output["shape"], output["datatype"]) == ("probabilities", [2, 3], "FP32")
    assert output["data"] == pytest.approx(expected(GREEN) + expected(RED), abs=TOLERANCE)
    other = server.call("POST", "/v2/models/tiny/infer", v2([nested(GREEN), nested(RED)], [2, 2, 2, 1])).json
    assert other["outputs"] == answer["outputs"]
    assert "id" not in other


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({}, 400, "inputs"),
        ({"inputs": 1}, 400, "inputs"),
        ({"inputs": []}, 400, "image: missing"),
        (v2(GREEN, [2, 2, 1]), 400, "image: shape [2, 2, 1]"),
        (v2([], [0, 2, 2, 1]), 400, "image: shape"),
        (v2(GREEN, [2, 2, 2, 1]), 400, "image: expected"),
        (v2(GREEN, [10**12, 2, 2, 1]), 400, "image: expected"),
        (v2(7, [10**12, 2, 2, 1]), 400, "image: expected"),
        (v2([1, 2, 3, 999], [1, 2, 2, 1]), 400, "image[3]: 999"),
        (v2(GREEN, [1, 2, 2, 1], outputs=[{"name": "nope"}]), 400, "unknown output 'nope'"),
        ({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}, 400, "unknown input 'x'"),
        (
            {"inputs": [{"name": "image", "shape": [1, 2, 2, 1], "datatype": "INT8", "data": GREEN}]},
            400,
            "datatype 'INT8'",
        ),
        ({"inputs": v2(GREEN, [1, 2, 2, 1])["inputs"] * 2}, 400, "image: given twice"),
        ([], 400, "object"),
    ],
)
def test_v2_bad_input_is_named(server: Server, body: Any, status: int, message: str):
    answer = server.call("POST", "/v2/models/tiny/infer", body)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert message in answer.json["error"]


def test_metrics_count_what_was_asked(server: Server):
    name = 'modelship_requests_total{endpoint="predict",code="200"}'
    count = 'modelship_request_seconds_count{endpoint="predict"}'
    before = server.counts("modelship_request")
    for _ in range(5):
        server.call("POST", "/predict", {"image": GREEN})
    after = server.counts("modelship_request")
    assert after[name] - before.get(name, 0) == 5
    assert after[count] - before[count] == 5
    info = server.counts("modelship_release_info")
    assert [(server.digest in key, value) for key, value in info.items()] == [(True, 1)]


def test_sigterm_finishes_what_has_begun(release: Path):
    body = json.dumps({"image": GREEN}).encode()
    with served(release) as server:
        client = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        with client:
            head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            client.sendall(head.encode() + body[:5])
            while server.counts("modelship_in_flight")["modelship_in_flight"] < 1:
                time.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            while (ready := server.call("GET", "/v2/health/ready")).status == 200:
                time.sleep(0.01)
            assert ready.status == 503
            assert server.call("GET", "/v2/health/live").status == 200
            assert server.call("POST", "/predict", {"image": GREEN}).status == 200, (
                "still answers who has not heard yet"
            )
            client.sendall(body[5:])
            received = b""
            while chunk := client.recv(4096):
                received += chunk
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection: close" in received.lower()
        assert b'"label":"green"' in received
        assert server.process.wait(20) == 0
        assert [event["message"] for event in server.log()][-2:] == ["draining", "stopped"]


def test_a_client_that_stalls_does_not_hold_the_drain_up(release: Path):
    with (
        served(release, MODELSHIP_DRAIN_SECONDS="1") as server,
        socket.create_connection(("127.0.0.1", server.port)) as client,
    ):
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{")
        while server.counts("modelship_in_flight")["modelship_in_flight"] < 1:
            time.sleep(0.01)
        assert server.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_request_is_lost_on_sigterm_under_load(release: Path, workers: str):
    """Connections that were accepted get their answer; only refused ones (nobody listens any more) may fail."""
    stop = threading.Event()

    def ask(server: Server) -> tuple[int, list[str]]:
        answered, lost = 0, []
        while not stop.is_set():
            try:
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
                connection.connect()
            except ConnectionRefusedError:
                return answered, lost
            try:
                connection.request("POST", "/predict", json.dumps({"image": GREEN}))
                status = connection.getresponse().status
                answered += status == 200
                if status != 200:
                    lost.append(str(status))
            except (OSError, http.client.HTTPException) as exc:
                lost.append(repr(exc))
            finally:
                connection.close()
        return answered, lost

    with (
        served(release, MODELSHIP_WORKERS=workers, MODELSHIP_DRAIN_SECONDS="2") as server,
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
        asking = [pool.submit(ask, server) for _ in range(4)]
        try:
            time.sleep(0.5)
            assert server.stop() == 0
        finally:
            stop.set()
        results = [future.result() for future in asking]
    assert [lost for _, lost in results] == [[], [], [], []]
    assert min(answered for answered, _ in results) > 0


def test_workers_share_counters_and_one_that_is_killed_is_replaced(release: Path):
    name = 'modelship_requests_total{endpoint="predict",code="200"}'
    with served(release, MODELSHIP_WORKERS="2") as server:
        while len(pids := [e["pid"] for e in server.log() if e["message"] == "serving"]) < 2:
            time.sleep(0.05)
        for _ in range(20):
            assert server.call("POST", "/predict", {"image": GREEN}).status == 200
        assert server.counts("modelship_requests_total")[name] == 20
        assert server.counts("modelship_workers") == {"modelship_workers": 2}
        os.kill(pids[0], signal.SIGKILL)
        # The one that follows is killed too, while it loads, as the killer of processes without memory does it.
        children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
        while not (young := set(map(int, children.read_text().split())) - set(pids)):
            time.sleep(0.001)
        os.kill(young.pop(), signal.SIGKILL)
        while len([e for e in server.log() if e["message"] == "serving"]) < 3:
            assert server.process.poll() is None
            time.sleep(0.05)
        assert server.call("POST", "/predict", {"image": GREEN}).status == 200
        assert server.counts("modelship_requests_total")[name] == 21
        assert [e["code"] for e in server.log() if e["message"] == "worker ended, starting another"] == [-9, -9]
        assert server.stop() == 0


def test_a_worker_that_is_killed_takes_only_the_requests_with_it_that_it_had_begun(release: Path):
    stop = threading.Event()
    clients = 8

    def ask(server: Server) -> tuple[int, list[str]]:
        answered, lost = 0, []
        while not stop.is_set():
            try:
                answered += server.call("POST", "/predict", {"image": GREEN}).status == 200
            except (OSError, http.client.HTTPException) as exc:
                lost.append(type(exc).__name__)
        return answered, lost

    with served(release, MODELSHIP_WORKERS="2") as server, concurrent.futures.ThreadPoolExecutor(clients) as pool:
        while len(pids := [e["pid"] for e in server.log() if e["message"] == "serving"]) < 2:
            time.sleep(0.05)
        asking = [pool.submit(ask, server) for _ in range(clients)]
        try:
            time.sleep(0.5)
            os.kill(pids[0], signal.SIGKILL)
            while len([e for e in server.log() if e["message"] == "serving"]) < 3:
                time.sleep(0.05)
            time.sleep(0.5)
        finally:
            stop.set()
        results = [future.result() for future in asking]
        assert server.stop() == 0
    lost = [name for _, names in results for name in names]
    # One request of each client at a time; nobody is turned away, nobody waits in a queue that dies.
    assert len(lost) <= clients
    assert "ConnectionRefusedError" not in lost
    assert min(answered for answered, _ in results) > 10


def test_a_worker_that_is_told_to_end_leaves_the_others_listening(release: Path):
    with served(release, MODELSHIP_WORKERS="2") as server:
        while len(pids := [e["pid"] for e in server.log() if e["message"] == "serving"]) < 2:
            time.sleep(0.05)
        os.kill(pids[0], signal.SIGTERM)
        while len([e for e in server.log() if e["message"] == "serving"]) < 3:
            assert server.call("POST", "/predict", {"image": GREEN}).status == 200
        os.kill(next(e["pid"] for e in reversed(server.log()) if e["message"] == "serving"), signal.SIGTERM)
        while len([e for e in server.log() if e["message"] == "serving"]) < 4:
            assert server.call("POST", "/predict", {"image": GREEN}).status == 200
        assert server.call("POST", "/predict", {"image": GREEN}).status == 200
        assert server.stop() == 0


def test_slow_clients_do_not_starve_others(release: Path):
    with served(release, MODELSHIP_READ_SECONDS="1") as server:
        slow = [socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(200)]
        for client in slow:
            client.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\n")
        for _ in range(20):
            assert server.call("POST", "/predict", {"image": GREEN}).status == 200
        for client in slow:
            assert client.recv(4096).startswith(b"HTTP/1.1 408 ")
            client.close()
        assert server.counts("modelship_rejected_total")['modelship_rejected_total{reason="timeout"}'] == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_release_that_was_changed_is_not_served(release: Path, tmp_path: Path, workers: str):
    copy = tmp_path / "release"
    subprocess.run(["cp", "-r", str(release), str(copy)], check=True)
    model = next((copy / "model").iterdir())
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    assert "does not match release.json" in fails_to_start(copy, MODELSHIP_WORKERS=workers)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("kind", ["onnx", "litert"])
def test_a_model_that_is_none_is_not_served(tmp_path: Path, kind: str, workers: str):
    line = fails_to_start(tiny_release(tmp_path, kind, model=b"nonsense" * 9), MODELSHIP_WORKERS=workers)
    assert "cannot be loaded" in line


def test_a_taken_port_is_named(release: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in fails_to_start(release, port)
