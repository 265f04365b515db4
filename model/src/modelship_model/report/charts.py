# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures as inline SVG: curves, the confusion matrix, and samples."""

from __future__ import annotations

import html
import math
import typing as t

Rows = list[dict[str, t.Any]]

_WIDTH, _HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 64, 24, 34


def curves_chart(rows: Rows, key: str, title: str, *, percent: bool = False) -> str:
    """Draw the curve of *key* in training and in test (``val_`` + key) over the epochs; empty where there is none.

    :param rows: as in ``curves.json``; rows with a ``phase`` (tuning) are shaded and drawn behind the training.
    """
    series = {
        "train": [(index, row[key]) for index, row in enumerate(rows, 1) if row.get(key) is not None],
        "test": [(index, row[f"val_{key}"]) for index, row in enumerate(rows, 1) if row.get(f"val_{key}") is not None],
    }
    values = [value for points in series.values() for _epoch, value in points]
    if not values:
        return ""
    low, high, ticks = _scale(min(values), max(values), top=1.0 if percent else None)
    last = max(2, len(rows))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = _LEFT + (point[0] - 1) / (last - 1) * (_WIDTH - _LEFT - _RIGHT)
        y = _TOP + (high - point[1]) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(y, 1)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">']
    parts += _phases(rows, place)
    for tick in ticks:
        _x, y = place((1, tick))
        text = f"{tick:.0%}" if percent and (high - low) >= 0.05 else f"{tick:.1%}" if percent else f"{tick:.3g}"
        parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4}" text-anchor="end">{text}</text>')
    for epoch in _epoch_ticks(len(rows)):
        x, _y = place((epoch, low))
        parts.append(f'<text x="{x}" y="{_HEIGHT - 14}" text-anchor="middle">{epoch}</text>')
    parts.append(f'<text x="{_WIDTH - _RIGHT + 8}" y="{_HEIGHT - 14}">epoch</text>')
    for name, points in series.items():
        for stretch in _stretches(points, rows):
            path = " ".join(f"{x},{y}" for x, y in map(place, stretch))
            parts.append(f'<polyline class="curve {name}" points="{path}"/>')
        if points:
            parts.append('<circle class="{}" cx="{}" cy="{}" r="3.5"/>'.format(name, *place(points[-1])))
    parts += _end_labels({name: place(points[-1]) for name, points in series.items() if points})
    return "".join([*parts, "</svg>"])


def _stretches(points: list[tuple[int, float]], rows: Rows) -> list[list[tuple[int, float]]]:
    """Cut a curve where the phase changes or values are missing: what lies on both sides is not one development."""
    stretches: list[list[tuple[int, float]]] = []
    for epoch, value in points:
        follows = stretches and stretches[-1][-1][0] == epoch - 1
        if follows and rows[epoch - 1].get("phase") == rows[epoch - 2].get("phase"):
            stretches[-1].append((epoch, value))
        else:
            stretches.append([(epoch, value)])
    return stretches


def _phases(rows: Rows, place: t.Callable[[tuple[float, float]], tuple[float, float]]) -> list[str]:
    """Shade the epochs of each tuning phase and name it."""
    parts = []
    start = 0
    while start < len(rows):
        phase, end = rows[start].get("phase"), start
        while end + 1 < len(rows) and rows[end + 1].get("phase") == phase:
            end += 1
        if phase:
            left = place((max(1, start + 0.5), 0))[0] if start else _LEFT
            right = min(place((end + 1.5, 0))[0], _WIDTH - _RIGHT)
            parts.append(
                f'<rect class="phase" x="{left}" y="{_TOP}" width="{right - left}" height="{_HEIGHT - _TOP - _BOTTOM}"/>'
            )
            middle = (left + right) / 2
            parts.append(f'<text x="{middle}" y="{_TOP - 8}" text-anchor="middle">{phase}</text>')
        start = end + 1
    return parts


def _end_labels(ends: dict[str, tuple[float, float]]) -> list[str]:
    """Name each curve at its end; two names that would touch are pushed apart."""
    ordered = sorted(ends.items(), key=lambda item: item[1][1])
    heights = [y for _name, (_x, y) in ordered]
    if len(heights) == 2 and heights[1] - heights[0] < 15:
        middle = sum(heights) / 2
        heights = [middle - 7.5, middle + 7.5]
    return [
        f'<text class="{name}" x="{x + 9}" y="{round(y + 4, 1)}">{name}</text>'
        for (name, (x, _y)), y in zip(ordered, heights, strict=True)
    ]


def _scale(low: float, high: float, top: float | None) -> tuple[float, float, list[float]]:
    """Return the axis' ends and about five round ticks between them."""
    if high - low < 1e-9:
        low, high = low - 0.5 * max(abs(low), 0.1), high + 0.5 * max(abs(high), 0.1)
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(index * step, 10) for index in range(start, end + 1)]
    if top is not None and ticks[-1] > top:
        ticks = [tick for tick in ticks if tick < top - step / 3] + [top]
    return ticks[0], ticks[-1], ticks


def _epoch_ticks(count: int) -> list[int]:
    if count <= 8:
        return list(range(1, count + 1))
    step = next(size for size in (2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**6) if count / size <= 8)
    ticks = [1, *range(step, count + 1, step)]
    return ticks if ticks[1] > 1 else ticks[1:]


def confusion_chart(matrix: list[list[int]], labels: list[str]) -> str:
    """Draw the confusion matrix: rows are what it is, columns what the model said; right answers and mistakes differ in hue.

    The strength of a mistake's colour is relative to the worst mistake, so that a few mistakes among many right answers show.
    """
    count = len(labels)
    longest = max(len(label) for label in labels)
    size = 44 if count <= 12 else max(14, 520 // count)
    left = 34 + min(110, 8 * min(longest, 12))
    width, height = left + count * size + 6, count * size + 58
    worst = max((matrix[i][j] for i in range(count) for j in range(count) if i != j), default=0)
    best = max((matrix[i][i] for i in range(count)), default=0)
    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="confusion matrix" style="max-width:{width * 1.25:.0f}px">'
    ]
    middle = 24 + count * size / 2
    parts.append(f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">it is</text>')
    parts.append(f'<text x="{left + count * size / 2}" y="{height - 4}" text-anchor="middle">the model says</text>')
    for i, row in enumerate(matrix):
        y = 6 + i * size
        parts.append(
            f'<text class="label" x="{left - 8}" y="{y + size / 2 + 4}" text-anchor="end">{_cut(labels[i])}</text>'
        )
        for j, value in enumerate(row):
            strength = _strength(value, best if i == j else worst)
            hue = "--right" if i == j else "--wrong"
            fill = f"rgba(var({hue}), {strength:.2f})" if value else "var(--faint)"
            told = f"{labels[i]} taken for {labels[j]}: {value}" if i != j else f"{labels[i]} recognised: {value}"
            x = left + j * size
            parts.append(
                f'<g><title>{html.escape(told)}</title><rect class="cell" x="{x}" y="{y}" width="{size}" height="{size}" '
                f'rx="5" style="fill:{fill}"/>'
            )
            if value and size >= 20:
                shade = " onfill" if strength > 0.55 else ""
                parts.append(f'<text class="count{shade}" x="{x + size / 2}" y="{y + size / 2 + 4}">{value}</text>')
            parts.append("</g>")
    for j, label in enumerate(labels):
        middle, below = left + j * size + size / 2, 6 + count * size + 18
        turned = f' transform="rotate(-35 {middle} {below})"' if longest > 3 else ""
        parts.append(f'<text class="label" x="{middle}" y="{below}" text-anchor="middle"{turned}>{_cut(label)}</text>')
    return "".join([*parts, "</svg>"])


def _strength(value: int, most: int) -> float:
    return 0.18 + 0.72 * value / most if most else 0.0


def _cut(label: str) -> str:
    return html.escape(label if len(label) <= 12 else label[:11] + "…")


def sample_picture(sample: t.Any, low: float, high: float) -> str:
    """Draw a sample of shape ``(height, width)`` or ``(height, width, 1 or 3)`` as SVG; empty for other samples.

    Runs of equal pixels in a row become one rectangle, of 17 shades of grey a channel: a few kilobytes a picture.
    """
    shape = sample.shape
    if len(shape) == 1 and math.isqrt(shape[0]) ** 2 == shape[0] and shape[0] >= 64:
        side = math.isqrt(shape[0])
        sample, shape = sample.reshape(side, side, 1), (side, side, 1)
    if len(shape) == 2 and min(shape) >= 8:
        sample, shape = sample[..., None], (*shape, 1)
    if len(shape) != 3 or shape[2] not in (1, 3) or shape[0] * shape[1] > 64 * 64:
        return ""
    rows, columns = shape[0], shape[1]
    span = (high - low) or 1.0
    parts = [f'<svg viewBox="0 0 {columns} {rows}" shape-rendering="crispEdges" aria-hidden="true">']
    for y in range(rows):
        colours = [_grey(sample[y, x], low, span) for x in range(columns)]
        start = 0
        for x in range(1, columns + 1):
            if x == columns or colours[x] != colours[start]:
                if colours[start] != "#000":
                    parts.append(f'<path fill="{colours[start]}" d="M{start} {y}h{x - start}v1h-{x - start}z"/>')
                start = x
    return "".join([*parts, "</svg>"])


def _grey(pixel: t.Any, low: float, span: float) -> str:
    levels = [min(15, max(0, round((float(value) - low) / span * 15))) for value in pixel]
    if len(levels) == 1:
        levels *= 3
    return "#" + "".join(f"{level:x}" for level in levels)
