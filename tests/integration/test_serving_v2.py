"""The Open Inference Protocol V2 over REST, asked by ``tritonclient`` as it is and, where that cannot err, by hand."""

from __future__ import annotations

import base64
import gzip
import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.tiny import GREEN, KINDS, RED, TOLERANCE, Server, expected, made, served, tiny_release

np = pytest.importorskip("numpy")
triton = pytest.importorskip("tritonclient.http")

pytestmark = pytest.mark.integration

INFER = "/v2/models/tiny/infer"
IMAGES = np.array(GREEN + RED, "float32").reshape(2, 2, 2, 1)

#: Two inputs of different dtypes, three outputs; the first one logits.
_MAKE_MANY = """
import sys, onnx
from onnx import TensorProto as T, helper as h
nodes = [h.make_node("Cast", ["step"], ["s"], to=T.FLOAT), h.make_node("Cast", ["half"], ["x"], to=T.FLOAT),
         h.make_node("Mul", ["x", "s"], ["logits"]), h.make_node("ReduceSum", ["x"], ["total"], keepdims=0, axes=[1]),
         h.make_node("Identity", ["step"], ["again"]), h.make_node("Cast", ["x"], ["small"], to=T.FLOAT16)]
value = h.make_tensor_value_info
graph = h.make_graph(nodes, "many", [value("half", T.FLOAT16, ["n", 3]), value("step", T.INT64, ["n", 1])],
                     [value("logits", T.FLOAT, ["n", 3]), value("total", T.FLOAT, ["n"]),
                      value("again", T.INT64, ["n", 1]), value("small", T.FLOAT16, ["n", 3])])
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 12)], ir_version=8), sys.argv[1])
"""
MANY = {
    "inputs": [
        {"name": "half", "dtype": "float16", "shape": [-1, 3]},
        {"name": "step", "dtype": "int64", "shape": [-1, 1]},
    ],
    "outputs": [
        {"name": "logits", "dtype": "float32", "shape": [-1, 3]},
        {"name": "total", "dtype": "float32", "shape": [-1]},
        {"name": "again", "dtype": "int64", "shape": [-1, 1]},
        {"name": "small", "dtype": "float16", "shape": [-1, 3]},
    ],
}


def alive(server: Server) -> None:
    """After all that was asked: no 5xx, nothing in the log worse than information, an orderly end."""
    failures = {key: value for key, value in server.counts("modelship_requests_total").items() if 'code="5' in key}
    assert failures == {}
    assert server.stop() == 0
    assert {event["level"] for event in server.log()} == {"info"}


@pytest.fixture(scope="module", params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(tiny_release(tmp_path_factory.mktemp("release"), request.param)) as running:
        yield running
        alive(running)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    release = tiny_release(
        tmp_path_factory.mktemp("many"), signature=MANY, model=made(_MAKE_MANY, ".onnx", modules=("onnx",))
    )
    with served(release) as running:
        yield running
        alive(running)


@pytest.fixture
def client(server: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


def image(binary: bool = True, values: Any = IMAGES) -> Any:
    tensor = triton.InferInput("image", list(values.shape), "FP32")
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def test_what_the_client_asks_first(server: Server, client: Any):
    assert client.is_server_live()
    assert client.is_server_ready()
    about = client.get_server_metadata()
    assert about["name"] == "modelship"
    assert "binary_tensor_data" in about["extensions"]
    model = client.get_model_metadata("tiny")
    (version,) = model["versions"]
    assert server.digest.startswith(f"sha256:{version}")
    assert client.get_model_metadata("tiny", version) == model
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", version)
    assert not client.is_model_ready("other")
    assert not client.is_model_ready("tiny", "1")
    assert model["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 2, 2, 1]}]
    assert model["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}]
    assert server.call("GET", "/v2/models/tiny/ready").json == {"name": "tiny", "ready": True}


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("taken", [True, False, None])
@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_infer(client: Any, given: bool, taken: bool | None, coding: str | None):
    outputs = None if taken is None else [triton.InferRequestedOutput("probabilities", binary_data=taken)]
    answer = client.infer(
        "tiny",
        [image(given)],
        outputs=outputs,
        request_id="a-1",
        request_compression_algorithm=coding,
        response_compression_algorithm=coding,
    )
    assert answer.as_numpy("probabilities") == pytest.approx(np.array([expected(GREEN), expected(RED)]), abs=TOLERANCE)
    assert answer.as_numpy("probabilities").dtype == np.float32
    about = answer.get_response()
    assert (about["model_name"], about["id"]) == ("tiny", "a-1")
    # Without a word about outputs this client asks for all of them as binary data.
    raw = "binary_data_size" in about["outputs"][0].get("parameters", {})
    assert raw == (taken is not False)


def test_large_answers_are_compressed_for_who_takes_that(server: Server, client: Any):
    images = np.random.default_rng(0).integers(0, 256, (300, 2, 2, 1)).astype("float32")
    wanted = np.array([expected(one.reshape(-1).tolist()) for one in images])
    plain = client.infer("tiny", [image(values=images)]).as_numpy("probabilities")
    assert plain == pytest.approx(wanted, abs=2 * TOLERANCE)
    for coding in ("gzip", "deflate"):
        again = client.infer("tiny", [image(values=images)], response_compression_algorithm=coding)
        assert (again.as_numpy("probabilities") == plain).all()
    body = {"inputs": [{"name": "image", "shape": [300, 2, 2, 1], "datatype": "FP32", "data": images.tolist()}]}
    answer = server.call("POST", INFER, body, {"accept-encoding": "gzip;q=0.5, deflate;q=0"})
    assert answer.headers["content-encoding"] == "gzip"
    data = json.loads(gzip.decompress(answer.body))["outputs"][0]["data"]
    assert data == pytest.approx(plain.reshape(-1).tolist())
    for refused in ("identity", "gzip;q=0", "br"):
        assert "content-encoding" not in server.call("POST", INFER, body, {"accept-encoding": refused}).headers


def test_classification(client: Any):
    for binary in (True, False):
        wanted = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
        found = client.infer("tiny", [image()], outputs=[wanted]).as_numpy("probabilities")
        texts = [[item.decode() if isinstance(item, bytes) else item for item in row] for row in found.tolist()]
        assert [row[0].split(":")[1:] for row in texts] == [["1", "green"], ["0", "red"]]
        assert float(texts[0][0].split(":")[0]) == pytest.approx(expected(GREEN)[1], abs=TOLERANCE)
        assert [len(row) for row in texts] == [2, 2]


def test_several_versions_and_parameters(server: Server, client: Any):
    (version,) = client.get_model_metadata("tiny")["versions"]
    answer = client.infer("tiny", [image()], model_version=version, priority=3, timeout=10_000_000)
    assert answer.get_response()["model_version"] == version
    with pytest.raises(triton.InferenceServerException, match="version '1'"):
        client.infer("tiny", [image()], model_version="1")
    with pytest.raises(triton.InferenceServerException, match="model 'other'"):
        client.infer("other", [image()])


def test_clients_side_by_side(server: Server):
    """Each gets the answers to its own questions, whatever sizes the others ask for."""
    generator = np.random.default_rng(1)
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}", concurrency=8) as client:
        asked = []
        for _ in range(120):
            images = generator.integers(0, 256, (int(generator.integers(1, 40)), 2, 2, 1)).astype("float32")
            asked.append((images, client.async_infer("tiny", [image(values=images)])))
        for images, pending in asked:
            found = pending.get_result().as_numpy("probabilities")
            wanted = np.array([expected(one.reshape(-1).tolist()) for one in images])
            assert found == pytest.approx(wanted, abs=2 * TOLERANCE)


def test_several_inputs_and_outputs(many: Server):
    half = np.array([[1.5, -2, 3], [0, 0.5, -1]], "float16")
    step = np.array([[3], [-4]], "int64")
    for binary in (True, False):
        inputs = [triton.InferInput("step", [2, 1], "INT64"), triton.InferInput("half", [2, 3], "FP16")]
        inputs[0].set_data_from_numpy(step, binary_data=binary)
        inputs[1].set_data_from_numpy(half)
        wanted = [
            triton.InferRequestedOutput("small"),
            triton.InferRequestedOutput("total", binary_data=binary),
            triton.InferRequestedOutput("again", binary_data=not binary),
            triton.InferRequestedOutput("logits"),
        ]
        with triton.InferenceServerClient(f"127.0.0.1:{many.port}") as client:
            answer = client.infer("tiny", inputs, outputs=wanted)
        assert [output["name"] for output in answer.get_response()["outputs"]] == ["small", "total", "again", "logits"]
        assert answer.as_numpy("small").dtype == np.float16
        assert (answer.as_numpy("small") == half).all()
        assert answer.as_numpy("total").tolist() == half.sum(axis=1).tolist()
        assert answer.as_numpy("again").tolist() == step.tolist()
        assert (answer.as_numpy("logits") == half * step).all()


def test_predict_of_a_model_with_several_inputs_and_logits(many: Server):
    answer = many.call("POST", "/predict", {"half": [1, -2, 3], "step": [2]}).json
    assert (answer["result"], answer["label"], answer["scores"]) == (2, "blue", [2, -4, 6])
    assert answer["outputs"] == {"total": 2, "again": [2], "small": [1, -2, 3]}
    several = many.call("POST", "/predict", {"instances": [{"half": [1, 2, 3], "step": s} for s in (1, -1)]}).json
    assert [answer["result"] for answer in several["predictions"]] == [2, 0]


def test_a_json_integer_must_be_one(many: Server):
    def ask(step: Any) -> Any:
        inputs = [
            {"name": "half", "shape": [1, 3], "datatype": "FP16", "data": [1, 2, 3]},
            {"name": "step", "shape": [1, 1], "datatype": "INT64", "data": [step]},
        ]
        return many.call("POST", INFER, {"inputs": inputs})

    assert ask(2**62).json["outputs"][2]["data"] == [2**62]
    for bad in (1.5, "1", True, None, 2**63):
        answer = ask(bad)
        assert (answer.status, "step" in answer.json["error"]) == (400, True), answer


def tensor(size: Any = 16, **changes: Any) -> dict[str, Any]:
    return {
        "name": "image", "shape": [1, 2, 2, 1], "datatype": "FP32", "parameters": {"binary_data_size": size}, **changes
    }  # fmt: skip


def framed(request: Any, data: bytes, **headers: str) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(request).encode()
    return text + data, {"inference-header-content-length": str(len(text)), **headers}


PIXELS = struct.pack("<4f", *GREEN)
BAD = [
    (framed({"inputs": [tensor()]}, PIXELS[:-1]), 400, "image: expected 16 bytes"),
    (framed({"inputs": [tensor()]}, PIXELS + b"x"), 400, "body: 1 bytes of binary data"),
    (framed({"inputs": [tensor(12)]}, PIXELS), 400, "image: binary_data_size 12 must be 16"),
    (framed({"inputs": [tensor(-16)]}, PIXELS), 400, "image: binary_data_size"),
    (framed({"inputs": [tensor("16")]}, PIXELS), 400, "image: binary_data_size"),
    (framed({"inputs": [tensor(True)]}, PIXELS), 400, "image: binary_data_size"),
    (framed({"inputs": [tensor(shape=[2**40, 2, 2, 1])]}, PIXELS), 400, "image: binary_data_size"),
    (framed({"inputs": [tensor(datatype="FP64")]}, PIXELS), 400, "image: datatype 'FP64'"),
    (framed({"inputs": [tensor(datatype="BYTES")]}, PIXELS), 400, "image: datatype 'BYTES' must be FP32"),
    (framed({"inputs": [tensor(data=[1])]}, PIXELS), 400, "image: has both"),
    (framed({"inputs": [tensor(parameters={})]}, b""), 400, "image: has neither"),
    (framed({"inputs": [tensor(parameters={"shared_memory_region": "x"})]}, b""), 400, "image: shared memory"),
    (framed({"inputs": [tensor(), tensor()]}, PIXELS * 2), 400, "image: given twice"),
    (framed({"inputs": [tensor()]}, struct.pack("<4f", 1, 2, float("nan"), 4)), 400, "image[2]: nan"),
    (framed({"inputs": [tensor()]}, struct.pack("<4f", 1, 2, 3, 256)), 400, "image[3]: 256"),
    (framed({"inputs": [tensor()], "parameters": {"binary_data_output": 1}}, PIXELS), 400, "binary_data_output"),
    (framed({"inputs": [tensor()], "parameters": {"timeout": -1}}, PIXELS), 400, "timeout"),
    (framed({"inputs": [tensor()], "outputs": [{"name": "x"}]}, PIXELS), 400, "unknown output 'x'"),
    (
        framed(
            {"inputs": [tensor()], "outputs": [{"name": "probabilities", "parameters": {"classification": "2"}}]},
            PIXELS,
        ),
        400,
        "probabilities: classification",
    ),
    (
        framed({"inputs": [tensor()], "outputs": [{"name": "probabilities"}] * 2}, PIXELS),
        400,
        "outputs[1]: 'probabilities' is given twice",
    ),
    (framed({"inputs": [tensor()], "id": "x" * 1025}, PIXELS), 400, "id: 1025 characters, at most 1024"),
    ((b"{}", {"inference-header-content-length": "3"}), 400, "inference-header-content-length '3'"),
    ((b"{}", {"inference-header-content-length": "x"}), 400, "inference-header-content-length 'x'"),
    ((b"{}", {"inference-header-content-length": "-1"}), 400, "inference-header-content-length '-1'"),
    ((json.dumps({"inputs": [tensor()]}).encode(), {}), 400, "needs the header"),
    ((PIXELS[:-1], {"inference-header-content-length": "0"}), 400, "image: 15 bytes"),
    ((b"", {"inference-header-content-length": "0"}), 400, "image: 0 bytes"),
    ((b"\x1f\x8b no", {"content-encoding": "gzip"}), 400, "not gzip"),
    ((gzip.compress(b"{}")[:-3], {"content-encoding": "gzip"}), 400, "not gzip: it is cut off"),
    ((b"{}", {"content-encoding": "br"}), 415, "content-encoding 'br'"),
    ((b"{}", {"content-type": "image/png"}), 415, "content-type 'image/png'"),
]


@pytest.mark.parametrize(("request_", "status", "message"), BAD)
def test_bad_requests_are_named(server: Server, request_: tuple[bytes, dict[str, str]], status: int, message: str):
    answer = server.call("POST", INFER, *request_)
    assert (answer.status, list(answer.json)) == (status, ["error"])
    assert message in answer.json["error"]


def test_a_body_that_grows_when_decompressed_is_stopped(server: Server):
    bomb = zlib.compress(b" " * 50_000_000)
    answer = server.call("POST", INFER, bomb, {"content-encoding": "deflate"})
    assert answer.status == 413
    bare = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = bare.compress(framed({"inputs": [tensor()]}, PIXELS)[0]) + bare.flush()
    headers = {**framed({"inputs": [tensor()]}, PIXELS)[1], "content-encoding": "deflate"}
    assert server.call("POST", INFER, data, headers).status == 200


def test_nothing_but_the_bytes_of_the_input(server: Server):
    answer = server.call("POST", INFER, PIXELS * 3, {"inference-header-content-length": "0"})
    assert answer.status == 200
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.body[:length])["outputs"][0]["shape"] == [3, 3]
    found = np.frombuffer(answer.body[length:], "<f4").reshape(3, 3)
    assert found == pytest.approx(np.array([expected(GREEN)] * 3), abs=TOLERANCE)


#: A PNG of 2x2 grey pixels: 0, 255, 10, 0.
def png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0\x00\xff\0\x0a\x00")
    header = struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def form(*files: tuple[str, bytes]) -> bytes:
    parts = [b'--frontier\r\ncontent-disposition: form-data; name="note"\r\n\r\nhello\r\n']
    for name, data in files:
        head = (
            f'--frontier\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\nContent-Type: image/png'
        )
        parts.append(head.encode() + b"\r\n\r\n" + data + b"\r\n")
    return b"".join(parts) + b"--frontier--\r\n"


def test_pictures(server: Server):
    pytest.importorskip("PIL")
    for kind, body in (("image/png", png()), ("multipart/form-data; boundary=frontier", form(("image", png())))):
        answer = server.call("POST", "/predict?invert=false", body, {"content-type": kind})
        assert answer.status == 200, answer
        assert answer.json["label"] == "green"
        assert answer.json["probabilities"] == pytest.approx(expected(GREEN), abs=TOLERANCE)
    kind = "multipart/form-data; boundary=frontier"
    for body, status in (
        (form(), 400),
        (form(("a", png()), ("b", png())), 400),
        (form(("image", b"no picture")), 415),
        (form(("image", png()))[:-20], 400),
        (b"", 400),
        (base64.b64encode(png()), 400),
    ):
        assert server.call("POST", "/predict", body, {"content-type": kind}).status == status
    assert server.call("POST", "/predict", form(), {"content-type": "multipart/form-data"}).status == 400


def test_predict_takes_compressed_bodies(server: Server):
    text = json.dumps({"image": GREEN}).encode()
    body = gzip.compress(text[:9]) + gzip.compress(text[9:])
    assert server.call("POST", "/predict", body, {"content-encoding": "gzip"}).json["label"] == "green"


def test_what_is_malformed_and_what_does_not_fit_are_400_and_counted_apart(server: Server):
    def rejected() -> tuple[float, float]:
        counts = server.counts("modelship_rejected_total")
        malformed, invalid = (
            counts[f'modelship_rejected_total{{reason="{name}"}}'] for name in ("malformed", "invalid")
        )
        return malformed, invalid

    malformed, invalid = rejected()
    for path, bad in ((INFER, b"{"), ("/predict", b"[]"), ("/explain?method=x", b"{}")):
        assert server.call("POST", path, bad).status == 400
    assert rejected() == (malformed + 3, invalid)
    unfit = {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 2, 2, 1], "data": [1, 2, 3, 256]}]}
    for path, bad in (
        (INFER, unfit),
        (INFER, {"inputs": []}),
        ("/predict", {"image": [1]}),
        ("/explain", {"image": [1]}),
    ):
        answer = server.call("POST", path, bad)
        assert (answer.status, answer.json["error"].startswith("image")) == (400, True)
    assert rejected() == (malformed + 3, invalid + 4)
