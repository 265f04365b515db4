# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures in and out: PNG and JPEG to the model's input, arrays to PNG. Pillow is imported with the first picture."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import json
import math
import os
import typing as t
import urllib.parse

import numpy as np

from .errors import RequestError
from .tensors import Array, Field

if t.TYPE_CHECKING:
    from PIL.Image import Image

#: Media types that are read; what the bytes are is decided by the bytes.
MEDIA_TYPES = ("image/png", "image/jpeg")
#: A picture with more pixels than this is refused before it is decoded: it would need 4 bytes of memory for each.
MAX_PIXELS = 16_000_000
#: Decoding one with more pixels than this (about 5 ms) would hold up other requests, so a thread does it.
_INLINE_PIXELS = 250_000
INVERT = ("auto", "true", "false")
#: One thread (it starts when first needed), so that only one large picture is in memory at a time.
_decoder = concurrent.futures.ThreadPoolExecutor(1, "pictures")


class Picture(t.NamedTuple):
    """How an input of the signature holds a picture.

    :param planes: the channels are the first axis, not the last.
    :param low: the value of black; :param high: that of white.
    """

    height: int
    width: int
    channels: int
    planes: bool
    low: float
    high: float


def picture_of(field: Field) -> Picture | None:
    """Return how *field* holds a picture, ``None`` where it does not.

    Taken for one: HxWx1, x3 or x4, 1xHxW or 3xHxW, or, when the input is called image, pixels or picture, HxW and
    a flat square. The values of black and white must be known: by the range, or by being uint8.
    """
    if field.range is not None:
        low, high = field.range
    elif field.dtype == np.uint8:
        low, high = 0, 255
    else:
        return None
    if high <= low or field.dtype.kind == "b":
        return None
    named = any(word in field.name.lower() for word in ("image", "pixel", "picture"))
    shape = field.shape
    side = math.isqrt(field.size)
    if len(shape) == 3 and shape[2] in (1, 3, 4) and min(shape[:2]) > 1:
        height, width, channels, planes = *shape, False
    elif len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) > 1:
        channels, height, width, planes = *shape, True
    elif named and len(shape) == 2 and min(shape) > 1:
        height, width, channels, planes = *shape, 1, False
    elif named and len(shape) == 1 and side > 1 and side * side == field.size:
        height, width, channels, planes = side, side, 1, False
    else:
        return None
    return Picture(height, width, channels, planes, low, high)


def decode_image(data: bytes, field: Field, invert: str = "auto", dark: bool | None = None) -> Array:
    """Decode a PNG or JPEG to an array of shape ``(1, *field.shape)`` with values in the field's range.

    Transparent parts are put on white, EXIF's orientation is followed, channels become those of the field. A picture of the
    field's size is taken as it is; any other is scaled, antialiased, to fit in whole, and what is left free at the sides
    takes the colour of the picture's border.

    :param invert: ``true``, ``false``, or ``auto``: black and white change places when the model was trained on a
        dark background (*dark*) and the border of this picture is bright, as that of ink on paper is.
    :param dark: ``None``: so it is for one channel whose range begins at 0.
    :raises RequestError: 415, no PNG or JPEG; 422, damaged, or not for this model; 413, more than MAX_PIXELS.
    """
    return _convert(_open(data), _picture(field), field, invert, dark)


async def image_inputs(data: bytes, query: str, model: t.Any) -> list[Array]:
    """Decode the body of a request that is a picture, for a model with one input; *query* may have ``invert``.

    :raises RequestError: as :func:`decode_image`; 422, the model takes no pictures; 400, another *invert*.
    """
    if len(model.fields) != 1:
        raise RequestError(422, f"body: this model takes {len(model.fields)} inputs, not one picture: send JSON")
    field = model.fields[0]
    picture = _picture(field)
    invert = one_of(query, "invert", INVERT)
    image = _open(data)
    arguments = (image, picture, field, invert, dark_background(model))
    if image.width * image.height <= _INLINE_PIXELS:
        return [_convert(*arguments)]
    return [await asyncio.get_running_loop().run_in_executor(_decoder, _convert, *arguments)]


def one_of(query: str, name: str, choices: t.Sequence[str]) -> str:
    """Return the last *name* of a query string, or the first of *choices* where there is none.

    :raises RequestError: 400, none of *choices*.
    """
    value = dict(urllib.parse.parse_qsl(query, keep_blank_values=True)).get(name, choices[0])
    if value not in choices:
        raise RequestError(400, f"query: {name}='{value[:40]}' must be one of {', '.join(choices)}")
    return value


def encode_png(array: Array) -> bytes:
    """Encode a uint8 array of shape HxW (grey), HxWx3 (RGB) or HxWx4 (RGBA) as PNG."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def to_pixels(array: Array, picture: Picture) -> Array:
    """Return one sample, shape ``field.shape``, as uint8 pixels HxWxC: what the model sees."""
    values = (
        array.reshape(picture.channels, picture.height, picture.width).transpose(1, 2, 0) if picture.planes else array
    )
    values = values.reshape(picture.height, picture.width, picture.channels).astype(np.float64)
    scaled = np.rint((values - picture.low) * (255 / (picture.high - picture.low)))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def from_pixels(pixels: Array, picture: Picture, field: Field) -> Array:
    """Return pixels from 0 to 255, HxWxC, as a batch of one in the field's shape, dtype and range."""
    if picture.planes:
        pixels = pixels.transpose(2, 0, 1)
    values = picture.low + pixels.astype(np.float64) * ((picture.high - picture.low) / 255)
    if field.dtype.kind != "f":
        values = np.rint(values)
    return np.ascontiguousarray(values.astype(field.dtype).reshape(1, *field.shape))


_dark: dict[str, bool] = {}


def dark_background(model: t.Any) -> bool:
    """Whether the model was trained on grey pictures with a dark background, as MNIST is.

    Judged by the border of the golden samples; where the release has none, one channel whose range begins at 0 counts.
    """
    release = model.release
    if release.digest not in _dark:
        picture = picture_of(model.fields[0])
        _dark[release.digest] = picture is not None and picture.channels == 1 and _golden_dark(release, picture)
    return _dark[release.digest]


def golden_inputs(release: t.Any) -> dict[str, list[t.Any]]:
    """Return the inputs of the release's golden samples by name; none where it has no golden set."""
    try:
        with open(os.path.join(os.path.dirname(os.path.dirname(release.model_path)), "golden.json"), "rb") as stream:
            inputs = json.load(stream)["inputs"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return inputs if type(inputs) is dict else {}


def _golden_dark(release: t.Any, picture: Picture) -> bool:
    samples = golden_inputs(release).get(release.signature.inputs[0].name)
    if not samples:
        return picture.low == 0
    images = np.asarray(samples, np.float64).reshape(-1, picture.height, picture.width)
    level = (np.median([np.median(_border(image)) for image in images]) - picture.low) / (picture.high - picture.low)
    return bool(level < 0.25)


def _border(image: Array) -> Array:
    """The outermost pixels of an image HxW or HxWxC: shape (N,) or (N, C)."""
    return np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])


def _picture(field: Field) -> Picture:
    picture = picture_of(field)
    if picture is None:
        raise RequestError(422, f"body: '{field.name}' is no picture but {field.describe()}: send JSON")
    return picture


def _open(data: bytes) -> Image:
    """Read the header of a picture and check its size; the pixels are not decoded yet."""
    from PIL import Image

    # Checked here, and more strictly than Pillow's own limit, which warns on stderr before it refuses.
    Image.MAX_IMAGE_PIXELS = None
    if not data.startswith((b"\x89PNG\r\n", b"\xff\xd8\xff")):
        raise RequestError(415, "body: neither a PNG nor a JPEG picture")
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    except Exception:  # noqa: BLE001 - damaged pictures make Pillow raise errors of many types
        raise RequestError(422, _DAMAGED) from None
    if image.width * image.height > MAX_PIXELS:
        raise RequestError(
            413, f"body: {image.width}x{image.height} pixels, at most {MAX_PIXELS} are accepted: scale the picture down"
        )
    return image


_DAMAGED = "body: the picture is damaged or not complete: save it again as PNG or JPEG"


def _convert(image: Image, picture: Picture, field: Field, invert: str, dark: bool | None) -> Array:
    try:
        pixels = _pixels(image, picture)
    except Exception:  # noqa: BLE001 - as in _open
        raise RequestError(422, _DAMAGED) from None
    if dark is None:
        dark = picture.channels == 1 and picture.low == 0
    if invert == "true" or (invert == "auto" and dark and np.median(_border(pixels)) > 127):
        pixels = 255 - pixels
    return from_pixels(pixels, picture, field)


def _pixels(image: Image, picture: Picture) -> Array:
    """Return the picture as uint8 of the field's height, width and channels."""
    from PIL import Image, ImageOps

    # A JPEG is decoded at a fraction of its size (never below twice what is needed): far less memory and time.
    image.draft(None, (2 * max(picture.width, picture.height),) * 2)
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # 16 bits a channel
        wide = np.asarray(image, np.float64)
        image = Image.fromarray(np.rint(np.clip(wide, 0, 65535) / 257).astype(np.uint8))
    if picture.channels == 4:
        image = image.convert("RGBA")
    else:
        if image.has_transparency_data:
            paper = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(paper, image.convert("RGBA"))
        image = image.convert("L" if picture.channels == 1 else "RGB")
    if image.size != (picture.width, picture.height):
        image = _fit(image, picture)
    return np.asarray(image, np.uint8).reshape(picture.height, picture.width, picture.channels)


def _fit(image: Image, picture: Picture) -> Image:
    from PIL import Image

    scale = min(picture.width / image.width, picture.height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    colour = tuple(int(level) for level in np.median(_border(pixels), axis=0))
    small = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
    whole = Image.new(image.mode, (picture.width, picture.height), colour if len(colour) > 1 else colour[0])
    whole.paste(small, ((picture.width - size[0]) // 2, (picture.height - size[1]) // 2))
    return whole
