# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the report together: one HTML file that loads nothing and runs no script."""

from __future__ import annotations

import html
import typing as t

from .charts import confusion_chart, curves_chart, sample_picture
from .style import CSS

FORMATS = {"keras": "Keras", "savedmodel": "SavedModel", "skops": "scikit-learn", "litert": "LiteRT", "onnx": "ONNX"}


class Mistake(t.NamedTuple):
    """A sample that was taken for another class: its values, the right class, the given one, how sure, its number."""

    sample: t.Any
    truth: int
    given: int
    sureness: float
    number: int


def render(
    manifest: dict[str, t.Any],
    digest: str,
    evaluation: dict[str, t.Any],
    curves: dict[str, t.Any],
    mistakes: list[Mistake],
) -> str:
    """Return the report's HTML.

    :param manifest: ``release.json``; :param digest: the release's digest; :param evaluation: as in docs/formats.md.
    :param curves: ``curves.json``; :param mistakes: the mistakes to show, the surest first.
    """
    labels = manifest["signature"]["labels"]
    name = html.escape(manifest["name"])
    span = "half" if len(labels) <= 16 else ""
    sections = [
        _curves(curves),
        _card(span, "Class by class", _class_hint(evaluation), _classes(evaluation)),
        _card(
            span,
            "What is taken for what",
            _confusion_hint(evaluation, labels),
            confusion_chart(evaluation["confusion"], labels),
        ),
        _mistakes(mistakes, labels, manifest, evaluation),
        _compression(manifest),
        _card("half" if "compression" in manifest else "", "Release", "", _facts(manifest, digest)),
    ]
    kind = FORMATS.get(manifest["model"]["format"], manifest["model"]["format"])
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name} · evaluation</title><style>{CSS}</style></head><body><main>"
        f'<header><h1>{name} <small style="font-weight:500;color:var(--soft)">{kind}</small></h1>'
        f'<div class="digest mono">{digest}</div></header>'
        f'{_tiles(manifest, evaluation)}<div class="grid">{"".join(sections)}</div>'
        "<footer>Written by modelship. This file is complete in itself: it loads nothing and runs no script.</footer>"
        "</main></body></html>\n"
    )


def size_text(size: float) -> str:
    """Return a size in bytes as people write it."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def _card(span: str, title: str, hint: str, body: str) -> str:
    note = f'<p class="hint">{hint}</p>' if hint else '<div style="height:10px"></div>'
    return f'<section class="card {span}"><h2>{title}</h2>{note}{body}</section>' if body else ""


def _tiles(manifest: dict[str, t.Any], evaluation: dict[str, t.Any]) -> str:
    wrong = round((1 - evaluation["accuracy"]) * evaluation["samples"])
    latency, compression = evaluation["latency_ms"], manifest.get("compression")
    tiles = [
        _tile("Accuracy", f"{evaluation['accuracy']:.2%}", f"{wrong} wrong of {evaluation['samples']} test samples"),
        _tile("Loss", f"{evaluation['loss']:.4f}", "mean cross-entropy"),
        _tile("Model", _unit(size_text(manifest["model"]["size"])), _size_note(compression)),
    ]
    if compression:
        tiles.append(_compression_tile(compression))
    note = f"median; 99 of 100 within {_milliseconds(latency['p99'])}"
    tiles.append(_tile("One answer", _unit(_milliseconds(latency["p50"])), note))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _compression_tile(compression: dict[str, t.Any]) -> str:
    if compression["accuracy_drop"] is None:
        agreement = f"{compression['agreement']:.2%}"
        return _tile("By compression", agreement, "of the classes kept; its samples had no labels")
    drop = compression["accuracy_drop"] * 100
    word = "points gained" if drop < 0 else "points lost"
    return _tile("By compression", f"{abs(drop):.2f}", f"{word}, from {compression['parent_accuracy']:.2%}")


def _tile(name: str, value: str, note: str) -> str:
    return f'<div class="tile"><div class="name">{name}</div><div class="value">{value}</div><div class="note">{note}</div></div>'


def _unit(text: str) -> str:
    value, unit = text.rsplit(" ", 1)
    return f"{value} <small>{unit}</small>"


def _milliseconds(value: float) -> str:
    return f"{value * 1000:.0f} µs" if value < 1 else f"{value:.1f} ms"


def _size_note(compression: dict[str, t.Any] | None) -> str:
    if not compression:
        return "on disk"
    return f"{compression['size_ratio']:.0%} of {size_text(compression['reference_size'])} uncompressed"


def _curves(curves: dict[str, t.Any]) -> str:
    rows = [*curves.get("epochs", []), *curves.get("tuning", [])]
    if not rows:
        return ""
    tuned = f" and {len(curves['tuning'])} of tuning" if curves.get("tuning") else ""
    hint = f"{len(curves.get('epochs', []))} epochs of training{tuned}"
    # A student's loss also measures how far it is from its teacher: another quantity, which has no place on this axis.
    plain = [{**row, "loss": None, "val_loss": None} if row.get("phase") == "distill" else row for row in rows]
    loss = _card("half", "Loss", hint, curves_chart(plain, "loss", "loss by epoch"))
    return loss + _card("half", "Accuracy", hint, curves_chart(rows, "accuracy", "accuracy by epoch", percent=True))


def _class_hint(evaluation: dict[str, t.Any]) -> str:
    weakest = min(evaluation["classes"], key=lambda row: row["f1"])
    return f"the weakest is <b>{html.escape(weakest['label'])}</b>, F1 {weakest['f1']:.1%}"


def _classes(evaluation: dict[str, t.Any]) -> str:
    head = "<tr><th>class</th><th>precision</th><th>recall</th><th>F1</th><th>samples</th></tr>"
    rows = []
    for row in evaluation["classes"]:
        low = ' class="low"' if row["f1"] < evaluation["accuracy"] - 0.02 else ""
        level = f'<span class="bar"><i{low} style="width:{row["f1"] * 100:.1f}%"></i></span>'
        rows.append(
            f"<tr><td><b>{html.escape(row['label'])}</b></td><td>{row['precision']:.1%}</td><td>{row['recall']:.1%}</td>"
            f"<td>{level}{row['f1']:.1%}</td><td>{row['support']}</td></tr>"
        )
    return f'<div class="scroll"><table>{head}{"".join(rows)}</table></div>'


def _confusion_hint(evaluation: dict[str, t.Any], labels: list[str]) -> str:
    matrix = evaluation["confusion"]
    pairs = [(matrix[i][j], i, j) for i in range(len(labels)) for j in range(len(labels)) if i != j and matrix[i][j]]
    if not pairs:
        return "no mistake at all"
    count, i, j = max(pairs, key=lambda pair: (pair[0], -pair[1], -pair[2]))
    times = "once" if count == 1 else f"{count} times"
    return f"most often <b>{html.escape(labels[i])}</b> is taken for <b>{html.escape(labels[j])}</b>: {times}"


def _mistakes(
    mistakes: list[Mistake], labels: list[str], manifest: dict[str, t.Any], evaluation: dict[str, t.Any]
) -> str:
    if not mistakes:
        return ""
    low, high = manifest["signature"]["inputs"][0].get("range") or _span(mistakes)
    figures = []
    for mistake in mistakes:
        picture = sample_picture(mistake.sample, float(low), float(high))
        if picture:
            figures.append(
                f"<figure>{picture}<figcaption>is <b>{html.escape(labels[mistake.truth])}</b>, said "
                f"<b>{html.escape(labels[mistake.given])}</b><br>{mistake.sureness:.0%} sure · #{mistake.number}"
                "</figcaption></figure>"
            )
    wrong = round((1 - evaluation["accuracy"]) * evaluation["samples"])
    shown = "all of them" if len(mistakes) == wrong else f"{len(mistakes)} of {wrong}"
    hint = f"{shown}, the surest first, with their number among the test samples"
    return _card("", "Mistakes", hint, f'<div class="samples">{"".join(figures)}</div>' if figures else "")


def _span(mistakes: list[Mistake]) -> tuple[float, float]:
    return min(float(item.sample.min()) for item in mistakes), max(float(item.sample.max()) for item in mistakes)


def _compression(manifest: dict[str, t.Any]) -> str:
    facts = manifest.get("compression")
    if not facts:
        return ""
    accuracy = "not measured: the samples had no labels"
    if facts["parent_accuracy"] is not None:
        accuracy = f"{facts['parent_accuracy']:.2%} before, {manifest['metrics']['accuracy']:.2%} after"
    rows = [
        ("methods", ", ".join(facts["methods"]) or "none: converted only"),
        *((f"{method} skipped", html.escape(reason)) for method, reason in facts.get("skipped", {}).items()),
        ("accuracy", accuracy),
        ("size", f"{size_text(facts['reference_size'])} before, {size_text(manifest['model']['size'])} after"),
        ("gzipped", f"{size_text(facts['reference_gzip_size'])} before, {size_text(facts['gzip_size'])} after"),
    ]
    if "sparsity" in facts:
        rows.append(("zero weights", f"{facts['sparsity']:.0%}"))
    options = {key: value for key, value in manifest["inputs"]["options"].items() if key != "methods"}
    rows += [(key.replace("_", " "), f"{value:g}") for key, value in options.items()]
    rows.append(("made from", f"<code>{manifest['inputs']['parent']}</code>"))
    return _card("half", "Compression", "", _list(rows))


def _facts(manifest: dict[str, t.Any], digest: str) -> str:
    given, answer = manifest["signature"]["inputs"][0], manifest["signature"]["outputs"][0]
    git, inputs = manifest.get("git") or {}, manifest["inputs"]
    rows = [("release", f"<code>{digest}</code>"), ("weights", f"<code>{manifest['model']['weights']}</code>")]
    rows.append(("input", f"<code>{_tensor(given)}</code>"))
    rows.append(("output", f"<code>{_tensor(answer)}</code>"))
    if git.get("commit"):
        rows.append(
            ("commit", f"<code>{git['commit'][:12]}</code>{' and changes not committed' if git['dirty'] else ''}")
        )
    if manifest["parameters"]:
        rows.append(("parameters", _pairs(manifest["parameters"])))
    rows.append(("made with", _pairs(inputs["environment"])))
    rows.append(("data", f"<code>{inputs['data']}</code>"))
    return _list(rows)


def _tensor(tensor: dict[str, t.Any]) -> str:
    sizes = " \u00d7 ".join("n" if size == -1 else str(size) for size in tensor["shape"])
    ends = tensor.get("range")
    span = f", {ends[0]:g} to {ends[1]:g}" if ends else ""
    return html.escape(f"{tensor['name']}: {tensor['dtype']} {sizes}{span}")


def _pairs(values: dict[str, t.Any]) -> str:
    return ", ".join(f"{html.escape(str(key))}&nbsp;{html.escape(str(value))}" for key, value in sorted(values.items()))


def _list(rows: list[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows) + "</dl>"
