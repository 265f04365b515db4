"""Releases as results, differences of inputs, and the words for people."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.diff import Difference
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._model import release, report

HEX = "5b" * 32
MANIFEST = {
    "name": "digits",
    "kind": "train",
    "model": {"format": "keras", "size": 1234567},
    "metrics": {"accuracy": 0.98611, "loss": 0.0431},
    "parameters": {"epochs": 8},
    "inputs": {"digest": "sha256:00"},
    "git": None,
}


def inputs(**changes: t.Any) -> dict[str, t.Any]:
    return {
        "digest": "sha256:whatever",
        "code": "sha256:" + "a" * 64,
        "parameters": {"epochs": 8, "batch_size": 64},
        "environment": {"keras": "3.15.1"},
        "parent": None,
        **changes,
    }


def test_a_release_is_described_by_its_folder_and_manifest(tmp_path: Path) -> None:
    folder = tmp_path / HEX
    folder.mkdir()
    (folder / "release.json").write_text(json.dumps(MANIFEST))
    described = release.describe(f"{folder}/", release.read_manifest(str(folder)))
    assert described["digest"] == f"sha256:{HEX}"
    assert (described["format"], described["size"], described["compression"]) == ("keras", 1234567, None)
    assert described.keys() == release.predicted("train").keys()
    assert report.summary(described) == f"digits sha256:{HEX[:12]}, keras, 1.2 MB, accuracy 0.9861, loss 0.0431"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"name": "x"}'])
def test_what_is_no_release_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "release.json").write_text(content)
    with pytest.raises(ModelshipError) as caught:
        release.read_manifest(str(tmp_path))
    assert caught.value.kind == "release"
    assert str(tmp_path) in caught.value.message


def test_inputs_are_compared_name_by_name() -> None:
    difference = Difference("release digits")
    new = inputs(code="sha256:" + "b" * 64, parameters={"epochs": 9, "batch_size": 64, "seed": 1}, parent="sha256:1")
    words = release.compare_inputs(inputs(), new, difference)
    assert words == [
        "code",
        "parameters.epochs (8 -> 9)",
        "parameters.seed (none -> 1)",
        'parent (none -> "sha256:1")',
    ]
    assert difference.names == ["code", "parameters.epochs", "parameters.seed", "parent"]


def test_equal_inputs_differ_in_nothing_and_first_ones_in_all() -> None:
    same = Difference("release")
    assert release.compare_inputs(inputs(), inputs(digest="other"), same) == []
    assert not same
    first = Difference("release")
    assert release.compare_inputs(None, inputs(), first) == []
    assert first.as_result()["before"] == ""
    assert json.loads(first.as_result()["after"])["environment.keras"] == "3.15.1"


def test_results_are_compared_with_the_latest_release_and_unknown_ones_say_so() -> None:
    old = release.describe(f"/r/{HEX}", MANIFEST)
    new = {**old, "digest": "sha256:new", "metrics": {"accuracy": 0.99, "loss": 0.0431}}
    acted = Difference("release")
    release.compare_results(old, new, acted)
    assert acted.names == ["digest", "metrics.accuracy"]
    foreseen = Difference("release")
    release.compare_results(old, None, foreseen)
    after = json.loads(foreseen.as_result()["after"])
    assert after == dict.fromkeys(("digest", "size", "metrics"), release.UNKNOWN)


def test_an_epoch_reads_as_one_line() -> None:
    event = {"epoch": 3, "epochs": 8, "loss": 0.08123, "accuracy": 0.97531, "val_accuracy": 0.97, "eta_s": 12.4}
    assert report.epoch_text(event) == "epoch 3/8  loss 0.0812  accuracy 0.9753  val 0.9700  12 s left"
    assert report.epoch_text({"epoch": 1, "epochs": 2, "loss": 1, "accuracy": None}) == "epoch 1/2  loss 1.0000"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (99.4, "99 s"), (100, "2 min"), (3600, "60 min"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(999, "999 B"), (1000, "1.0 kB"), (233512, "233.5 kB"), (3e9, "3.0 GB")])
def test_sizes(size: float, text: str) -> None:
    assert report.size_text(size) == text


def test_epochs_are_live_stages_are_steps_and_a_resumed_run_says_so_once(tmp_path: Path) -> None:
    reporter = report.Reporter(Progress(str(tmp_path / "progress")))
    reporter({"event": "stage", "message": "loading the data"})
    for epoch in (4, 5):
        reporter({"event": "epoch", "epoch": epoch, "epochs": 5, "resumed": True})
    reporter({"event": "something new"})
    events = [json.loads(line) for line in (tmp_path / "progress").read_text().splitlines()]
    assert [(event["live"], event["text"]) for event in events] == [
        (False, "loading the data"),
        (False, "continuing at epoch 4 from the last checkpoint"),
        (True, "epoch 4/5"),
        (True, "epoch 5/5"),
    ]
