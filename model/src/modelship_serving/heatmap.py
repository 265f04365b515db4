# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of an explanation: the heat map over the input, and a legend."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .images import encode_png
from .tensors import Array

#: Pixels: the longer side of the picture, the margin around it, the room for the legend.
_SIDE, _MARGIN, _LEGEND = 448, 16, 96
_PAPER, _INK, _FAINT = (250, 250, 248), (30, 34, 40), (104, 110, 118)
#: Colours of what speaks for the class and what speaks against it; told apart by colour-blind people too.
_FOR, _AGAINST = np.array([230, 97, 1], np.float32), np.array([44, 105, 201], np.float32)


def render(pixels: Array, grid: Array, label: str, score: float, method: str) -> bytes:
    """Return the PNG.

    :param pixels: the input, uint8 HxWxC.
    :param grid: one value for each cell of the picture, positive where it speaks for the class.
    :param label: the class; :param score: its score; :param method: how it was explained.
    """
    scale = _SIDE / max(pixels.shape[:2])
    width, height = (max(1, round(length * scale)) for length in (pixels.shape[1], pixels.shape[0]))
    base = _base(pixels, (width, height))
    most = float(np.abs(grid).max())
    # Enlarged smoothly: the grid is coarser than the picture.
    heat = Image.fromarray((grid / (most or 1)).astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    level = np.clip(np.asarray(heat), -1, 1)[..., None]  # float32 throughout: half the memory
    weight = 0.85 * np.abs(level) ** 0.8
    blended = base * (1 - weight) + np.where(level > 0, _FOR, _AGAINST) * weight
    sheet = Image.new("RGB", (max(width, 320) + 2 * _MARGIN, height + 2 * _MARGIN + _LEGEND), _PAPER)
    sheet.paste(Image.fromarray(blended.astype(np.uint8)), ((sheet.width - width) // 2, _MARGIN))
    _legend(sheet, height + 2 * _MARGIN, most, _plain(label), score, method)
    return encode_png(np.asarray(sheet))


def _base(pixels: Array, size: tuple[int, int]) -> Array:
    """The input in grey, with less contrast so that the colours stand out: float HxWx3."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("L")
    sharp = max(image.size) * 4 <= _SIDE  # of a tiny picture the pixels themselves are to be seen
    image = image.resize(size, Image.Resampling.NEAREST if sharp else Image.Resampling.BICUBIC)
    grey = 40 + np.asarray(image, np.float32) * np.float32(190 / 255)
    return np.repeat(grey[..., None], 3, axis=2)


def _plain(text: str) -> str:
    """What the built-in font can write, and not too much of it."""
    return text.encode("latin-1", "replace").decode("latin-1")[:24]


def _legend(sheet: Image.Image, top: int, most: float, label: str, score: float, method: str) -> None:
    left, right = _MARGIN, sheet.width - _MARGIN
    _write(sheet, (left, top), f"{label}: {score:.3f}", _INK, 2)
    _write(sheet, (right, top + 5), method, _FAINT, 1.5, "right")
    levels = np.linspace(-1, 1, right - left)[:, None]
    weight = np.abs(levels) ** 0.8
    ramp = (np.array([225.0, 225, 222]) * (1 - weight) + np.where(levels > 0, _FOR, _AGAINST) * weight).astype(np.uint8)
    sheet.paste(Image.fromarray(np.repeat(ramp[None], 14, axis=0)), (left, top + 40))
    for text, place, align in (
        (f"-{most:.3g} against", left, "left"),
        ("0", sheet.width // 2, "centre"),
        (f"for +{most:.3g}", right, "right"),
    ):
        _write(sheet, (place, top + 62), text, _INK, 1.5, align)


def _write(
    sheet: Image.Image,
    place: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
    scale: float,
    align: str = "left",
) -> None:
    """Write with Pillow's built-in bitmap font (FreeType is not in the image), enlarged."""
    font = ImageFont.load_default_imagefont()
    box = font.getbbox(text)
    mask = Image.new("L", (max(1, int(box[2])), max(1, int(box[3]))))
    ImageDraw.Draw(mask).text((0, 0), text, 255, font)
    mask = mask.resize((round(mask.width * scale), round(mask.height * scale)), Image.Resampling.BICUBIC)
    shift = {"left": 0, "centre": mask.width // 2, "right": mask.width}[align]
    sheet.paste(colour, (place[0] - shift, place[1]), mask)
