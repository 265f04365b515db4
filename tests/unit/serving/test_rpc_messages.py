"""The messages, byte by byte against the classes that tritonclient generated from the protocol's own definition."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from modelship_serving.errors import RequestError
from modelship_serving.rpc import messages as m
from modelship_serving.rpc import protobuf

pb = pytest.importorskip("tritonclient.grpc.service_pb2")

TYPES = {
    "BOOL": ("bool", "bool"),
    "INT8": ("int8", "int"),
    "INT16": ("int16", "int"),
    "INT32": ("int32", "int"),
    "INT64": ("int64", "int64"),
    "UINT8": ("uint8", "uint"),
    "UINT16": ("uint16", "uint"),
    "UINT32": ("uint32", "uint"),
    "UINT64": ("uint64", "uint64"),
    "FP32": ("float32", "fp32"),
    "FP64": ("float64", "fp64"),
}


def numbers(dtype: str, count: int) -> Any:
    """All magnitudes that the type has, both ends among them."""
    chance = np.random.default_rng(7)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return chance.normal(size=count).astype(kind)
    if kind.kind == "b":
        return chance.integers(0, 2, count).astype(kind)
    limits = np.iinfo(kind)
    values = chance.integers(limits.min, limits.max, count, kind, endpoint=True)
    if kind.itemsize > 1:
        values >>= chance.integers(0, kind.itemsize * 8, count).astype(kind)
    values[:4] = [limits.min, limits.max, 0, 1][:count]
    return values


@pytest.mark.parametrize("count", [0, 1, 4, 1000])
@pytest.mark.parametrize("datatype", TYPES)
def test_contents_there_and_back(datatype: str, count: int):
    dtype, field = TYPES[datatype]
    array = numbers(dtype, count)
    theirs = pb.InferTensorContents(**{f"{field}_contents": array.tolist()}).SerializeToString()
    assert m.write_contents(array, datatype) == theirs
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=[count])
    tensor.contents.ParseFromString(theirs)
    read = m.read_infer_request(pb.ModelInferRequest(inputs=[tensor]).SerializeToString()).inputs[0]
    assert (read.name, read.datatype, read.shape) == ("x", datatype, [count])
    found = read.contents.numbers("x", datatype, count) if read.contents and count else np.empty(0)
    assert found.tolist() == array.tolist()


def test_contents_in_pieces():
    """A writer may split packed numbers up, or not pack them at all."""
    piece = pb.InferTensorContents(int_contents=[1, -2]).SerializeToString()
    contents = piece + b"\x10\x05" + piece
    tensor = b"\x2a" + bytes([len(contents)]) + contents
    request = m.read_infer_request(b"\x2a" + bytes([len(tensor)]) + tensor)
    assert request.inputs[0].contents is not None
    assert request.inputs[0].contents.numbers("x", "INT32", 5).tolist() == [1, -2, 5, 1, -2]
    with pytest.raises(RequestError, match=r"x: FP32 must be in contents.fp32_contents, not in contents.int_contents"):
        request.inputs[0].contents.numbers("x", "FP32", 5)
    with pytest.raises(RequestError, match=r"x: FP16 must be in raw_input_contents, not in contents.int_contents"):
        request.inputs[0].contents.numbers("x", "FP16", 5)


@pytest.mark.parametrize("datatype", ["INT64", "UINT64", "INT32", "BOOL"])
def test_numbers_are_packed_and_unpacked_piece_by_piece(monkeypatch: pytest.MonkeyPatch, datatype: str):
    array = numbers(TYPES[datatype][0], 3000)
    whole = m.write_contents(array, datatype)
    for size in (10, 11, 64, 1000):
        monkeypatch.setattr(protobuf, "_CHUNK", size)
        assert m.write_contents(array, datatype) == whole
        (value,) = protobuf.Reader(whole).scan(0, len(whole))
        assert m.Contents(whole, [value]).numbers("x", datatype, 3000).tolist() == array.tolist()
    with pytest.raises(RequestError, match="64 bits"):
        protobuf.unpack_varints(np.frombuffer(b"\x80" * 3000 + b"\x01", np.uint8), np.dtype("int64"))


@pytest.mark.parametrize("datatype", TYPES)
def test_nothing_is_unpacked_where_there_are_more_or_fewer_numbers(monkeypatch: pytest.MonkeyPatch, datatype: str):
    def never(*_arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr(m, "unpack_varints", never)
    monkeypatch.setattr(m, "numbers", never)
    whole = m.write_contents(numbers(TYPES[datatype][0], 1000), datatype)
    contents = m.Contents(whole, list(protobuf.Reader(whole).scan(0, len(whole))))
    for count in (1, 999, 1001, 2**40):
        with pytest.raises(RequestError, match=f"x: expected {count} numbers, got 1000") as caught:
            contents.numbers("x", datatype, count)
        assert caught.value.status == 400


@pytest.mark.parametrize(
    "unit", [b"\x3a\x00", b"\x2a\x00", b"\x32\x00", b"\x22\x00", b"\x2a\x04\x2a\x02\x10\x01", b"\x50\x01"]
)
def test_a_message_of_too_many_fields_is_refused(unit: bytes):
    """Each takes two bytes on the wire, and hundreds in memory."""
    few = 1000
    m.read_infer_request(unit * few)
    with pytest.raises(RequestError, match="more than 16384 fields") as caught:
        m.read_infer_request(unit * 20_000)
    assert caught.value.status == 413


def test_a_shape_of_too_many_axes_is_refused():
    for axes in (b"\x18\x01" * 5000, b"\x1a\x88\x27" + b"\x01" * 5000):
        length = bytes([len(axes) & 0x7F | 0x80, len(axes) >> 7])
        with pytest.raises(RequestError, match="a shape of more than 64 axes"):
            m.read_infer_request(b"\x2a" + length + axes)


@pytest.mark.parametrize("more", [0, 1000, 100_000])
def test_a_small_tensor_does_not_keep_a_large_message(more: int):
    values = np.arange(1000, dtype="float32")
    theirs = pb.ModelInferRequest(id="x" * more)
    theirs.inputs.add(name="x", datatype="FP32", shape=[1000]).contents.fp32_contents.extend(values.tolist())
    contents = m.read_infer_request(theirs.SerializeToString()).inputs[0].contents
    assert contents is not None
    found = contents.numbers("x", "FP32", 1000)
    assert found.tolist() == values.tolist()
    assert len(found.base) < 3 * found.nbytes


def test_a_whole_request():
    theirs = pb.ModelInferRequest(
        model_name="digits", model_version="3" * 12, id="ü 7", raw_input_contents=[b"ab", b""]
    )
    for name in ("a", "b" * 300):
        tensor = theirs.inputs.add(name=name, datatype="FP32", shape=[-1, 0, 2**40])
        tensor.parameters["shared_memory_region"].string_param = "no"
    output = theirs.outputs.add(name="p")
    output.parameters["classification"].int64_param = -5
    theirs.parameters["yes"].bool_param = True
    theirs.parameters["half"].double_param = 0.5
    theirs.parameters["most"].uint64_param = 2**64 - 1
    theirs.parameters["empty"].SetInParent()
    data = theirs.SerializeToString()
    read = m.read_infer_request(data)
    assert read[:3] == ("digits", "3" * 12, "ü 7")
    assert read.parameters == {"yes": True, "half": 0.5, "most": 2**64 - 1, "empty": None}
    assert [(x.name, x.datatype, x.shape, x.parameters) for x in read.inputs] == [
        (name, "FP32", [-1, 0, 2**40], {"shared_memory_region": "no"}) for name in ("a", "b" * 300)
    ]
    assert read.outputs == [("p", {"classification": -5})]
    assert [data[start:stop] for start, stop in read.raw] == [b"ab", b""]


def test_answers():
    assert m.write_flag(True) == pb.ServerLiveResponse(live=True).SerializeToString()
    assert m.write_flag(False) == pb.ModelReadyResponse(ready=False).SerializeToString()
    server = pb.ServerMetadataResponse(name="modelship", version="1", extensions=["a", "b"])
    assert m.write_server_metadata("modelship", "1", ["a", "b"]) == server.SerializeToString()
    model = pb.ModelMetadataResponse(name="digits", versions=["1", "2"], platform="onnx")
    model.inputs.add(name="x", datatype="FP32", shape=[-1, 28, 28, 1])
    model.outputs.add(name="y", datatype="INT64", shape=[-1])
    tensors = [m.write_tensor("x", "FP32", [-1, 28, 28, 1])], [m.write_tensor("y", "INT64", [-1])]
    assert m.write_model_metadata("digits", ["1", "2"], "onnx", *tensors) == model.SerializeToString()
    values = np.arange(300, dtype="float32")
    answer = pb.ModelInferResponse(model_name="digits", model_version="1", id="7")
    answer.outputs.add(name="y", datatype="FP32", shape=[300]).contents.fp32_contents.extend(values.tolist())
    answer.outputs.add(name="z", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([b"a", b""])
    answer.raw_output_contents.append(values.tobytes())
    assert answer.SerializeToString() == (
        m.write_infer_head("digits", "1")
        + m.write_id("7")
        + m.write_outputs(
            [
                m.write_tensor("y", "FP32", [300], m.write_contents(values, "FP32")),
                m.write_tensor("z", "BYTES", [2], m.write_strings(["a", ""])),
            ]
        )
        + m.write_raw(values)
    )


def test_mangled_requests_are_refused_as_such():
    """Whatever comes is either read or refused as a bad request."""
    theirs = pb.ModelInferRequest(model_name="digits", id="7", raw_input_contents=[b"abcdef"])
    theirs.inputs.add(name="x", datatype="INT32", shape=[1, 300]).contents.int_contents.extend([1, -1, 300])
    theirs.outputs.add(name="y").parameters["classification"].int64_param = 3
    data = theirs.SerializeToString()
    chance = random.Random(99)  # noqa: S311
    refused = []
    for _ in range(4000):
        mangled = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            mangled[chance.randrange(len(mangled))] = chance.randrange(256)
        mangled = mangled[: chance.randrange(len(mangled) + 1)]
        try:
            request = m.read_infer_request(bytes(mangled))
            for tensor in request.inputs:
                if tensor.contents:
                    tensor.contents.numbers("x", "INT32", chance.choice((1, 2, 3, 4)))
        except RequestError as exc:
            refused.append(exc.status)
    assert set(refused) <= {400}
    assert len(refused) > 1000
