"""Verifying real HTTP servers on the loopback interface."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._endpoint import golden as goldens
from ansible_collections.modelship.core.plugins.module_utils._endpoint.http import Client
from ansible_collections.modelship.core.plugins.module_utils._endpoint.options import OPTIONS, examine
from ansible_collections.modelship.core.plugins.module_utils._endpoint.verify import percentile

GOLDEN = {
    "inputs": {"x": [[1, 2], [3, 4]]},
    "outputs": {"p": [[0.1, 0.9], [0.8, 0.2]]},
    "tolerance": {"absolute": 0.05, "classes": "equal"},
}
RELEASE = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


@dataclasses.dataclass
class Endpoint:
    """A server whose answers a test sets: ``body`` by request data, or bytes for all."""

    url: str = ""
    body: bytes | None = None
    shift: float = 0.0
    ready: int = 200
    release: str | None = RELEASE
    cut: bool = False
    requests: int = 0
    connections: int = 0
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    paths: list[str] = dataclasses.field(default_factory=list)


@pytest.fixture
def endpoint() -> t.Iterator[Endpoint]:
    state = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            state.connections += 1
            super().setup()

        def do_GET(self) -> None:
            state.paths.append(self.path)
            if self.path == "/v2/health/ready":
                self._send(state.ready, b'{"ready": true}')
            elif self.path == "/v2/models/m":
                self._send(200, b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]}')
            else:
                self._send(404, b'{"error": "no such path"}')

        def do_POST(self) -> None:
            state.requests += 1
            state.headers = {name.lower(): value for name, value in self.headers.items()}
            value = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if state.body is not None:
                self._send(200, state.body)
                return
            data = value["inputs"][0]["data"] if "inputs" in value else value["image"]
            answer = [0.1 + state.shift, 0.9 - state.shift] if data == [1, 2] else [0.8, 0.2]
            output = {"name": "p", "shape": [1, 2], "datatype": "FP32", "data": answer}
            both = {"outputs": [output], "probabilities": answer, "result": answer.index(max(answer))}
            self._send(200, json.dumps(both).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if state.release:
                self.send_header("modelship-release", state.release)
            self.send_header("content-length", str(len(body) + (10 if state.cut and self.command == "POST" else 0)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = state.cut

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def golden(tmp_path: Path) -> str:
    path = tmp_path / "golden.json"
    path.write_text(json.dumps(GOLDEN))
    return str(path)


def call(endpoint: Endpoint, *, check: bool = False, **options: t.Any) -> Outcome:
    given = {"url": endpoint.url, "wait": 0.3, "timeout": 2, "requests": 5, **options}
    checked = ArgumentSpecValidator(OPTIONS).validate(given)
    assert not checked.error_messages
    return examine(dict(checked.validated_parameters), Context(check=check))


@pytest.mark.parametrize("protocol", ["v2", "predict"])
def test_a_good_endpoint_over_one_connection(endpoint: Endpoint, golden: str, protocol: str) -> None:
    outcome = call(endpoint, golden=golden, name="m", protocol=protocol, latency_p99_ms=5000, requests=20)
    verdict = outcome.result["verdict"]
    assert not outcome.changed
    assert outcome.result["verified"] is True
    assert verdict["samples"] == {"checked": 2, "failed": 0, "max_abs_difference": 0.0}
    assert verdict["release"] == RELEASE
    assert verdict["latency_ms"]["requests"] == 20
    assert verdict["latency_ms"]["p50"] <= verdict["latency_ms"]["p90"] <= verdict["latency_ms"]["p99"]
    assert verdict["gates"][0]["ok"]
    assert endpoint.requests == 22
    assert endpoint.connections == 1


def test_wrong_answers_fail_with_a_table(endpoint: Endpoint, golden: str) -> None:
    endpoint.shift = 0.6
    for check in (False, True):
        with pytest.raises(ModelshipError) as failure:
            call(endpoint, golden=golden, name="m", check=check)
    lines = failure.value.message.splitlines()
    assert "1 of 2 golden samples were answered differently" in lines[0]
    assert lines[1].split() == ["sample", "output", "expected", "got", "max", "abs", "difference", "why"]
    for word in ("class 1 (0.9)", "class 0 (0.7)", "0.6", "another class"):
        assert word in lines[2]
    assert failure.value.details["verdict"]["differences"][0]["sample"] == 0
    assert failure.value.details["verified"] is False


def test_samples_bound_what_is_asked(endpoint: Endpoint, golden: str) -> None:
    assert call(endpoint, golden=golden, name="m", samples=1, requests=0).result["verdict"]["samples"]["checked"] == 1
    assert endpoint.requests == 1


def test_a_gate_that_is_too_tight_fails(endpoint: Endpoint, golden: str) -> None:
    with pytest.raises(ModelshipError, match=r"latency p99 is .* the gate is 1e-06 ms"):
        call(endpoint, golden=golden, name="m", gates={"accuracy": 0.9, "latency_p99_ms": 0.000001})
    with pytest.raises(ModelshipError, match="is no number"):
        call(endpoint, gates={"latency_p99_ms": "fast"})


@pytest.mark.parametrize("body", [b"<html>login</html>", b'{"outputs": [', b"", b"null", b'{"outputs": [null]}'])
def test_garbage_is_shown_not_raised(endpoint: Endpoint, golden: str, body: bytes) -> None:
    endpoint.body = body
    with pytest.raises(ModelshipError, match="no usable answer"):
        call(endpoint, golden=golden, name="m")


def test_an_answer_that_breaks_off(endpoint: Endpoint, golden: str) -> None:
    endpoint.cut = True
    with pytest.raises(ModelshipError, match="did not respond completely: the response ended after"):
        call(endpoint, golden=golden, name="m")


def test_another_release(endpoint: Endpoint) -> None:
    assert call(endpoint, expect_release=RELEASE).result["verified"]
    with pytest.raises(ModelshipError, match=f"serves release {RELEASE}, not {OTHER}"):
        call(endpoint, expect_release=OTHER)
    planned = call(endpoint, expect_release=OTHER, check=True)
    assert planned.result == {"verdict": None, "verified": None}
    endpoint.release = None
    with pytest.raises(ModelshipError, match="does not say which release"):
        call(endpoint, expect_release=RELEASE)


def test_not_ready(endpoint: Endpoint) -> None:
    endpoint.ready = 503
    with pytest.raises(ModelshipError, match=r"is not ready: it answered 503 .* waited 0.3 s"):
        call(endpoint)
    assert call(endpoint, check=True).result["verified"] is None
    assert call(endpoint, ready_path="").result["verified"] is True


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nowhere = Endpoint(url=f"http://127.0.0.1:{probe.getsockname()[1]}")
        with pytest.raises(ModelshipError, match=r"is unreachable: .*refused"):
            call(nowhere)
        assert "not verified" in call(nowhere, check=True).message
    assert call(nowhere, check=True, release=str(tmp_path / "not yet")).result["verified"] is None


def test_headers_are_sent(endpoint: Endpoint, golden: str) -> None:
    call(endpoint, golden=golden, name="m", headers={"Authorization": "Bearer x"})
    assert endpoint.headers["authorization"] == "Bearer x"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "ftp://x"}, "is not an HTTP URL"),
        ({"url": "http://x:y"}, "is not an HTTP URL"),
        ({"requests": 10_001}, "must be 0 to 10000"),
        ({"samples": 0}, "at least 1"),
        ({"expect_release": "v1"}, "is not a digest"),
        ({"latency_p99_ms": 5, "requests": 0}, "needs requests"),
    ],
)
def test_bad_options(endpoint: Endpoint, options: dict[str, t.Any], words: str) -> None:
    with pytest.raises(ModelshipError, match=words):
        call(endpoint, **options)


def test_v2_needs_a_name(endpoint: Endpoint, golden: str) -> None:
    with pytest.raises(ModelshipError, match="needs the model's name"):
        call(endpoint, golden=golden)
    with pytest.raises(ModelshipError, match="is 'nobody' the model's name"):
        call(endpoint, golden=golden, name="nobody")


def test_percentiles_are_nearest_rank() -> None:
    values = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(values, percent) for percent in (1, 50, 90, 99)] == [1.0, 3.0, 5.0, 5.0]


@pytest.mark.parametrize("value", ["s3cret\n", "s3cret\r\nx: y", "s3cret\0", "s3cret\u20ac"])
def test_a_header_that_cannot_be_sent_is_reported_at_once_without_its_value(endpoint: Endpoint, value: str) -> None:
    with pytest.raises(ModelshipError) as caught:
        Client(endpoint.url, headers={"x-api-key": value})
    assert "the header x-api-key cannot be sent" in caught.value.message
    assert "s3cret" not in caught.value.message
    with pytest.raises(ModelshipError, match="'x key' is not the name of a header"):
        Client(endpoint.url, headers={"x key": "a"})


def test_names_and_prefixes_of_any_characters_are_sent_escaped(endpoint: Endpoint) -> None:
    with contextlib.closing(Client(endpoint.url + "/pre fix/\xfc%20")) as client:
        client.request("GET", goldens.model_path("my/mod\xe8l ?"))
    assert endpoint.paths[-1] == "/pre%20fix/%C3%BC%20/v2/models/my%2Fmod%C3%A8l%20%3F"


@pytest.mark.parametrize("url", ["http:// h/", "http://a\x1fb/", "http://a..b/"])
def test_a_url_whose_host_is_malformed_is_refused(url: str) -> None:
    with pytest.raises(ModelshipError, match="is not an HTTP URL: its host is malformed"):
        Client(url)
