"""Reading golden sets and comparing answers with them."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from ansible_collections.modelship.core.plugins.module_utils._core.content import canonical_json, sha256_bytes
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._endpoint import golden as goldens
from ansible_collections.modelship.core.plugins.module_utils._endpoint.http import Answer
from ansible_collections.modelship.core.plugins.module_utils._endpoint.safetensors import numbers
from modelship_model.golden import GoldenSet

GOLDEN: dict[str, t.Any] = {
    "inputs": {"image": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]},
    "outputs": {"p": [[0.1, 0.9], [0.8, 0.2]]},
    "tolerance": {"absolute": 0.05, "classes": "equal"},
}


def parsed(**changes: t.Any) -> goldens.Golden:
    return goldens.parse_golden(canonical_json({**GOLDEN, **changes}), "golden.json")


def answer(value: t.Any, status: int = 200) -> Answer:
    return Answer(status, {}, value if isinstance(value, bytes) else json.dumps(value).encode())


def v2(data: t.Any, shape: t.Any = (1, 2), name: str = "p") -> Answer:
    return answer({"outputs": [{"name": name, "shape": list(shape), "datatype": "FP32", "data": data}]})


def test_requests_carry_shape_type_and_flat_data() -> None:
    call = goldens.call_for(parsed(), 1, "v2", "m", {"image": "UINT8"})
    assert (call.method, call.path) == ("POST", "/v2/models/m/infer")
    assert json.loads(call.body or b"") == {
        "inputs": [{"name": "image", "shape": [1, 2, 2], "datatype": "UINT8", "data": [5, 6, 7, 8]}]
    }
    call = goldens.call_for(parsed(), 0, "predict", "m", {})
    assert (call.path, json.loads(call.body or b"")) == ("/predict", {"image": [1, 2, 3, 4]})


def test_the_same_answer_and_one_within_tolerance_agree() -> None:
    mismatches, worst = goldens.compare(parsed(), 0, v2([0.13, 0.88]), "v2")
    assert mismatches == []
    assert worst == pytest.approx(0.03)


def test_another_class_is_told_even_within_tolerance() -> None:
    close = parsed(outputs={"p": [[0.49, 0.51], [0.8, 0.2]]})
    mismatches, _worst = goldens.compare(close, 0, v2([0.51, 0.49]), "v2")
    assert [item.reason for item in mismatches] == ["another class"]
    assert (mismatches[0].expected, mismatches[0].got) == ("class 1 (0.51)", "class 0 (0.51)")


def test_the_class_alone_does_not_make_the_same_answer() -> None:
    mismatches, worst = goldens.compare(parsed(), 0, v2([0.4, 0.6]), "v2")
    assert mismatches[0].reason == "differs by more than 0.05"
    assert worst == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (answer(b"<html><body>Bad gateway</body></html>"), "not JSON: '<html>"),
        (answer(b'{"outputs": [{"name": "p", "da'), "not JSON"),
        (answer(b""), "an empty body"),
        (answer([]), "no list 'outputs'"),
        (answer({"outputs": {}}), "no list 'outputs'"),
        (v2([0.1, 0.9], name="other"), "no output 'p' (it has ['other'])"),
        (v2([0.1, 0.9], shape=(2, 1, 1)), "has shape [2, 1, 1]"),
        (v2([0.1]), "1 values, not 2"),
        (v2([0.1, None]), "no finite number"),
        (v2([[0.1, [0.9]]]), "ragged"),
        (answer(b'{"outputs": [{"name": "p", "shape": [1, 2], "data": [NaN, 1]}]}'), "no finite number"),
        (answer({"error": "no such model"}, 404), "no such model"),
        (answer(b"[" * 100_000), "not JSON"),
    ],
)
def test_garbage_is_a_mismatch_that_shows_it(got: Answer, words: str) -> None:
    mismatches, _worst = goldens.compare(parsed(), 0, got, "v2")
    assert len(mismatches) == 1
    assert words in mismatches[0].got
    assert len(mismatches[0].got) < 300


def test_predict_answers() -> None:
    assert goldens.compare(parsed(), 0, answer({"result": 1}), "predict") == ([], 0.0)
    wrong, _worst = goldens.compare(parsed(), 0, answer({"result": 0}), "predict")
    assert (wrong[0].expected, wrong[0].got) == ("class 1", "class 0")
    exact, _worst = goldens.compare(parsed(), 0, answer({"result": 1, "probabilities": [0.3, 0.7]}), "predict")
    assert exact[0].reason == "differs by more than 0.05"
    value = parsed(outputs={"p": [[3.0], [4.0]]}, tolerance={"absolute": 0.1})
    assert goldens.compare(value, 0, answer({"result": 3.05}), "predict")[0] == []
    assert goldens.compare(value, 0, answer({"result": 3.5}), "predict")[0]
    assert "neither" in goldens.compare(parsed(), 0, answer({"result": True}), "predict")[0][0].got


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"inputs": {}, "outputs": {}},
        {**GOLDEN, "outputs": {"p": [[0.1, 0.9]]}},
        {**GOLDEN, "inputs": {"a": [[1]], "b": [[1], [2]]}},
        {**GOLDEN, "inputs": {"a": [["x"], ["y"]]}},
        [],
    ],
)
def test_what_is_no_golden_set_is_refused(value: t.Any) -> None:
    with pytest.raises(ModelshipError, match="is not a golden set"):
        goldens.parse_golden(json.dumps(value).encode(), "golden.json")


def _release(folder: Path) -> Path:
    raw = canonical_json(GOLDEN)
    manifest = {
        "name": "m",
        "signature": {"inputs": [{"name": "image", "dtype": "int64", "shape": [-1, 2, 2]}]},
        "files": {"golden.json": {"sha256": sha256_bytes(raw).partition(":")[2], "size": len(raw)}},
    }
    text = canonical_json(manifest)
    path = folder / sha256_bytes(text).partition(":")[2]
    path.mkdir()
    (path / "release.json").write_bytes(text)
    (path / "golden.json").write_bytes(raw)
    return path


def test_a_release_gives_name_types_and_digest(tmp_path: Path) -> None:
    path = _release(tmp_path)
    golden = goldens.load_release(str(path))
    assert (golden.name, golden.datatypes, golden.release) == ("m", {"image": "INT64"}, f"sha256:{path.name}")


def test_a_corrupted_release_is_refused(tmp_path: Path) -> None:
    path = _release(tmp_path)
    (path / "golden.json").write_text("{}")
    with pytest.raises(ModelshipError, match=r"corrupted: golden\.json"):
        goldens.load_release(str(path))
    (path / "release.json").write_text("{}")
    with pytest.raises(ModelshipError, match=r"corrupted: its release\.json"):
        goldens.load_release(str(path))
    with pytest.raises(ModelshipError, match="cannot use"):
        goldens.load_release(str(tmp_path / "nowhere"))


def _binary(samples: int, size: int) -> bytes:
    """A golden set as the model component writes it, of float32 ``image`` and float32 ``p``."""
    rng = np.random.default_rng(1)
    inputs = {"image": rng.random((samples, size), np.float32), "flag": np.arange(samples, dtype=np.int64)[:, None]}
    outputs = {"p": rng.random((samples, 2), np.float32)}
    return GoldenSet(inputs, outputs, {"absolute": 0.02, "classes": "equal"}).encode()


def test_a_binary_golden_set_is_read_bit_by_bit() -> None:
    raw = _binary(3, 4)
    tensors = safetensors.numpy.load(raw)
    golden = goldens.parse_golden(raw, "golden.safetensors")
    assert (golden.absolute, golden.classes, golden.datatypes) == (0.02, True, {"image": "FP32", "flag": "INT64"})
    assert golden.inputs[2]["flag"].data.tolist() == [2]  # type: ignore[attr-defined]
    for sample in range(3):
        assert golden.inputs[sample]["image"].shape == (4,)
        assert bytes(golden.inputs[sample]["image"].raw or b"") == tensors["inputs/image"][sample].tobytes()
        assert list(golden.outputs[sample]["p"].data) == tensors["outputs/p"][sample].tolist()


@pytest.mark.parametrize("cut", [4, 12, 200, -1])
def test_a_binary_golden_set_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(ModelshipError, match="is not a golden set"):
        goldens.parse_golden(_binary(3, 4)[:cut], "golden.safetensors")


def test_large_samples_are_sent_as_binary_tensors_and_small_ones_as_json() -> None:
    small, large = (goldens.parse_golden(_binary(1, size), "golden.safetensors") for size in (4, 224 * 224 * 3))
    assert not goldens.wants_binary(small)
    assert goldens.wants_binary(large)
    call = goldens.call_for(large, 0, "v2", "m", large.datatypes, binary=True)
    body, length = call.body or b"", int(call.headers["inference-header-content-length"])
    header = json.loads(body[:length])
    assert header["parameters"] == {"binary_data_output": True}
    sizes = {item["name"]: item["parameters"]["binary_data_size"] for item in header["inputs"]}
    assert sizes == {"image": 224 * 224 * 3 * 4, "flag": 8}
    assert len(body) == length + sum(sizes.values())
    as_json = goldens.call_for(large, 0, "v2", "m", large.datatypes)
    assert len(as_json.body or b"") > 4 * len(body)


def test_binary_outputs_are_compared() -> None:
    golden = goldens.parse_golden(_binary(1, 4), "golden.safetensors")

    def response(values: list[float], size: int = 8) -> Answer:
        output = {"name": "p", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": size}}
        header = canonical_json({"outputs": [output]})
        data = np.asarray(values, np.float32).tobytes()
        return Answer(200, {"inference-header-content-length": str(len(header))}, header + data)

    expected = [float(value) for value in golden.outputs[0]["p"].data]
    assert goldens.compare(golden, 0, response(expected), "v2") == ([], 0.0)
    (found,), _worst = goldens.compare(golden, 0, response([expected[0] + 0.5, expected[1]]), "v2")
    assert "differs by more than 0.02" in found.reason
    (found,), _worst = goldens.compare(golden, 0, response(expected[:1], size=8), "v2")
    assert "binary_data_size 8, but 4 bytes follow" in found.got


def test_a_release_of_version_1_and_one_with_a_binary_golden_set_are_both_read(tmp_path: Path) -> None:
    raw = _binary(2, 4)
    manifest = {
        "name": "m",
        "signature": {"inputs": [{"name": "image", "dtype": "float32", "shape": [-1, 4]}]},
        "files": {"golden.safetensors": {"sha256": sha256_bytes(raw).partition(":")[2], "size": len(raw)}},
    }
    text = canonical_json(manifest)
    path = tmp_path / sha256_bytes(text).partition(":")[2]
    path.mkdir()
    (path / "release.json").write_bytes(text)
    (path / "golden.safetensors").write_bytes(raw)
    assert len(goldens.load_release(str(path)).inputs) == 2
    assert len(goldens.load_release(str(_release(tmp_path))).inputs) == 2
    (path / "golden.safetensors").write_bytes(raw[:-1] + b"x")
    with pytest.raises(ModelshipError, match=r"corrupted: golden\.safetensors"):
        goldens.load_release(str(path))


@pytest.mark.parametrize(
    ("datatype", "dtype"),
    [
        ("BOOL", "?"),
        ("UINT8", "u1"),
        ("INT16", "<i2"),
        ("UINT64", "<u8"),
        ("FP16", "<f2"),
        ("FP32", "<f4"),
        ("FP64", "<f8"),
    ],
)
def test_numbers_of_each_data_type(datatype: str, dtype: str) -> None:
    values = np.asarray([0, 1, 1, 0], dtype)
    assert list(numbers(datatype, values.tobytes())) == values.tolist()
    if values.itemsize > 1:
        with pytest.raises(ValueError, match="ends within a value"):
            numbers(datatype, values.tobytes()[:-1])


def test_bfloat16_is_the_upper_half_of_a_float() -> None:
    assert list(numbers("BF16", bytes.fromhex("803f00c0"))) == [1.0, -2.0]


def encoded(header: t.Any, content: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def entry(shape: t.Any, begin: t.Any, end: t.Any, dtype: t.Any = "F32") -> dict[str, t.Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        (entry([1, 2], 0, 8), entry([1, 2], 0, 8), "overlap"),
        (entry([1, 1], 0, 4), entry([1, 2], 8, 16), "belong to none"),
        (entry([1, 1], 0, 4), entry([1, 2], 4, 12), "belong to none"),
        (entry([1, 2], 0, 8), entry([1, 2], 8, 24), "outside of the file"),
        (entry([2**62, 4], 0, 0), entry([1, 4], 0, 16), "size of its shape"),
        (entry([-1, -2], 0, 8), entry([1, 2], 8, 16), "size of its shape"),
        (entry("12", 0, 8), entry([1, 2], 8, 16), "not integers"),
        (entry([1.5, 2], 0, 8), entry([1, 2], 8, 16), "not integers"),
        (entry([1, True], 0, 4), entry([1, 3], 4, 16), "not integers"),
        (entry([1, 2], 0, float("inf")), entry([1, 2], 8, 16), "not integers"),
        (entry([], 0, 4), entry([1, 3], 4, 16), "sample axis"),
        (entry([10**12, 0], 0, 0), entry([1, 4], 0, 16), "1000000000000 samples"),
        (entry([1, 2], 0, 8, "STRING"), entry([1, 2], 8, 16), "'STRING', which is not supported"),
        (entry([1, 2], 0, 8, ["F32"]), entry([1, 2], 8, 16), "malformed"),
    ],
)
def test_a_binary_golden_set_with_a_malformed_header_is_refused(inputs: t.Any, outputs: t.Any, words: str) -> None:
    with pytest.raises(ModelshipError) as caught:
        goldens.parse_golden(encoded({"inputs/x": inputs, "outputs/y": outputs}, bytes(16)), "golden.safetensors")
    assert caught.value.message.startswith("golden.safetensors is not a golden set")
    assert words in caught.value.message


@pytest.mark.parametrize("absolute", [float("nan"), float("inf"), -1, 10**400, "much", None])
def test_a_tolerance_that_is_no_finite_distance_is_refused(absolute: t.Any) -> None:
    with pytest.raises(ModelshipError, match="tolerance"):
        goldens.parse_golden(json.dumps({**GOLDEN, "tolerance": {"absolute": absolute}}).encode(), "golden.json")


@pytest.mark.parametrize("value", [b"9" * 400, b"[" * 900 + b"]" * 900, b"NaN", b'"a"'])
def test_values_that_are_no_numbers_are_refused_in_golden_sets_and_reported_in_responses(value: bytes) -> None:
    with pytest.raises(ModelshipError, match="is not a golden set"):
        goldens.parse_golden(b'{"inputs":{"x":[' + value + b']},"outputs":{"y":[[1]]}}', "golden.json")
    body = b'{"outputs":[{"name":"p","shape":[1,2],"datatype":"FP32","data":[1,' + value + b"]}]}"
    assert [item.reason for item in goldens.compare(parsed(), 0, answer(body), "v2")[0]] == ["no usable answer"]


def regression(*outputs: float) -> goldens.Golden:
    """A golden set without classes, with one sample."""
    values: t.Any = np.array([outputs], np.float32)
    return goldens.parse_golden(GoldenSet({"x": values}, {"p": values}, {"absolute": 0.05}).encode(), "golden")


def binary(*outputs: float, **changes: t.Any) -> Answer:
    content = np.array(outputs, "<f4").tobytes()
    output = {
        "name": "p",
        "shape": [1, len(outputs)],
        "datatype": "FP32",
        "parameters": {"binary_data_size": len(content)},
    }
    text = json.dumps({"outputs": [output | changes]}).encode()
    return Answer(200, {goldens.HEADER_LENGTH: str(len(text))}, text + content)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_a_binary_response_of_nan_or_infinity_differs_from_numbers(wrong: float, place: int) -> None:
    got = [1.0, 2.0]
    got[place] = wrong
    mismatches, worst = goldens.compare(regression(1.0, 2.0), 0, binary(*got), "v2")
    assert ([item.reason for item in mismatches], worst) == (["differs by more than 0.05"], float("inf"))
    assert mismatches[0].max_abs_difference is None  # JSON has no infinity


def test_nan_and_infinity_of_a_golden_set_equal_themselves_alone() -> None:
    golden = regression(float("nan"), float("inf"))
    assert goldens.compare(golden, 0, binary(float("nan"), float("inf")), "v2") == ([], 0.0)
    for got in ((1.0, float("inf")), (float("nan"), float("-inf")), (float("nan"), 3e38)):
        assert len(goldens.compare(golden, 0, binary(*got), "v2")[0]) == 1


def test_samples_with_nan_are_sent_as_binary_tensors_or_refused() -> None:
    golden = regression(float("nan"), 1.0)
    assert goldens.wants_binary(golden)
    with pytest.raises(ModelshipError, match="sample 0 holds NaN or infinity"):
        goldens.call_for(golden, 0, "v2", "m", golden.datatypes)
    assert goldens.call_for(golden, 0, "v2", "m", golden.datatypes, binary=True).body


@pytest.mark.parametrize(
    "got",
    [
        binary(1.0, 2.0, parameters="x"),
        binary(1.0, 2.0, parameters={"binary_data_size": -8}),
        binary(1.0, 2.0, parameters={"binary_data_size": True}),
        binary(1.0, 2.0, name=["p"]),
        binary(1.0, 2.0, shape=5),
        binary(1.0, 2.0, datatype="BYTES"),
        Answer(200, {goldens.HEADER_LENGTH: "\u00b2"}, b"{}"),
        Answer(200, {goldens.HEADER_LENGTH: "9" * 5000}, b"{}"),
    ],
)
def test_malformed_binary_responses_are_mismatches(got: Answer) -> None:
    mismatches, _worst = goldens.compare(regression(1.0, 2.0), 0, got, "v2")
    assert [item.reason for item in mismatches] == ["no usable answer"]


@pytest.mark.parametrize("result", [b"Infinity", b"NaN", b"9" * 400, b"1.5"])
def test_a_result_of_predict_that_is_no_class_is_a_mismatch(result: bytes) -> None:
    mismatches, _worst = goldens.compare(parsed(), 0, answer(b'{"result": ' + result + b"}"), "predict")
    assert [item.reason for item in mismatches] == ["no usable answer"]
