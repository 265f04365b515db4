# SPDX-License-Identifier: GPL-3.0-or-later
"""Pictures in and out: PNG and JPEG to the model's input, arrays to PNG. Pillow is imported with the first picture."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import math
import typing as t
import urllib.parse
from collections.abc import Callable

import numpy as np

from .errors import InvalidInputError, RequestError
from .golden import golden_inputs
from .parts import needed
from .tensors import Array, Field

if t.TYPE_CHECKING:
    from PIL.Image import Image

#: Media types that are read; what the bytes are is decided by the bytes.
MEDIA_TYPES = ("image/png", "image/jpeg")
#: A picture with more pixels than this is refused before it is decoded: that takes 4 bytes of memory for each, and 8 for
#: those of some progressive JPEGs.
MAX_PIXELS = 16_000_000
#: So wide or high a picture may be; more is no picture, and its border alone would be a large one.
_MAX_SIDE = 65_535
#: Decoding one with more pixels, bytes or parts than this (about 5 ms) would hold up other requests, so a thread does it.
_INLINE_PIXELS, _INLINE_BYTES, _INLINE_PARTS = 250_000, 65_536, 32
INVERT = ("auto", "true", "false")
#: One thread (it starts when first needed), and whose turn it is, so that only one large picture is in memory at a time.
_decoder = concurrent.futures.ThreadPoolExecutor(1, "pictures")
_turn = asyncio.Lock()
#: EXIF's orientation, and what brings a picture in it upright (:class:`PIL.Image.Transpose`); from the fifth on the sides
#: change places.
_ORIENTATION = 0x0112
_UPRIGHT = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
#: So much of a large picture is converted at a time.
_PIECE_PIXELS = 250_000
#: Pillow's modes by their channels.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


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


async def image_inputs(data: bytes, query: str, model: t.Any) -> list[Array]:
    """Decode the body of a request that is a picture, for a model with one input; *query* may have ``invert``.

    The array is of shape ``(1, *field.shape)`` with values in the field's range. Transparent parts are put on white, EXIF's
    orientation is followed, channels become those of the field. A picture of the field's size is taken as it is; any other
    is scaled, antialiased, to fit in whole, and what is left free at the sides takes the colour of the picture's border.
    With ``invert=auto`` black and white change places when the model was trained on a dark background and the border of
    this picture is bright, as that of ink on paper is.

    :raises RequestError: 415, not a PNG or JPEG; 413, more than MAX_PIXELS; 400, damaged, not for this model, or another
        *invert*; 503, too many wait to be decoded.
    """
    if len(model.fields) != 1:
        raise InvalidInputError(f"body: this model takes {len(model.fields)} inputs, not one picture: send JSON")
    field = model.fields[0]
    how = (picture_in(field), field, one_of(query, "invert", INVERT), dark_background(model))
    if len(data) <= _INLINE_BYTES:
        image, parts = _open(data)
        if image.width * image.height <= _INLINE_PIXELS and parts <= _INLINE_PARTS:
            return [_convert(image, *how)]
    with model.budget.hold(len(data)):
        return [await _in_turn(lambda: decode(data, *how))]


def decode(data: bytes, picture: Picture, field: Field, invert: str, dark: bool) -> Array:
    """Decode a picture; see :func:`image_inputs`."""
    image, _parts = _open(data)
    return _convert(image, picture, field, invert, dark)


async def _in_turn(work: Callable[[], Array]) -> Array:
    """Have the thread do *work* once all that came before is done: it has no queue, where what nobody waits for would stay."""
    await _turn.acquire()
    job = asyncio.get_running_loop().run_in_executor(_decoder, work)
    job.add_done_callback(lambda _job: _turn.release())
    return await asyncio.shield(job)


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


def _golden_dark(release: t.Any, picture: Picture) -> bool:
    samples = golden_inputs(release).get(release.signature.inputs[0].name)
    if samples is None or not len(samples):
        return picture.low == 0
    images = np.asarray(samples, np.float64).reshape(-1, picture.height, picture.width)
    level = (np.median([np.median(_border(image)) for image in images]) - picture.low) / (picture.high - picture.low)
    return bool(level < 0.25)


def _border(image: Array) -> Array:
    """The outermost pixels of an image HxW or HxWxC: shape (N,) or (N, C)."""
    return np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])


def picture_in(field: Field) -> Picture:
    """Return how *field* holds a picture.

    :raises InvalidInputError: it does not.
    """
    picture = picture_of(field)
    if picture is None:
        raise InvalidInputError(f"body: '{field.name}' is no picture but {field.describe()}: send JSON")
    return picture


def _open(data: bytes) -> tuple[Image, int]:
    """Read the header of a picture and check its size; the pixels are not decoded yet. Also return the file's parts."""
    from PIL import Image

    # Checked here, and more strictly than Pillow's own limit, which warns on stderr before it refuses.
    Image.MAX_IMAGE_PIXELS = None
    data, parts = needed(data)
    try:
        image = Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    except Exception:  # noqa: BLE001 - damaged pictures make Pillow raise errors of many types
        raise InvalidInputError(_DAMAGED) from None
    if image.width * image.height > MAX_PIXELS or max(image.size) > _MAX_SIDE:
        raise RequestError(
            413, f"body: {image.width}x{image.height} pixels, at most {MAX_PIXELS} are accepted: scale the picture down"
        )
    return image, parts


_DAMAGED = "body: the picture is damaged or not complete: save it again as PNG or JPEG"


def _convert(image: Image, picture: Picture, field: Field, invert: str, dark: bool) -> Array:
    try:
        pixels = _pixels(image, picture)
    except Exception:  # noqa: BLE001 - as in _open
        raise InvalidInputError(_DAMAGED) from None
    if invert == "true" or (invert == "auto" and dark and np.median(_border(pixels)) > 127):
        pixels = 255 - pixels
    return from_pixels(pixels, picture, field)


def _pixels(image: Image, picture: Picture) -> Array:
    """Return the picture as uint8 of the field's height, width and channels."""
    from PIL import Image

    # A JPEG is decoded at a fraction of its size (never below twice what is needed): far less memory and time.
    image.draft(None, (2 * max(picture.width, picture.height),) * 2)
    image.load()
    orientation = image.getexif().get(_ORIENTATION, 1)
    upright = _UPRIGHT.get(orientation)
    sides = (picture.width, picture.height)
    wanted = sides[::-1] if upright is not None and orientation > 4 else sides
    scale = min(length / have for length, have in zip(wanted, image.size, strict=True))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = _scaled(image, size, picture.channels)
    if upright is not None:
        small = small.transpose(Image.Transpose(upright))
    if small.size != sides:
        small = _placed(small, sides, _edge_colour(image, picture.channels))
    return np.asarray(small, np.uint8).reshape(picture.height, picture.width, picture.channels)


def _scaled(image: Image, size: tuple[int, int], channels: int) -> Image:
    """Convert and scale a picture, a piece of it at a time: converted as a whole it would take memory three times over."""
    from PIL import Image

    width, height = image.size
    # As Image.resize does it with a reducing_gap of 3: pixels are put together first, and the rest is interpolated.
    across, down = (max(1, int(have / length / 3)) for have, length in zip(image.size, size, strict=True))

    def reduced(left: int, top: int, right: int, bottom: int) -> Image.Image:
        return _plain(image.crop((left, top, right, bottom)), channels).reduce((across, down))

    if width * height <= _PIECE_PIXELS:
        whole = reduced(0, 0, width, height)
    else:
        columns = max(1, min(width, _PIECE_PIXELS // down) // across) * across
        rows = max(1, _PIECE_PIXELS // columns // down) * down
        whole = Image.new(_MODES[channels], (math.ceil(width / across), math.ceil(height / down)))
        for top in range(0, height, rows):
            for left in range(0, width, columns):
                piece = reduced(left, top, min(width, left + columns), min(height, top + rows))
                whole.paste(piece, (left // across, top // down))
    if image.size == size:
        return whole
    return whole.resize(size, Image.Resampling.BICUBIC, (0, 0, width / across, height / down))


def _plain(image: Image, channels: int) -> Image:
    """Convert a picture to 8 bits a channel and to *channels* of them; what is transparent is put on white."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 bits a channel
        wide = np.asarray(image, np.float64)
        image = Image.fromarray(np.rint(np.clip(wide, 0, 65535) / 257).astype(np.uint8))
    if channels != 4 and image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image.convert("RGBA"))
    return image.convert(_MODES[channels])


def _edge_colour(image: Image, channels: int) -> tuple[int, ...]:
    """Return the colour of the picture's border: the median, by channel."""
    width, height = image.size
    edges = [(0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)]
    lines = [np.asarray(_plain(image.crop(edge), channels)).reshape(-1, channels) for edge in edges]
    return tuple(int(level) for level in np.median(np.concatenate(lines), axis=0))


def _placed(small: Image, size: tuple[int, int], colour: tuple[int, ...]) -> Image:
    """Put a picture into the middle of one of *size* and *colour*."""
    from PIL import Image

    whole = Image.new(small.mode, size, colour if len(colour) > 1 else colour[0])
    whole.paste(small, ((size[0] - small.width) // 2, (size[1] - small.height) // 2))
    return whole
