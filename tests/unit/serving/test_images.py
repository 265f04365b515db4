"""Pictures to the model's input: sizes, modes, orientation, ranges, limits, and which models take any."""

from __future__ import annotations

import io
import json
import struct
import types
import zlib
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="the serving runtime's dependencies are not installed here")
pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")
Image = pytest.importorskip("PIL.Image", reason="the serving runtime's dependencies are not installed here")

from modelship_serving import images
from modelship_serving.errors import RequestError
from modelship_serving.images import dark_background, decode_image, encode_png, picture_of, to_pixels
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
    assert caught.value.status == 422


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
        model_path=str(tmp_path / "model" / "model.onnx"),
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


GOOD = stored(Image.fromarray(noise(30, 30)))


@pytest.mark.parametrize(
    ("data", "status", "message"),
    [
        (b"", 415, "neither a PNG nor a JPEG"),
        (b"hello", 415, "neither a PNG nor a JPEG"),
        (stored(Image.new("RGB", (8, 8)), "GIF"), 415, "neither a PNG nor a JPEG"),
        (stored(Image.new("RGB", (8, 8)), "BMP"), 415, "neither a PNG nor a JPEG"),
        (GOOD[: len(GOOD) // 2], 422, "damaged or not complete"),
        (GOOD[:40] + bytes(40) + GOOD[80:], 422, "damaged or not complete"),
        (bomb(100_000, 100_000), 413, "100000x100000 pixels, at most 16000000"),
        (bomb(4001, 4000), 413, "scale the picture down"),
        (bomb(3000, 3000), 422, "damaged or not complete"),
    ],
)
def test_what_is_no_picture_is_refused(data: bytes, status: int, message: str):
    with pytest.raises(RequestError, match=message) as caught:
        decode_image(data, field())
    assert caught.value.status == status


def test_every_cut_and_every_flipped_byte_is_an_answer_or_a_refusal():
    data = stored(Image.fromarray(noise(12, 12)), "JPEG")
    statuses = set()
    for end in range(0, len(data), 7):
        for bad in (data[:end], data[:end] + bytes([data[end] ^ 0xFF]) + data[end + 1 :]):
            try:
                assert np.isfinite(decode_image(bad, field())).all()
            except RequestError as error:
                statuses.add(error.status)
    assert statuses <= {413, 415, 422}


def test_a_large_jpeg_is_decoded_small(monkeypatch: pytest.MonkeyPatch):
    sizes = []
    fit = images._fit

    def seen(image: Any, picture: Any) -> Any:
        sizes.append(image.size)
        return fit(image, picture)

    monkeypatch.setattr(images, "_fit", seen)
    decode_image(stored(Image.new("RGB", (4000, 3000), "white"), "JPEG"), field())
    assert max(sizes[0]) <= 1000


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 4)])
def test_encoding_keeps_every_pixel(shape: tuple[int, ...]):
    pixels = noise(*shape)
    with Image.open(io.BytesIO(encode_png(pixels))) as image:
        assert image.format == "PNG"
        assert (np.asarray(image) == pixels).all()
