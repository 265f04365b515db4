"""The report: complete in itself, well-formed, and true to the numbers."""

from __future__ import annotations

import re
import typing as t
import xml.etree.ElementTree as ElementTree

import pytest

np = pytest.importorskip("numpy")

from modelship_model.metrics import evaluate_answers
from modelship_model.report import charts
from modelship_model.report.page import Mistake, render, size_text

CURVES: dict[str, t.Any] = {
    "epochs": [
        {"epoch": 1, "loss": 1.5, "accuracy": 0.5, "val_loss": 1.2, "val_accuracy": 0.6},
        {"epoch": 2, "loss": 0.5, "accuracy": 0.9, "val_loss": None, "val_accuracy": None},
    ],
    "tuning": [{"phase": "prune", "epoch": 1, "loss": 0.4, "accuracy": 0.95, "val_loss": 0.3, "val_accuracy": 0.97}],
}


def manifest(**more: t.Any) -> dict[str, t.Any]:
    return {
        "name": "tiny",
        "kind": "compress",
        "inputs": {
            "environment": {"python": "3.11"},
            "data": "sha256:d",
            "parent": "sha256:p",
            "options": {"methods": ["prune"], "sparsity": 0.5},
        },
        "git": {"commit": "c" * 40, "dirty": True},
        "parameters": {"epochs": 2},
        "metrics": {"accuracy": 0.75, "loss": 0.4, "samples": 4},
        "signature": {
            "inputs": [{"name": "image", "dtype": "float32", "shape": [-1, 8, 8, 1], "range": [0, 255]}],
            "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [-1, 2]}],
            "labels": ["<no>", "yes & no"],
        },
        "model": {"format": "litert", "size": 12345, "weights": "sha256:w"},
        "compression": {
            "methods": ["prune"],
            "parent_accuracy": 0.75,
            "accuracy_drop": 0.0,
            "reference_size": 50000,
            "size_ratio": 0.2469,
            "gzip_size": 9000,
            "reference_gzip_size": 40000,
            "sparsity": 0.5,
        },
        **more,
    }


def page(**more: t.Any) -> str:
    answers = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], dtype=np.float32)
    document = manifest(**more)
    evaluation = {
        **evaluate_answers(answers, np.array([0, 1, 1, 1]), document["signature"]["labels"]),
        "latency_ms": {"p50": 0.02, "p99": 1.5},
    }
    sample = np.zeros((8, 8, 1), dtype=np.float32)
    sample[2:4, 2:6] = 255
    return render(document, "sha256:" + "e" * 64, evaluation, CURVES, [Mistake(sample, 1, 0, 0.6, 2)])


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    text = page()
    assert not re.search(r"(src|href)=|url\(|@import|<script|<link|https?://", text)


def test_the_page_is_well_formed_and_escapes_labels() -> None:
    text = page()
    assert "<no>" not in text
    assert "&lt;no&gt;" in text
    body = re.sub(r"<!doctype html>|<meta[^>]*>", "", text).replace("<br>", "<br/>").replace("&nbsp;", " ")
    root = ElementTree.fromstring(body)  # noqa: S314 - our own text
    assert len(root.findall(".//svg")) == 4  # loss, accuracy, confusion matrix, one mistake


@pytest.mark.parametrize(
    "words", ["75.00%", "1 wrong of 4", "20 µs", "1.5 ms", "12.3 kB", "25% of 50.0 kB", "60% sure"]
)
def test_the_numbers_are_in_the_page(words: str) -> None:
    assert words in re.sub(r"<[^>]+>", "", page())


def test_a_release_without_compression_curves_or_pictures_has_a_page_too() -> None:
    document = manifest()
    del document["compression"]
    evaluation = {
        **evaluate_answers(np.array([[0.9, 0.1]], dtype=np.float32), np.array([0]), ["a", "b"]),
        "latency_ms": {"p50": 1.0, "p99": 2.0},
    }
    text = render(document, "sha256:e", evaluation, {"epochs": []}, [])
    assert "no mistake at all" in text
    assert "Compression" not in text
    assert "Mistakes" not in text


def test_curves_break_where_values_are_missing_and_phases_change() -> None:
    rows = [*CURVES["epochs"], *CURVES["tuning"]]
    picture = charts.curves_chart(rows, "loss", "loss")
    assert picture.count('<polyline class="curve train"') == 2
    assert picture.count('<polyline class="curve test"') == 2
    assert ">prune</text>" in picture
    assert charts.curves_chart([{"epoch": 1, "loss": None}], "loss", "loss") == ""


def test_the_matrix_has_a_cell_a_pair_with_its_meaning() -> None:
    picture = charts.confusion_chart([[5, 1], [0, 7]], ["a", "b"])
    assert picture.count('<rect class="cell"') == 4
    assert "a taken for b: 1" in picture
    assert "b recognised: 7" in picture


def test_pictures_join_equal_pixels() -> None:
    sample = np.zeros((4, 4, 1))
    sample[1] = 255
    assert charts.sample_picture(sample, 0, 255).count("<path") == 1
    assert charts.sample_picture(np.zeros(784), 0, 255).startswith('<svg viewBox="0 0 28 28"')
    assert charts.sample_picture(np.zeros(5), 0, 255) == ""


@pytest.mark.parametrize(
    ("size", "text"), [(999, "999 B"), (12_345, "12.3 kB"), (342_384, "342 kB"), (1_331_724, "1.3 MB")]
)
def test_sizes_are_written_as_people_do(size: int, text: str) -> None:
    assert size_text(size) == text


def test_the_page_tells_what_was_skipped_and_that_accuracy_was_not_measured() -> None:
    compression = {
        **manifest()["compression"],
        "methods": [],
        "parent_accuracy": None,
        "accuracy_drop": None,
        "agreement": 0.875,
        "skipped": {"quantize": "no <weights>"},
    }
    text = page(compression=compression, metrics={"samples": 4})
    assert "quantize skipped" in text
    assert "no &lt;weights&gt;" in text
    assert "87.50%" in text
    assert "not measured: the samples had no labels" in text


@pytest.mark.parametrize(
    ("shape", "drawn"), [((8, 8), True), ((8, 8, 1), True), ((8, 8, 3), True), ((8, 2), False), ((8,), False)]
)
def test_samples_that_are_images_are_drawn(shape: tuple[int, ...], drawn: bool) -> None:
    assert bool(charts.sample_picture(np.ones(shape, dtype=np.float32), 0.0, 1.0)) == drawn
