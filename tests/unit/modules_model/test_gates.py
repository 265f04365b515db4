"""Gates: which limits count, and what they say of a value."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._model import gates
from ansible_collections.modelship.core.plugins.module_utils._model.compress import measured, skipped


def verdict(name: str, limit: float, value: t.Any) -> str:
    (judged,) = gates.judge({name: limit}, {name: value})
    return str(judged["verdict"])


@pytest.mark.parametrize(
    ("name", "limit", "value", "expected"),
    [
        ("accuracy", 0.97, 0.97, "passed"),
        ("accuracy", 0.97, 0.9699, "failed"),
        ("accuracy", 0.3, 0.1 + 0.2, "passed"),
        ("accuracy_drop", 0.3, 0.1 + 0.2, "passed"),
        ("accuracy_drop", 0.005, 0.006, "failed"),
        ("accuracy_drop", 0.0, -0.01, "passed"),
        ("size_ratio", 0.35, 0.36, "failed"),
        ("size_bytes", 5000, 5000, "passed"),
        ("size_bytes", 5000, 5001, "failed"),
        ("accuracy", 0.97, float("nan"), "failed"),
        ("accuracy_drop", 0.97, float("nan"), "failed"),
        ("accuracy", 0.97, None, "failed"),
        ("size_ratio", 0.35, gates.NOT_APPLICABLE, "not applicable"),
    ],
)
def test_verdicts(name: str, limit: float, value: t.Any, expected: str) -> None:
    assert verdict(name, limit, value) == expected


def test_a_gate_that_another_module_measures_is_left_to_it() -> None:
    assert gates.judge({"latency_p99_ms": 5, "accuracy": 0.5}, {"accuracy": 0.6}) == [
        {"gate": "accuracy", "direction": "at least", "limit": 0.5, "value": 0.6, "verdict": "passed"}
    ]


def test_overrides_replace_add_and_take_away_by_name() -> None:
    declared = {"accuracy": 0.97, "size_ratio": 0.35}
    assert gates.limits(declared, {"accuracy": "0.5", "size_bytes": "100", "size_ratio": None}) == {
        "accuracy": 0.5,
        "size_bytes": 100,
    }
    assert gates.limits(declared, None) == declared


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"acuracy": 0.9}, "did you mean accuracy?"),
        ({"zzz": 1}, "known are accuracy, accuracy_drop"),
        ({"accuracy": 97}, "'97' is not a number from 0 to 1"),
        ({"accuracy": "high"}, "'high' is not a number from 0 to 1"),
        ({"size_ratio": -1}, "'-1' is not a number of 0 or more"),
        ({"size_bytes": True}, "'True' is not a number"),
        ({"size_bytes": "nan"}, "'nan' is not a number"),
        ({"size_bytes": "inf"}, "'inf' is not a number"),
        ({"accuracy_drop": [1]}, "is not a number"),
    ],
)
def test_bad_gates_are_named(overrides: dict[str, t.Any], words: str) -> None:
    with pytest.raises(ModelshipError) as caught:
        gates.limits({}, overrides)
    assert caught.value.kind == "gate_name"
    assert words in caught.value.message


def test_a_failure_says_it_in_one_line_and_in_a_table() -> None:
    judged = gates.judge({"accuracy": 0.97, "size_bytes": 5000000}, {"accuracy": 0.9412345678, "size_bytes": 123456})
    with pytest.raises(ModelshipError) as caught:
        gates.enforce(judged, "release sha256:00", changed=True)
    error = caught.value
    first, *rest = error.message.splitlines()
    assert "accuracy is 0.941235 and must be at least 0.97" in first
    assert (
        rest
        == error.details["table"]
        == [
            "gate        limit            value     verdict",
            "accuracy    at least 0.97    0.941235  failed",
            "size_bytes  at most 5000000  123456    passed",
        ]
    )
    assert (error.kind, error.details["gates"], error.details["changed"]) == ("gate", judged, True)


def test_passing_gates_raise_nothing() -> None:
    gates.enforce(gates.judge({"accuracy": 0.5}, {"accuracy": 0.6}), "release")
    gates.enforce([], "release")


def test_only_a_compressed_release_can_have_lost_accuracy() -> None:
    assert measured({"compression": None, "size": 5}) == {
        "accuracy_drop": "not applicable",
        "size_ratio": "not applicable",
        "size_bytes": 5,
    }
    compression = {"accuracy_drop": None, "size_ratio": 0.3}
    assert measured({"compression": compression, "size": 5})["accuracy_drop"] is None


def test_a_gate_on_accuracy_without_labels_fails_and_says_what_it_takes() -> None:
    judged = gates.judge({"accuracy_drop": 0.01}, {"accuracy_drop": None})
    with pytest.raises(ModelshipError, match=r"accuracy_drop was not measured \(that takes samples with labels\)"):
        gates.enforce(judged, "release sha256:00")


def test_what_was_skipped_is_one_line_for_each_method() -> None:
    assert skipped({"compression": None}) == []
    assert skipped({"compression": {"methods": ["quantize"]}}) == []
    found = skipped({"compression": {"methods": [], "skipped": {"quantize": "the model has no weights"}}})
    assert found == ["quantize was skipped: the model has no weights"]
