"""The Open Inference Protocol V2 over gRPC, asked by ``tritonclient`` as it is; what that cannot say is said by hand."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gzip
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelship_serving.rpc.hpack import encode_indexed
from tests import raw_http2 as raw
from tests.certificates import Authority
from tests.integration.tiny import (
    GREEN,
    KINDS,
    RED,
    TOLERANCE,
    Server,
    expected,
    fails_to_start,
    free_port,
    made,
    served,
    tiny_release,
)
from tests.soak.checks import MAKE_SLOW

np = pytest.importorskip("numpy")
triton = pytest.importorskip("tritonclient.grpc")
grpc = pytest.importorskip("grpc")
pb = pytest.importorskip("tritonclient.grpc.service_pb2")

pytestmark = pytest.mark.integration


def resident(server: Server) -> int:
    """Bytes of memory that the server's process takes."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


IMAGES = np.array(GREEN + RED, "float32").reshape(2, 2, 2, 1)
GRPC = "MODELSHIP_GRPC_PORT"
OTHER = [[0.0, 4.0, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 4.0], [1.0, 1.0, 1.0]]


class Both:
    """A server, and a client of its gRPC port."""

    def __init__(self, server: Server, port: int, **more: Any) -> None:
        self.server = server
        self.port = port
        self.client = triton.InferenceServerClient(f"127.0.0.1:{port}", **more)

    def ask(self, images: Any = IMAGES, **more: Any) -> Any:
        return self.client.infer("tiny", [tensor(images)], **more)


def tensor(images: Any, datatype: str = "FP32", name: str = "image") -> Any:
    found = triton.InferInput(name, list(images.shape), datatype)
    found.set_data_from_numpy(images)
    return found


@pytest.fixture(scope="module", params=KINDS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    release = tiny_release(tmp_path_factory.mktemp(request.param), request.param)
    port = free_port()
    with served(release, MODELSHIP_MAX_BODY_BYTES="100000", **{GRPC: str(port)}) as server:
        found = Both(server, port)
        yield found
        found.client.close()
        assert server.process.poll() is None, "the server died of a request"
        counts = server.counts("modelship_requests_total")
        assert {key for key in counts if 'code="500"' in key} == set()
        assert counts['modelship_requests_total{endpoint="grpc",code="200"}'] > 10
        assert server.counts("modelship_in_flight") == {"modelship_in_flight": 0}
        assert server.stop() == 0


def refusal(both: Both, call: Any, *arguments: Any, **more: Any) -> tuple[str, str]:
    """Status and message that a call fails with."""
    with pytest.raises(triton.InferenceServerException) as caught:
        call(*arguments, **more)
    assert both.server.process.poll() is None
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


def test_health_and_metadata(both: Both):
    client, version = both.client, both.server.digest[7:19]
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", version)
    about = client.get_server_metadata(as_json=True)
    assert about["name"] == "modelship"
    for wanted in ("", version):
        model = client.get_model_metadata("tiny", wanted)
        assert (model.name, list(model.versions)) == ("tiny", [version])
        assert [(x.name, x.datatype, list(x.shape)) for x in model.inputs] == [("image", "FP32", [-1, 2, 2, 1])]
        assert [(x.name, x.datatype, list(x.shape)) for x in model.outputs] == [("probabilities", "FP32", [-1, 3])]
    assert refusal(both, client.get_model_metadata, "huge") == (
        "NOT_FOUND",
        "model 'huge': not served here, only 'tiny'",
    )
    status, text = refusal(both, client.is_model_ready, "tiny", "1")
    assert (status, text.startswith("version '1': not served here")) == ("NOT_FOUND", True)


def test_health_for_probes(both: Both):
    """grpc.health.v1, as Kubernetes' probes ask it."""
    with grpc.insecure_channel(f"127.0.0.1:{both.port}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"") == b"\x08\x01"
        service = b"inference.GRPCInferenceService"
        assert check(b"\x0a" + bytes([len(service)]) + service) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as caught:
            check(b"\x0a\x01x")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            list(channel.unary_stream("/grpc.health.v1.Health/Watch")(b""))
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_infer_raw(both: Both, compression: str | None):
    found = both.ask(request_id="seven", compression_algorithm=compression)
    answer = found.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == ("tiny", both.server.digest[7:19], "seven")
    assert len(answer.raw_output_contents) == 1
    assert not answer.outputs[0].HasField("contents")
    scores = found.as_numpy("probabilities")
    assert scores.dtype == np.float32
    assert scores.tolist() == [pytest.approx(expected(pixels), abs=TOLERANCE) for pixels in (GREEN, RED)]


def test_infer_gives_what_rest_gives(both: Both):
    images = np.random.default_rng(5).uniform(0, 255, (40, 2, 2, 1)).astype("float32")
    rest = both.server.call("POST", "/predict", {"instances": images.tolist()}).json["predictions"]
    once = both.ask(images).as_numpy("probabilities")
    assert once.tolist() == [pytest.approx(one["probabilities"], rel=1e-6) for one in rest]
    for _ in range(3):  # the later ones by the way of requests seen before
        each = np.concatenate([both.ask(images[i : i + 1]).as_numpy("probabilities") for i in range(len(images))])
        assert np.array_equal(each, once)


def typed(both: Both, **contents: Any) -> Any:
    request = pb.ModelInferRequest(model_name="tiny")
    request.inputs.add(name="image", datatype="FP32", shape=[1, 2, 2, 1], contents=contents)
    return both.client._client_stub.ModelInfer(request)


def test_infer_typed(both: Both):
    answer = typed(both, fp32_contents=GREEN)
    assert not answer.raw_output_contents
    assert list(answer.outputs[0].contents.fp32_contents) == pytest.approx(expected(GREEN), abs=TOLERANCE)


def test_outputs_asked_for(both: Both):
    named = both.ask(outputs=[triton.InferRequestedOutput("probabilities")])
    assert np.array_equal(named.as_numpy("probabilities"), both.ask().as_numpy("probabilities"))
    classes = both.ask(outputs=[triton.InferRequestedOutput("probabilities", class_count=1)])
    assert [one[0].decode().split(":")[1:] for one in classes.as_numpy("probabilities")] == [
        ["1", "green"],
        ["0", "red"],
    ]
    status, text = refusal(both, both.ask, outputs=[triton.InferRequestedOutput("nope")])
    assert (status, "unknown output 'nope'" in text) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize(
    ("images", "datatype", "name", "message"),
    [
        (IMAGES + 1, "FP32", "image", "image[1]: 256.0 is not in the range 0 to 255"),
        (IMAGES * np.nan, "FP32", "image", "image[0]: nan"),
        (IMAGES, "FP32", "picture", "inputs[0]: unknown input 'picture'"),
        (IMAGES.astype("float64"), "FP64", "image", "image: datatype 'FP64' must be FP32"),
        (IMAGES.reshape(4, 2), "FP32", "image", "image: shape [4, 2] must be"),
        (IMAGES[:0], "FP32", "image", "image: shape [0, 2, 2, 1] must be"),
    ],
)
def test_bad_input_is_named_as_by_rest(both: Both, images: Any, datatype: str, name: str, message: str):
    status, text = refusal(both, both.client.infer, "tiny", [tensor(images, datatype, name)])
    assert status == "INVALID_ARGUMENT"
    assert text.startswith(message)
    inputs = [{"name": name, "datatype": datatype, "shape": list(images.shape)}]
    if not np.isnan(images).any():
        inputs[0]["data"] = images.reshape(-1).tolist()
        rest = both.server.call("POST", "/v2/models/tiny/infer", {"inputs": inputs})
        assert (rest.status, rest.json["error"]) == (400, text)


def request(**more: Any) -> Any:
    given = {"model_name": "tiny", "raw_input_contents": [IMAGES[:1].tobytes()], **more}
    inputs = given.pop("inputs", [{"name": "image", "datatype": "FP32", "shape": [1, 2, 2, 1]}])
    return pb.ModelInferRequest(inputs=inputs, **given)


IMAGE = {"name": "image", "datatype": "FP32", "shape": [1, 2, 2, 1]}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (request(inputs=[]), "raw_input_contents: 1 for 0 inputs"),
        (request(raw_input_contents=[]), "image: "),
        (request(raw_input_contents=[b"1234"]), "image: "),
        (request(inputs=[IMAGE, IMAGE], raw_input_contents=[IMAGES[:1].tobytes()] * 2), "image: given twice"),
        (request(inputs=[{**IMAGE, "contents": {"fp32_contents": GREEN}}]), "image: has contents beside"),
        (request(inputs=[{**IMAGE, "shape": [2**40, 2, 2, 1]}]), "image: "),
        (request(inputs=[{**IMAGE, "shape": [-1, 2, 2, 1]}]), "image: shape [-1, 2, 2, 1]"),
        (
            request(inputs=[{**IMAGE, "contents": {"int_contents": [1, 2, 3, 4]}}], raw_input_contents=[]),
            "image: FP32 must be in contents.fp32_contents, not in contents.int_contents",
        ),
        (
            request(inputs=[{**IMAGE, "contents": {"fp32_contents": [1, 2, 3]}}], raw_input_contents=[]),
            "image: expected",
        ),
        (
            request(
                inputs=[{**IMAGE, "parameters": {"shared_memory_region": {"string_param": "r"}}}], raw_input_contents=[]
            ),
            "image: shared memory is not supported",
        ),
        (request(parameters={"timeout": {"int64_param": -1}}), "parameters: timeout"),
        (request(outputs=[{"name": "probabilities"}] * 2), "outputs[1]: 'probabilities' is given twice"),
        (request(id="x" * 1025), "id: 1025 characters, at most 1024"),
    ],
)
def test_requests_that_are_none(both: Both, bad: Any, message: str):
    with pytest.raises(grpc.RpcError) as caught:
        both.client._client_stub.ModelInfer(bad)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith(message)


def test_size_limit(both: Both):
    images = np.zeros((6000, 2, 2, 1), "float32")
    assert both.ask(images).as_numpy("probabilities").shape == (6000, 3)
    for compression in (None, "gzip"):
        status, text = refusal(both, both.ask, np.zeros((7000, 2, 2, 1), "float32"), compression_algorithm=compression)
        assert (status, "100000" in text) == ("RESOURCE_EXHAUSTED", True)
    assert both.client.is_server_live()


def test_metadata_of_answers(both: Both):
    with raw.Client(both.port) as client:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        for _ in range(2):
            reply = client.call("ServerLive", x_request_id="mine", traceparent=trace)
            assert (reply.status, reply.data) == (0, raw.message(b"\x08\x01"))
            assert reply.headers[":status"] == "200"
            assert reply.headers["content-type"] == "application/grpc"
            assert reply.headers["modelship-release"] == both.server.digest
            assert (reply.headers["x-request-id"], reply.headers["traceparent"]) == ("mine", trace)
        made = {client.call("ServerLive").headers["x-request-id"] for _ in range(3)}
        assert len(made) == 3
        # So it is with a refusal, whatever is refused and why.
        for method, more in (
            ("Nothing", {}),
            ("ModelInfer", {}),
            ("ServerLive", {"grpc_timeout": "soon"}),
            ("ServerLive", {"x_request_id": "x" * 200}),
            ("ServerLive", {"te": "trailers"}),
        ):
            reply = client.call(method, b"\xff", **more)
            assert reply.headers["modelship-release"] == both.server.digest
            made.add(reply.headers["x-request-id"])
        assert len(made) == 8
        assert all(len(one) < 30 for one in made)
        assert client.call("ModelInfer", b"\xff", x_request_id="mine").headers["x-request-id"] == "mine"


def test_calls_that_are_none(both: Both):
    with raw.Client(both.port) as client:
        assert client.call("Nothing").status == 12
        assert client.call("/other.Service/ServerLive").status == 12
        assert client.call("ServerLive", grpc_timeout="soon").status == 3
        assert client.call("ServerLive", grpc_timeout="0m").status == 4, "the deadline is over"
        assert client.call("ModelInfer", b"\xff\xff").status == 3
        assert client.call("ModelInfer", b"\x0a\x01\xff").status == 3
        for body in (b"", b"\x00\x00", raw.message(b"") * 2, raw.message(b"abc")[:-1], b"\x01\x00\x00\x00\x01a"):
            stream, client._next = client._next, client._next + 2
            client.send(raw.frame(raw.HEADERS, raw.END_HEADERS, stream, raw.block("ServerLive")))
            client.send(raw.frame(raw.DATA, raw.END_STREAM, stream, body))
            assert client.answer(stream).status == 3, body
        assert client.call("ServerLive").status == 0
        stream = client._next
        fields = raw.encode([(":method", "GET"), (":scheme", "http"), (":path", "/")])
        client.send(raw.frame(raw.HEADERS, raw.END_HEADERS | raw.END_STREAM, stream, fields))
        reply = client.answer(stream)
        assert reply.headers[":status"] == "405"
        assert reply.headers["x-request-id"]


def test_numbers_of_another_type_or_shape_are_not_even_looked_at(both: Both):
    """What is packed into 8 MB unpacks to 64."""

    def message(datatype: bytes, shape: bytes, contents: bytes) -> bytes:
        tensor = b"\x0a\x05image\x12\x04" + datatype + b"\x1a\x04" + shape + b"\x2a" + bytes([len(contents)]) + contents
        return b"\x0a\x04tiny\x2a" + bytes([len(tensor)]) + tensor

    with raw.Client(both.port) as client:
        for data, text in (
            (message(b"INT8", b"\x01\x02\x02\x01", b"\x12\x01\xff"), "image: datatype 'INT8' must be FP32"),
            (message(b"FP32", b"\x01\x02\x03\x01", b"\x32\x01\xff"), "image: shape [1, 2, 3, 1] must be"),
            (message(b"FP32", b"\x01\x02\x02\x01", b"\x32\x01\xff"), "message: contents is not as"),
            (message(b"FP32", b"\x02\x02\x02\x01", b"\x32\x10" + bytes(16)), "image: expected 8 numbers, got 4"),
        ):
            assert client.call("ModelInfer", data).headers["grpc-message"].startswith(text)


def test_windows_of_the_client_are_kept(both: Both):
    """An answer larger than the client's window comes piece by piece, as the client asks for it."""
    settings = raw.frame(raw.SETTINGS, 0, 0, b"\x00\x04" + (1000).to_bytes(4, "big"))
    images = np.zeros((1000, 2, 2, 1), "float32")
    data = request(
        inputs=[{**IMAGE, "shape": [1000, 2, 2, 1]}], raw_input_contents=[images.tobytes()]
    ).SerializeToString()
    with raw.Client(both.port, greet=raw.PREFACE + settings) as client:
        client.send(raw.frame(raw.HEADERS, raw.END_HEADERS, 1, raw.block("ModelInfer")))
        body = raw.message(data)
        client.send(raw.frame(raw.DATA, 0, 1, body[:16000]) + raw.frame(raw.DATA, raw.END_STREAM, 1, body[16000:]))
        received = b""
        for kind, _flags, _stream, payload in client.frames():
            if kind == raw.DATA:
                assert len(payload) <= 1000
                received += payload
                if len(received) % 1000 == 0:
                    client.send(raw.frame(raw.WINDOW_UPDATE, 0, 1, (1000).to_bytes(4, "big")))
            elif kind == raw.HEADERS and received:
                break
        assert len(pb.ModelInferResponse.FromString(received[5:]).raw_output_contents[0]) == 12000


def test_a_client_that_keeps_no_table_is_answered(both: Both):
    settings = raw.frame(raw.SETTINGS, 0, 0, b"\x00\x01" + (0).to_bytes(4, "big"))
    with raw.Client(both.port, greet=raw.PREFACE + settings) as client:
        for _ in range(3):
            assert client.call("ServerLive").headers["modelship-release"] == both.server.digest


def test_versions(tmp_path: Path):
    first = tiny_release(tmp_path / "a")
    second = tiny_release(tmp_path / "b", weights=OTHER)
    port = free_port()
    with served(first, MODELSHIP_VERSIONS=str(second.parent), **{GRPC: str(port)}) as server:
        both = Both(server, port)
        assert list(both.client.get_model_metadata("tiny").versions) == [first.name[:12], second.name[:12]]
        for release, weights in ((first, None), (second, OTHER), (second, OTHER)):
            found = both.ask(IMAGES[:1], model_version=release.name[:12])
            wanted = expected(GREEN) if weights is None else expected(GREEN, weights)
            assert found.as_numpy("probabilities")[0].tolist() == pytest.approx(wanted, abs=TOLERANCE)
            assert found.get_response().model_version == release.name[:12]
        with raw.Client(port) as client:
            asked = pb.ModelMetadataRequest(name="tiny", version=second.name[:12]).SerializeToString()
            assert client.call("ModelMetadata", asked).headers["modelship-release"] == f"sha256:{second.name}"
            bad = request(model_version=second.name[:12], raw_input_contents=[b"1234"]).SerializeToString()
            reply = client.call("ModelInfer", bad)
            assert (reply.status, reply.headers["modelship-release"]) == (3, f"sha256:{second.name}")
        both.client.close()


def test_the_gate_and_tls(tmp_path: Path):
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    keys = tmp_path / "keys"
    keys.write_text(f"ann sha256:{hashlib.sha256(b'secret').hexdigest()}\n")
    port = free_port()
    env = {
        GRPC: str(port),
        "MODELSHIP_TLS_CERT": str(certificate),
        "MODELSHIP_TLS_KEY": str(key),
        "MODELSHIP_API_KEYS": str(keys),
    }
    import ssl

    context = ssl.create_default_context(cafile=str(authority.ca))
    with served(tiny_release(tmp_path / "release"), tls=context, **env) as server:
        both = Both(server, port, ssl=True, root_certificates=str(authority.ca))
        assert both.client.is_server_ready(), "probes need no key"
        status, text = refusal(both, both.ask)
        assert (status, "credentials" in text) == ("UNAUTHENTICATED", True)
        assert refusal(both, both.ask, headers={"x-api-key": "wrong"})[0] == "UNAUTHENTICATED"
        for headers in ({"x-api-key": "secret"}, {"authorization": "Bearer secret"}):
            assert both.ask(headers=headers).as_numpy("probabilities").shape == (2, 3)
        context.set_alpn_protocols(["h2"])
        with raw.Client(port, context) as client:
            assert client.socket.selected_alpn_protocol() == "h2"
            reply = client.call("ModelInfer")
            assert (reply.status, "www-authenticate" in reply.headers) == (16, True)
        both.client.close()
        assert server.stop() == 0


def test_rate_limit(tmp_path: Path):
    port = free_port()
    env = {GRPC: str(port), "MODELSHIP_RATE_LIMIT": "0.001", "MODELSHIP_RATE_BURST": "2"}
    with served(tiny_release(tmp_path), **env) as server, raw.Client(port) as client:
        data = request().SerializeToString()
        replies = [client.call("ModelInfer", data) for _ in range(3)]
        assert [reply.status for reply in replies] == [0, 0, 8]
        assert int(replies[2].headers["grpc-retry-pushback-ms"]) >= 1000
        assert server.process.poll() is None


def test_a_taken_port_is_named(tmp_path: Path):
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in fails_to_start(tiny_release(tmp_path), **{GRPC: str(port)})


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_call_is_lost_on_sigterm_under_load(tmp_path: Path, workers: str):
    """Each of many calls gets its answer; only those fail that found nobody listening any more."""
    port, stop = free_port(), threading.Event()
    lost: list[str] = []

    def ask() -> int:
        answered = 0
        channel_options = [("grpc.use_local_subchannel_pool", 1)]  # otherwise all would share one connection
        with grpc.insecure_channel(f"127.0.0.1:{port}", channel_options) as channel:
            infer = channel.unary_unary(raw.SERVICE + "ModelInfer")
            data = request().SerializeToString()
            while not stop.is_set():
                try:
                    assert len(infer(data, timeout=20)) > 12
                    answered += 1
                except grpc.RpcError as exc:
                    if "Connection refused" not in exc.details():
                        lost.append(f"{exc.code()} {exc.details()}")
                    return answered
        return answered

    with (
        served(
            tiny_release(tmp_path), MODELSHIP_WORKERS=workers, MODELSHIP_DRAIN_SECONDS="3", **{GRPC: str(port)}
        ) as server,
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
        asking = [pool.submit(ask) for _ in range(4)]
        try:
            time.sleep(1)
            assert server.stop() == 0
        finally:
            time.sleep(0.2)
            stop.set()
        answered = [future.result() for future in asking]
    assert lost == []
    assert min(answered) > 10


def test_an_idle_client_does_not_hold_the_drain_up_and_hears_of_it(tmp_path: Path):
    port = free_port()
    with served(tiny_release(tmp_path), **{GRPC: str(port)}) as server, raw.Client(port) as client:
        assert client.call("ServerReady").data == raw.message(b"\x08\x01")
        server.process.terminate()
        first = client.until(raw.GOAWAY)
        assert first is not None
        assert first[2] == b"\x7f\xff\xff\xff\x00\x00\x00\x00", "not yet the last word"
        flags, _stream, payload = client.until(raw.PING) or (1, 0, b"")
        assert flags == 0
        assert client.call("ServerReady").data == raw.message(b""), "still answered: not ready"
        client.send(raw.frame(raw.PING, raw.ACK, 0, payload))
        last = client.until(raw.GOAWAY)
        assert last is not None
        assert last[2] == b"\x00\x00\x00\x03\x00\x00\x00\x00", "the last call that was answered"
        assert list(client.frames()) == [], "closed"
        assert server.process.wait(20) == 0


def test_large_messages_at_once(tmp_path: Path):
    """Several large messages over one connection, their frames mixed, as HTTP/2 allows."""
    port = free_port()
    images = np.random.default_rng(3).uniform(0, 255, (100_000, 2, 2, 1)).astype("float32")
    with served(tiny_release(tmp_path), **{GRPC: str(port)}) as server:
        both = Both(server, port)
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            found = list(pool.map(lambda _: both.ask(images).as_numpy("probabilities"), range(10)))
        assert all(np.array_equal(one, found[0]) for one in found)
        both.client.close()


def test_a_connection_too_many_is_turned_away_and_a_request_that_does_not_come_is_not_waited_for(tmp_path: Path):
    port = free_port()
    env = {GRPC: str(port), "MODELSHIP_MAX_CONNECTIONS": "2", "MODELSHIP_READ_SECONDS": "0.5"}
    with served(tiny_release(tmp_path), **env) as server:
        with raw.Client(port) as first, raw.Client(port) as second:
            assert first.call("ServerLive").status == second.call("ServerLive").status == 0
            with raw.Client(port) as third:
                goaway = third.until(raw.GOAWAY)
                assert goaway is not None
                assert goaway[2][4:] == b"\x00\x00\x00\x0btoo many connections"
            first.send(raw.frame(raw.HEADERS, raw.END_HEADERS, 3, raw.block("ModelInfer")))
            first.send(raw.frame(raw.DATA, 0, 3, b"\x00\x00"))
            assert first.answer(3).status == 4
        with raw.Client(port, greet=raw.PREFACE[:5]) as silent:
            assert [kind for kind, *_ in silent.frames()] == [raw.SETTINGS, raw.WINDOW_UPDATE], "greeted, then cut off"
        rejected = server.counts("modelship_rejected_total")
        assert rejected['modelship_rejected_total{reason="connections"}'] >= 1
        assert rejected['modelship_rejected_total{reason="timeout"}'] == 1


def test_a_client_may_give_up_all_its_calls_at_once(tmp_path: Path):
    port = free_port()
    with served(tiny_release(tmp_path), **{GRPC: str(port)}), raw.Client(port) as client:
        streams = range(1, 401, 2)
        for stream in streams:
            client.send(raw.frame(raw.HEADERS, raw.END_HEADERS, stream, raw.block("ModelInfer")))
        for stream in streams:
            client.send(raw.frame(raw.RST_STREAM, 0, stream, b"\x00\x00\x00\x08"))
        client._next = 401
        assert client.call("ServerLive").status == 0


def test_a_queue_that_is_full_deadlines_and_calls_given_up(tmp_path: Path):
    """With a model that takes a while: calls wait, are turned away, run out of time, or are not wanted any more."""
    port = free_port()
    data = request().SerializeToString()
    # So slow that no machine answers at once.
    release = tiny_release(tmp_path, model=made(MAKE_SLOW.replace("120", "480"), ".onnx"))
    with served(release, MODELSHIP_MAX_QUEUE="4", **{GRPC: str(port)}) as server, raw.Client(port) as client:
        streams = list(range(1, 81, 2))
        for stream in streams:
            client.send(raw.frame(raw.HEADERS, raw.END_HEADERS, stream, raw.block("ModelInfer")))
            client.send(raw.frame(raw.DATA, raw.END_STREAM, stream, raw.message(data)))
        for stream in streams[:20]:
            client.send(raw.frame(raw.RST_STREAM, 0, stream, b"\x00\x00\x00\x08"))
        ended = []
        for kind, flags, stream, payload in client.frames():
            if kind == raw.HEADERS:
                fields = dict(client._decoder.decode(payload))
                if flags & raw.END_STREAM:
                    ended.append((stream, fields))
                    if {one for one, _ in ended} >= set(streams[20:]):
                        break
        statuses = {fields["grpc-status"] for _, fields in ended}
        assert statuses <= {"0", "14"}
        assert "14" in statuses
        assert all("retry-after" in fields for _, fields in ended if fields["grpc-status"] == "14")
        # a call that was given up while the model ran for it holds its place until then
        deadline = time.monotonic() + 20
        while server.counts("modelship_in_flight") != {"modelship_in_flight": 0}:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        client._next = 81
        assert client.call("ModelInfer", data).status == 0
        assert client.call("ModelInfer", data, grpc_timeout="100u", x_request_id="late").status == 4
        assert server.counts("modelship_in_flight") == {"modelship_in_flight": 0}
        assert server.stop() == 0
        assert "error" not in {event["level"] for event in server.log()}
        assert all(event["request_id"] for event in server.log() if event["message"] == "call failed")


def test_what_unfinished_messages_take_is_bounded_for_all_connections(tmp_path: Path):
    port = free_port()
    with served(tiny_release(tmp_path), **{GRPC: str(port)}) as server, contextlib.ExitStack() as stack:
        before = resident(server)
        clients = [stack.enter_context(raw.Client(port)) for _ in range(12)]
        for client in clients:
            client.send(raw.frame(raw.HEADERS, raw.END_HEADERS, 1, raw.block("ModelInfer")))
            client.send(raw.frame(raw.DATA, 0, 1, bytes(16384)) * 430)  # 7 of the 8 MB that a message may have
            if client in clients[:9]:  # for which there is room
                client.send(raw.frame(raw.PING, 0, 0, b"all read"))
                assert client.until(raw.PING)
        refused = [client.answer(1) for client in clients[9:]]
        assert {(reply.status, reply.headers["retry-after"]) for reply in refused} == {(14, "1")}
        assert resident(server) - before < 110 << 20
        clients[0]._next = 3
        assert clients[0].call("ServerLive").status == 0
        assert server.counts('modelship_rejected_total{reason="bodies"') == {
            'modelship_rejected_total{reason="bodies"}': 3
        }
        for client in clients:
            client.socket.close()
        with raw.Client(port) as client:
            assert client.call("ModelInfer", request().SerializeToString()).status == 0


def test_a_client_that_does_not_read_its_answers_is_not_kept(tmp_path: Path):
    port, count = free_port(), 200_000
    shape = {**IMAGE, "shape": [count, 2, 2, 1]}
    data = request(inputs=[shape], raw_input_contents=[bytes(16 * count)]).SerializeToString()
    env = {GRPC: str(port), "MODELSHIP_IDLE_SECONDS": "1", "MODELSHIP_READ_SECONDS": "1"}
    with served(tiny_release(tmp_path), **env) as server, contextlib.ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(raw.Client(port))
            client.send(raw.frame(raw.SETTINGS, 0, 0, b"\x00\x04\x7f\xff\xff\xff"))
            client.send(raw.frame(raw.WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4, "big")))
            for stream in (1, 3, 5, 7, 9):
                client.send(raw.frame(raw.HEADERS, raw.END_HEADERS, stream, raw.block("ModelInfer")))
                body = raw.message(data)
                for place in range(0, len(body), 16384):
                    client.send(raw.frame(raw.DATA, 0, stream, body[place : place + 16384]))
                client.send(raw.frame(raw.DATA, raw.END_STREAM, stream))
        deadline = time.monotonic() + 20
        while (left := server.counts("modelship_connections")["modelship_connections"]) > 1:
            assert time.monotonic() < deadline, left
            time.sleep(0.2)
        assert server.counts("modelship_in_flight") == {"modelship_in_flight": 0}


def test_a_message_of_several_gzip_members_is_one_message(both: Both):
    asked = bytes([10, 4]) + b"tiny"  # ModelReady: name
    packed = gzip.compress(asked[:3]) + gzip.compress(b"") + gzip.compress(asked[3:])
    with raw.Client(both.port) as client:
        block = raw.block("ModelReady", grpc_encoding="gzip")
        client.send(raw.frame(raw.HEADERS, raw.END_HEADERS, 1, block))
        client.send(raw.frame(raw.DATA, raw.END_STREAM, 1, b"\x01" + len(packed).to_bytes(4, "big") + packed))
        reply = client.answer(1)
    assert (reply.status, reply.data) == (0, raw.message(b"\x08\x01"))


def test_refused_connections_keep_no_client_with_a_key_out(tmp_path: Path):
    """Whether they say nothing, ask without a key again and again, or never end a header."""
    keys = tmp_path / "keys"
    keys.write_text(f"me sha256:{hashlib.sha256(b'k').hexdigest()}\n")
    rpc_port = free_port()
    settings = {
        "MODELSHIP_GRPC_PORT": str(rpc_port),
        "MODELSHIP_API_KEYS": str(keys),
        "MODELSHIP_MAX_CONNECTIONS": "12",
    }
    with served(tiny_release(tmp_path), **settings) as server, contextlib.ExitStack() as stack:
        mine = stack.enter_context(raw.Client(rpc_port))
        assert mine.call("ServerMetadata", x_api_key="k").status == 0
        others = [stack.enter_context(raw.Client(rpc_port)) for _ in range(11)]
        for client in others[:4]:
            client.send(raw.frame(raw.HEADERS, 0, 1, raw.block("ServerMetadata")[:20]))
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            for client in others[4:8]:
                assert client.call("ServerMetadata").status == 16  # UNAUTHENTICATED
            time.sleep(0.05)
        clients = [stack.enter_context(raw.Client(rpc_port)) for _ in range(11)]
        for client in clients:
            assert client.call("ServerMetadata", x_api_key="k").status == 0
        assert mine.call("ServerMetadata", x_api_key="k").status == 0, "it had a key all the time"
        assert server.counts("modelship_rejected_total")['modelship_rejected_total{reason="connections"}'] == 11


def test_header_lists_that_are_too_large_are_counted_and_cut_off(both: Both):
    end = raw.END_HEADERS | raw.END_STREAM
    with raw.Client(both.port) as client:
        large = raw.block("ServerLive") + encode_indexed([("y", "z" * 3000)]) + b"\xbe" * 6
        for stream in range(1, 11, 2):
            client.send(raw.frame(raw.HEADERS, end, stream, large))
            assert client.answer(stream).status == 8  # RESOURCE_EXHAUSTED
        client.send(raw.frame(raw.HEADERS, end, 11, large))
        found = client.until(raw.GOAWAY)
        assert found is not None
        assert int.from_bytes(found[2][4:8], "big") == 11  # ENHANCE_YOUR_CALM
    assert both.client.is_server_live()
