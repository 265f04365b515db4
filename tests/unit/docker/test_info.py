"""What is told of a deployment, without an Engine; replicas that answer are servers on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import http.server
import json
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.content import canonical_json, sha256_bytes
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import Health, Verification
from ansible_collections.modelship.core.plugins.module_utils._deployment.info import (
    Condition,
    Endpoint,
    Info,
    Inquiry,
    golden_verdict,
    worst,
)
from ansible_collections.modelship.core.plugins.module_utils._docker import proxy as proxies
from ansible_collections.modelship.core.plugins.module_utils._docker.info import condition_of, look, serving_replicas
from ansible_collections.modelship.core.plugins.module_utils._docker.observe import Observed
from ansible_collections.modelship.core.plugins.module_utils._docker.spec import replica_spec
from ansible_collections.modelship.core.plugins.module_utils._endpoint.http import Client

from .test_decisions import IMAGE, NETWORK, OPTION, OTHER, container, declared, running


@contextlib.contextmanager
def serving(answers: t.Callable[[str], tuple[int, object]]) -> t.Iterator[int]:
    """Serve ``answers(path)`` on a loopback port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            status, value = answers(self.path)
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def release(folder: Path, answer: float) -> str:
    """Write a release folder with one golden sample; return its path."""
    raw = canonical_json(
        {"inputs": {"x": [[1.0]]}, "outputs": {"y": [[answer]]}, "tolerance": {"absolute": 0.01, "classes": "none"}}
    )
    manifest = canonical_json(
        {
            "name": "one",
            "signature": {"inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 1]}]},
            "files": {"golden.json": {"sha256": sha256_bytes(raw).partition(":")[2]}},
        }
    )
    made = folder / sha256_bytes(manifest).partition(":")[2]
    made.mkdir()
    (made / "golden.json").write_bytes(raw)
    (made / "release.json").write_bytes(manifest)
    return str(made)


def one(_path: str) -> tuple[int, object]:
    """Answer anything, as a model that always says 1."""
    return 200, {"outputs": [{"name": "y", "shape": [1, 1], "datatype": "FP32", "data": [1.0]}]}


def busy(_path: str) -> tuple[int, object]:
    """Answer as one that is not ready."""
    return 503, {}


def inspected(observed: Observed, inquiry: Inquiry | None = None) -> Info:
    return look(inquiry or Inquiry("digits"), OPTION, observed, Progress())


def test_nothing_found_is_a_fact() -> None:
    told = inspected(Observed()).outcome()
    deployment = told.result["deployment"]
    assert not told.changed
    assert not deployment["exists"]
    assert deployment["state"] == deployment["health"]["state"] == "absent"
    assert deployment["replicas"] == []
    assert deployment["image"] is deployment["url"] is deployment["drift"] is deployment["golden"] is None


def test_a_left_over_network_exists_and_serves_nothing() -> None:
    told = inspected(Observed(network={"Name": NETWORK}))
    assert told.exists
    assert told.health == ("failed", "there is no replica")


def test_what_was_declared_nowhere_is_drift_of_what_is_declared() -> None:
    told = inspected(Observed(), Inquiry("digits", declared())).outcome().result["deployment"]
    assert told["drift"]["drifted"]
    assert told["drift"]["reasons"] == ["0 of 1 replicas exist"]
    assert "digits-g1-1" in told["drift"]["difference"]["after"]


@pytest.mark.parametrize("ready", [True, False])
def test_a_replica_is_asked_at_its_own_port_whether_it_is_ready(ready: bool) -> None:
    asked = []

    def answers(path: str) -> tuple[int, object]:
        asked.append(path)
        return (200 if ready else 503), {}

    with serving(answers) as port:
        spec = replica_spec(declared(port=port), None)
        told = inspected(Observed(replicas=[container(spec, "digits-g1-1")]), Inquiry("digits", None, Health("/up")))
    assert set(asked) == {"/up"}
    assert told.url == f"http://127.0.0.1:{port}"
    assert told.image == IMAGE
    assert told.health.state == ("ready" if ready else "failed")
    assert told.replicas[0]["health"] == told.health.state
    assert ("503" in told.replicas[0]["reason"]) != ready
    assert told.details == {"strategy": "recreate", "proxy": None, "grpc": None}


def test_only_what_gets_requests_decides_about_health_and_image() -> None:
    declaration = declared()
    observed = running(declaration)
    other = container({**replica_spec(declaration, NETWORK), "image": OTHER}, "digits-g2-1", status="exited")
    observed.replicas.append(other)
    assert [item.name for item in serving_replicas(observed)] == ["digits-g1-1"]
    observed.replicas[0].status = "paused"
    told = inspected(observed)
    assert told.image == IMAGE
    assert [(item["name"], item["serving"]) for item in told.replicas] == [
        ("digits-g1-1", True),
        ("digits-g2-1", False),
    ]
    assert told.health == ("failed", "0 of 1 replicas are ready; digits-g1-1 is paused")
    assert told.url == "http://127.0.0.1:5000"
    assert told.details["proxy"]["name"] == "digits-proxy"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"proxy": None, "config": None}, "the proxy is gone"),
        ({"running_config": None}, "digits-proxy does not answer"),
    ],
)
def test_replicas_without_their_proxy_serve_nothing(changes: dict[str, t.Any], why: str) -> None:
    with serving(one) as port:
        declaration = declared(container_port=port)
        observed = running(declaration, **changes)
        observed.replicas[0].address = "127.0.0.1"
        told = inspected(observed)
    assert told.health == ("failed", f"1 of 1 replicas are ready; {why}")


def test_the_path_of_readiness_is_the_one_that_the_proxy_uses() -> None:
    declaration = declared(health={"path": "/ready"})
    assert proxies.check_path_of(proxies.render(declaration, OPTION, {}).text) == "/ready"
    assert proxies.check_path_of("") is None


def test_drift_is_what_deployment_would_change() -> None:
    with serving(one) as port:
        declaration = declared(container_port=port)
        observed = running(declaration)
        observed.replicas[0].address = "127.0.0.1"
        observed.config = proxies.render(declaration, OPTION, {"digits-g1-1": "127.0.0.1"}).text
        observed.running_config = proxies.render(declaration, OPTION, {"digits-g1-1": "127.0.0.1"}).digest
        same = inspected(observed, Inquiry("digits", declaration))
        more = inspected(observed, Inquiry("digits", dataclasses.replace(declaration, image=OTHER)))
    assert same.drift is not None
    assert not same.drift.drifted
    assert same.drift.reasons == []
    assert more.drift is not None
    assert more.drift.drifted
    assert "image: sha256:111111111111 -> sha256:222222222222" in more.drift.reasons[0]
    assert more.drift.difference.names == ["containers", "image"]
    assert "it is as declared" in same.outcome().message


def test_one_that_is_still_starting_is_no_drift() -> None:
    with serving(busy) as port:
        declaration = declared(port=port)
        replica = container(replica_spec(declaration, None), "digits-g1-1")
        now = datetime.datetime.now(datetime.UTC).isoformat()
        replica.info["State"]["StartedAt"] = now.replace("+00:00", "Z")
        told = look(Inquiry("digits", declaration), None, Observed(replicas=[replica]), Progress())
        assert told.health.state == "progressing"
        assert told.drift is not None
        assert not told.drift.drifted
        replica.info["State"]["StartedAt"] = "2020-01-01T00:00:00Z"
        told = look(Inquiry("digits", declaration), None, Observed(replicas=[replica]), Progress())
    assert told.health.state == "failed"
    assert told.drift is not None
    assert told.drift.drifted


@pytest.mark.parametrize(
    ("status", "state", "wanted"),
    [
        ("created", {"Running": False, "ExitCode": 0}, ("progressing", "x is not started yet")),
        ("exited", {"Running": False, "ExitCode": 3}, ("failed", "x ended with exit code 3")),
        ("restarting", {"Running": True, "Restarting": True, "ExitCode": 1}, ("failed", "x ended with exit code 1")),
        ("paused", {"Running": True, "Paused": True}, ("failed", "x is paused")),
        ("running", {"Running": True}, ("ready", "")),
    ],
)
def test_the_condition_of_a_replica(status: str, state: dict[str, t.Any], wanted: tuple[str, str]) -> None:
    replica = container(replica_spec(declared(), None), "x", status=status)
    replica.info["State"] = {"Status": status, **state}
    assert condition_of(replica, Health()) == wanted


def test_a_whole_is_as_its_worst_part() -> None:
    ready, slow, bad = Condition("ready", "r"), Condition("progressing", "p"), Condition("failed", "f")
    assert worst([ready, slow]) == slow
    assert worst([ready, bad, slow, Condition("failed", "g")]) == ("failed", "f; g")


def test_the_golden_verdict_names_each_replica_and_waits_for_none(tmp_path: Path) -> None:
    right = Verification(release(tmp_path, 1.0))
    with serving(one) as port, serving(busy) as sick:
        endpoints = [
            Endpoint("good", Client(f"http://127.0.0.1:{port}")),
            Endpoint("sick", Client(f"http://127.0.0.1:{sick}")),
            Endpoint("gone", None, "it is exited"),
        ]
        verdict = golden_verdict(right, endpoints, "/v2/health/ready", Progress())
        assert [item["ok"] for item in verdict["verdicts"]] == [True, False, False]
        assert "sick: " in verdict["failures"][0]
        assert "503" in verdict["failures"][0]
        assert verdict["failures"][1] == "gone: it is exited"
        assert golden_verdict(right, endpoints[:1], "/v2/health/ready", Progress())["ok"]
        wrong = golden_verdict(Verification(release(tmp_path, 2.0)), endpoints[:1], "/v2/health/ready", Progress())
    assert not wrong["ok"]
    assert wrong["verdicts"][0]["samples"]["failed"] == 1
    assert wrong["verdicts"][0]["differences"][0]["output"] == "y"


def test_nothing_that_could_be_asked_is_no_golden_answer(tmp_path: Path) -> None:
    verdict = golden_verdict(Verification(release(tmp_path, 1.0)), [], "", Progress())
    assert not verdict["ok"]
    assert verdict["verdicts"] == []
    with pytest.raises(ModelshipError, match="release"):
        golden_verdict(Verification(str(tmp_path / "none")), [], "", Progress())
