"""Reading golden sets and comparing answers with them."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.content import canonical_json, sha256_bytes
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._endpoint import golden as goldens
from ansible_collections.modelship.core.plugins.module_utils._endpoint.http import Answer

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
    body = json.loads(goldens.request_for(parsed(), 1, "v2", {"image": "UINT8"}))
    assert body == {"inputs": [{"name": "image", "shape": [1, 2, 2], "datatype": "UINT8", "data": [5, 6, 7, 8]}]}
    assert json.loads(goldens.request_for(parsed(), 0, "predict", {})) == {"image": [1, 2, 3, 4]}


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
    with pytest.raises(ModelshipError, match="is no golden set"):
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
