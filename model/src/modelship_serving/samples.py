# SPDX-License-Identifier: GPL-3.0-or-later
"""Inputs that work, for the page, the documentation and the examples in it."""

from __future__ import annotations

import typing as t

import numpy as np

from .golden import golden_inputs
from .images import dark_background, from_pixels, picture_of
from .tensors import Array, Field

Sample = dict[str, t.Any]


def golden_samples(context: t.Any, most: int, numbers: int) -> list[Sample]:
    """Return up to *most* of the release's golden samples as ``{input: nested lists}``, of *numbers* numbers altogether.

    None where callers must say who they are: the pages are open, and the samples are somebody's data.
    """
    if context.settings.guarded:
        return []
    model = context.models.default
    inputs = golden_inputs(model.release)
    columns = [inputs[field.name] for field in model.fields if field.name in inputs and inputs[field.name].ndim]
    if len(columns) < len(model.fields):
        return []
    size = sum(field.size for field in model.fields)
    count = min(most, numbers // size, *(len(column) for column in columns))
    return [
        {field.name: column[i].tolist() for field, column in zip(model.fields, columns, strict=True)}
        for i in range(count)
    ]


def example(context: t.Any) -> Sample:
    """Return one sample as ``{input: nested lists}``: a golden one, else one made up that the signature allows."""
    model = context.models.default
    golden = golden_samples(context, 1, sum(field.size for field in model.fields))
    return golden[0] if golden else {field.name: made_up(field, model).tolist() for field in model.fields}


def made_up(field: Field, model: t.Any) -> Array:
    """Return an array of the field's shape: a bar on a plain background for a picture, the middle of the range, or 0."""
    picture = picture_of(field)
    if picture is not None and len(model.fields) == 1:
        ink, paper = (255, 0) if dark_background(model) else (0, 255)
        pixels = np.full((picture.height, picture.width, picture.channels), paper, np.uint8)
        rows, columns = picture.height // 7, picture.width * 13 // 28
        pixels[rows : picture.height - rows, columns : picture.width - columns] = ink
        return t.cast(Array, from_pixels(pixels, picture, field)[0])
    low, high = field.range or (0, 0)
    middle = (low + high) / 2
    return np.full(field.shape, middle if field.dtype.kind == "f" else int(middle), field.dtype)
