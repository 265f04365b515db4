"""Pictures to the model's input: sizes, modes, orientation, ranges, limits, and which models take any."""

from __future__ import annotations

import asyncio
import io
import json
import os
import struct
import threading
import types
import zlib
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="the serving runtime's dependencies are not installed here")
pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")
Image = pytest.importorskip("PIL.Image", reason="the serving runtime's dependencies are not installed here")

from modelship_serving import images
from modelship_serving.budget import Budget
from modelship_serving.errors import RequestError
from modelship_serving.images import dark_background, encode_png, picture_of, to_pixels
from modelship_serving.release import TensorSpec
from modelship_serving.tensors import Field


def field(
    shape: tuple[int, ...] = (28, 28, 1),
    limits: tuple[float, float] | None = (0, 255),
    dtype: str = "float32",
    name: str = "image",
) -> Field:
    return Field(TensorSpec(name, dtype, (-1, *shape), limits))


def stored(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decode_image(data: bytes, field: Field, invert: str = "auto", dark: bool | None = None) -> Any:
    picture = images.picture_in(field)
    if dark is None:
        dark = picture.channels == 1 and picture.low == 0
    return images.decode(data, picture, field, invert, dark)


def noise(*shape: int) -> Any:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "name", "expected"),
    [
        ((28, 28, 1), "x", (28, 28, 1, False)),
        ((32, 24, 3), "x", (32, 24, 3, False)),
        ((3, 32, 24), "x", (32, 24, 3, True)),
        ((1, 8, 8), "x", (8, 8, 1, True)),
        ((28, 28), "image", (28, 28, 1, False)),
        ((784,), "pixels", (28, 28, 1, False)),
        ((28, 28), "series", None),
        ((784,), "features", None),
        ((783,), "image", None),
        ((28, 28, 5), "image", None),
        ((), "image", None),
        ((1,), "image", None),
    ],
)
def test_which_inputs_are_pictures(shape: tuple[int, ...], name: str, expected: tuple[int, int, int, bool] | None):
    found = picture_of(field(shape, name=name))
    assert (found and found[:4]) == expected


def test_without_known_black_and_white_it_is_no_picture():
    assert picture_of(field(limits=None)) is None
    assert picture_of(field(limits=None, dtype="uint8")) == (28, 28, 1, False, 0, 255)
    with pytest.raises(RequestError, match="'image' is no picture but 28x28x1 float32") as caught:
        decode_image(stored(Image.new("L", (28, 28))), field(limits=None))
    assert caught.value.status == 400


def test_a_picture_of_the_size_comes_through_unchanged():
    pixels = noise(28, 28)
    array = decode_image(stored(Image.fromarray(pixels)), field(), "false")
    assert (array.shape, array.dtype) == ((1, 28, 28, 1), np.float32)
    assert (array[0, :, :, 0] == pixels).all()
    assert (to_pixels(array[0], picture_of(field()))[..., 0] == pixels).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_channels_first_and_last_hold_the_same(dtype: str):
    pixels = noise(5, 7, 3)
    data = stored(Image.fromarray(pixels))
    last, first = field((5, 7, 3), dtype=dtype), field((3, 5, 7), dtype=dtype)
    assert (decode_image(data, last)[0] == pixels).all()
    assert (decode_image(data, first)[0] == pixels.transpose(2, 0, 1)).all()
    assert (to_pixels(decode_image(data, first)[0], picture_of(first)) == pixels).all()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 16), (-128, 127)])
def test_values_are_those_of_the_range(low: float, high: float):
    pixels = np.array([[0, 51], [204, 255]], np.uint8)
    array = decode_image(stored(Image.fromarray(pixels)), field((2, 2, 1), (low, high)), "false")
    assert array.reshape(-1).tolist() == pytest.approx(
        [low + share * (high - low) for share in (0, 0.2, 0.8, 1)], abs=1e-5
    )
    Field(TensorSpec("image", "float32", (-1, 2, 2, 1), (low, high))).array(array.reshape(-1).tolist())  # is in range


MODES = {"PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"], "JPEG": ["1", "L", "RGB", "CMYK", "YCbCr"]}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in MODES.items() for mode in modes])
def test_any_mode_is_read(kind: str, mode: str):
    image = Image.new("RGB", (40, 40), "white").convert(mode) if mode != "I;16" else Image.new(mode, (40, 40), 65535)
    for shape in ((9, 9, 1), (9, 9, 3), (9, 9, 4)):
        assert decode_image(stored(image, kind), field(shape), "false").min() >= 254


def test_what_is_transparent_is_white():
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.putpixel((3, 4), (0, 0, 0, 255))
    array = decode_image(stored(image), field((8, 8, 1)), "false")[0, :, :, 0]
    assert (array[4, 3], array.sum()) == (0, 255 * 63)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_held_sideways_makes_no_difference(orientation: int):
    upright = Image.fromarray(np.kron(np.array([[0, 80], [160, 255]], np.uint8), np.ones((16, 16), np.uint8)))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpositions that bring the picture into that orientation
    turned = upright if orientation == 1 else upright.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    array = decode_image(stored(turned, "JPEG", exif=exif, quality=95), field((32, 32, 1)), "false")[0, :, :, 0]
    corners = [array[4, 4], array[4, 27], array[27, 4], array[27, 27]]
    assert corners == pytest.approx([0, 80, 160, 255], abs=6)


def test_scaling_is_antialiased_and_keeps_proportions():
    lines = np.zeros((400, 200), np.uint8)
    lines[::2] = 255
    array = decode_image(stored(Image.fromarray(lines)), field(), "false")[0, :, :, 0]
    # 400 high become 28, 200 wide 14: seven columns are left free at each side
    middle = array[2:-2, 8:20]
    assert middle.min() > 100
    assert middle.max() < 155


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(700, 900), (1501, 333), (333, 1501)])
def test_a_picture_in_pieces_is_as_one_in_one_piece(
    monkeypatch: pytest.MonkeyPatch, channels: int, size: tuple[int, int]
):
    data, some = stored(Image.fromarray(noise(*size, 4))), field((9, 11, channels))
    monkeypatch.setattr(images, "_PIECE_PIXELS", size[0] * size[1])
    whole = decode_image(data, some)
    for pixels in (100_000, 5000, 1):
        monkeypatch.setattr(images, "_PIECE_PIXELS", pixels)
        assert (decode_image(data, some) == whole).all()


def test_what_is_left_free_takes_the_colour_of_the_border():
    wide = Image.new("RGB", (60, 20), (200, 10, 30))
    array = decode_image(stored(wide), field((12, 12, 3)))[0]
    assert np.abs(array - [200, 10, 30]).max() <= 1


@pytest.mark.parametrize(("invert", "changed"), [("auto", True), ("true", True), ("false", False)])
def test_dark_ink_on_paper_is_inverted(invert: str, changed: bool):
    paper = np.full((28, 28), 255, np.uint8)
    paper[10:20, 12:16] = 0
    array = decode_image(stored(Image.fromarray(paper)), field(), invert)[0, :, :, 0]
    assert (array == (255 - paper if changed else paper)).all()
    dark = 255 - paper
    assert (decode_image(stored(Image.fromarray(dark)), field())[0, :, :, 0] == dark).all()
    assert (decode_image(stored(Image.fromarray(paper)), field(), dark=False)[0, :, :, 0] == paper).all()


@pytest.mark.parametrize(("border", "dark"), [(0, True), (20, True), (250, False), (128, False), (None, True)])
def test_the_background_is_judged_by_the_golden_samples(tmp_path: Path, border: int | None, dark: bool):
    if border is not None:
        image = np.full((6, 6, 1), 100)
        image[[0, -1]] = image[:, [0, -1]] = border
        (tmp_path / "golden.json").write_text(json.dumps({"inputs": {"image": [image.tolist()]}}))
    spec = TensorSpec("image", "float32", (-1, 6, 6, 1), (0, 255))
    release = types.SimpleNamespace(
        digest=f"sha256:{border}",
        folder=str(tmp_path),
        signature=types.SimpleNamespace(inputs=(spec,)),
    )
    assert dark_background(types.SimpleNamespace(release=release, fields=[Field(spec)])) is dark


def bomb(width: int, height: int) -> bytes:
    """A small PNG that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def scans(count: int, side: int = 40) -> bytes:
    """A progressive JPEG whose last scan comes again and again, with a whole JPEG among its metadata."""
    data = stored(Image.new("L", (side, side), 200), "JPEG", progressive=True)
    inner = stored(Image.new("L", (8, 8)), "JPEG", progressive=True)
    last, note = data.rindex(b"\xff\xda"), b"\xff\xfe" + (len(inner) + 2).to_bytes(2, "big") + inner
    return data[:2] + note + data[2:last] + data[last:-2] * count + data[-2:]


GOOD = stored(Image.fromarray(noise(30, 30)))


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"", 415, "neither a PNG nor a JPEG"),
        (b"hello", 415, "neither a PNG nor a JPEG"),
        (stored(Image.new("RGB", (8, 8)), "GIF"), 415, "neither a PNG nor a JPEG"),
        (stored(Image.new("RGB", (8, 8)), "BMP"), 415, "neither a PNG nor a JPEG"),
        (GOOD[: len(GOOD) // 2], 400, "damaged or not complete"),
        (GOOD[:40] + bytes(40) + GOOD[80:], 400, "damaged or not complete"),
        (bomb(100_000, 100_000), 413, "100000x100000 pixels, at most 16000000"),
        (bomb(4001, 4000), 413, "scale the picture down"),
        (bomb(3000, 3000), 400, "damaged or not complete"),
        (bomb(100_000, 1), 413, "100000x1 pixels"),
        (scans(10_000), 400, "more than 64 scans: save it again"),
        (scans(1)[:2] + b"\xff\xfe\0\2" * 1_000_000 + scans(1)[2:], 400, "more than 4096 parts"),
        (scans(1)[:3] + b"\xff" * 1_000_000 + scans(1)[3:], 400, "more than 4096 parts"),
        (GOOD[:33] + (bytes(4) + b"tEXt" + bytes(4)) * 100_000 + GOOD[33:], 400, "more than 4096 parts"),
        (GOOD[:-12] + (bytes(4) + b"IDAT" + bytes(4)) * 100_000 + GOOD[-12:], 400, "more than 4096 parts"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, status: int, message: str):
    with pytest.raises(RequestError, match=message) as caught:
        decode_image(data, field())
    assert caught.value.status == status


def test_scans_of_a_usual_number_are_read_and_those_of_a_thumbnail_are_none():
    usual = decode_image(scans(1), field(), "false")
    assert (decode_image(scans(50), field(), "false") == usual).all()


def test_texts_in_a_png_are_not_even_looked_at():
    """Unpacked they take as much time and memory as their sender likes."""
    text = b"note\0\0" + zlib.compress(bytes(1_000_000))
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    image, parts = images._open(GOOD[:33] + chunk * 60 + GOOD[33:])
    assert parts == 63
    assert "note" not in image.info
    assert (decode_image(GOOD[:33] + chunk * 60 + GOOD[33:], field()) == decode_image(GOOD, field())).all()


@pytest.mark.parametrize("size", [(4000, 4000), (64_000, 250), (250, 64_000)])
@pytest.mark.parametrize("mode", ["I;16", "RGBA", "P"])
def test_the_largest_picture_takes_4_bytes_of_memory_for_each_pixel(mode: str, size: tuple[int, int]):
    image = Image.new(mode, size)
    data = stored(image, **({"transparency": 0} if mode == "P" else {}), compress_level=1)
    del image
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not os.access(clear, os.W_OK):
        pytest.skip("NOT TESTED, the peak of this process's memory cannot be reset")

    def peak() -> int:
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])

    clear.write_text("5")
    before = peak()
    assert decode_image(data, field(), "false").shape == (1, 28, 28, 1)
    assert (peak() - before) / 1024 < 100


class Turns:
    """A model that takes pictures, and a decoder that waits for its cue."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
        self.refused: list[str] = []
        self.budget = Budget(most, self.refused.append)
        self.fields = [field()]
        self.release = types.SimpleNamespace(digest="turns", folder="/nothing", signature=None)
        self.gate = threading.Event()
        self.threads: list[int] = []
        convert = images._convert

        def waiting(*arguments: Any) -> Any:
            self.threads.append(threading.get_ident())
            assert threading.get_ident() == threading.main_thread().ident or self.gate.wait(20)
            return convert(*arguments)

        monkeypatch.setattr(images, "_convert", waiting)
        monkeypatch.setattr(images, "_turn", asyncio.Lock())
        monkeypatch.setitem(images._dark, "turns", True)

    async def ask(self, data: bytes) -> Any:
        (array,) = await images.image_inputs(data, "invert=false", self)
        return array


@pytest.mark.parametrize(
    ("data", "inline"),
    [
        (GOOD, True),
        (stored(Image.new("L", (600, 600))), False),
        (stored(Image.fromarray(noise(300, 300))), False),  # 90 KB
        (scans(50), False),
    ],
)
def test_only_what_is_done_at_once_is_done_in_the_loop(monkeypatch: pytest.MonkeyPatch, data: bytes, inline: bool):
    turns = Turns(monkeypatch, 1 << 20)
    turns.gate.set()
    assert asyncio.run(turns.ask(data)).shape == (1, 28, 28, 1)
    assert (turns.threads == [threading.get_ident()]) is inline
    assert turns.budget.held == 0


def test_pictures_wait_in_turn_and_only_so_many(monkeypatch: pytest.MonkeyPatch):
    data = stored(Image.new("L", (600, 600)))
    turns = Turns(monkeypatch, 4 * len(data))

    async def scene() -> None:
        first, second, third, fourth = (asyncio.create_task(turns.ask(data)) for _ in range(4))
        await asyncio.sleep(0.05)
        with pytest.raises(RequestError) as caught:
            await turns.ask(data)
        assert (caught.value.status, turns.refused) == (503, ["queue_full"])
        third.cancel()  # its client left before its turn
        first.cancel()  # and this one's while it was being decoded
        await asyncio.sleep(0.05)
        assert turns.budget.held == 2 * len(data)
        turns.gate.set()
        assert (await second).shape == (await fourth).shape == (1, 28, 28, 1)
        assert turns.budget.held == 0
        assert len(turns.threads) == 3, "one was never decoded"

    asyncio.run(asyncio.wait_for(scene(), 20))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_every_cut_and_every_flipped_byte_is_an_answer_or_a_refusal(kind: str):
    data = stored(Image.fromarray(noise(12, 12)), kind)
    statuses = set()
    for end in range(0, len(data), 7 if kind == "JPEG" else 1):
        for bad in (data[:end], data[:end] + bytes([data[end] ^ 0xFF]) + data[end + 1 :]):
            try:
                assert np.isfinite(decode_image(bad, field())).all()
            except RequestError as error:
                statuses.add(error.status)
    assert statuses <= {400, 413, 415}


def test_a_large_jpeg_is_decoded_small(monkeypatch: pytest.MonkeyPatch):
    sizes = []
    scaled = images._scaled

    def seen(image: Any, *more: Any) -> Any:
        sizes.append(image.size)
        return scaled(image, *more)

    monkeypatch.setattr(images, "_scaled", seen)
    decode_image(stored(Image.new("RGB", (4000, 3000), "white"), "JPEG"), field())
    assert max(sizes[0]) <= 1000


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 4)])
def test_encoding_keeps_every_pixel(shape: tuple[int, ...]):
    pixels = noise(*shape)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert image.format == "PNG"
        assert (np.asarray(image) == pixels).all()
