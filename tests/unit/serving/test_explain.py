"""Explanations of a model whose answer is known by formula, and the picture made of them."""

from __future__ import annotations

import asyncio
import io
import json
import types
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="the serving runtime's dependencies are not installed here")
pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")
Image = pytest.importorskip("PIL.Image", reason="the serving runtime's dependencies are not installed here")

from modelship_serving import explain
from modelship_serving.errors import RequestError
from modelship_serving.heatmap import render
from modelship_serving.http import Request
from modelship_serving.release import Signature, TensorSpec
from modelship_serving.tensors import Field

SIDE = 12
#: The class "corner" is the mean of the upper left quarter, "other" is what is missing to 1.
QUARTER = np.zeros((SIDE, SIDE))
QUARTER[: SIDE // 2, : SIDE // 2] = 1 / (SIDE // 2) ** 2 / 255


class Corner:
    """A model of pictures, in any layout; counts what it is asked."""

    seconds = 1e-4

    def __init__(
        self, shape: tuple[int, ...] = (SIDE, SIDE, 1), labels: tuple[str, ...] | None = ("corner", "other")
    ) -> None:
        signature = Signature(
            (TensorSpec("image", "float32", (-1, *shape), (0, 255)),),
            (TensorSpec("probabilities", "float32", (-1, 2)),),
            labels,
        )
        self.release = types.SimpleNamespace(signature=signature, digest="sha256:" + "0" * 64, folder="/none")
        self.fields = [Field(signature.inputs[0])]
        self.asked = 0
        self.observed = 0
        self.gate: asyncio.Event | None = None

    def gives_probabilities(self, _output: int) -> bool:
        return True

    async def infer(
        self, inputs: list[Any], count: int, _deadline: Any = None, _id: str = "", quiet: bool = False
    ) -> list[Any]:
        if self.gate is not None:
            await self.gate.wait()
        self.asked += count
        self.observed += not quiet
        channels = self.fields[0].size // SIDE**2
        first = self.fields[0].shape[0] == channels and channels > 1
        pixels = (
            inputs[0].reshape(count, channels, SIDE, SIDE)
            if first
            else inputs[0].reshape(count, SIDE, SIDE, channels).transpose(0, 3, 1, 2)
        )
        share = (pixels.mean(axis=1) * QUARTER).sum(axis=(1, 2))
        return [np.stack([share, 1 - share], axis=1).astype(np.float32)]


def ask(model: Any, query: str = "", body: Any = None, **headers: str) -> Any:
    picture = np.zeros(model.fields[0].shape)
    view = picture.reshape(SIDE, SIDE, -1) if picture.shape[0] == SIDE else picture.transpose(1, 2, 0)
    view[2:10, 2:10] = 255
    body = json.dumps({"image": picture.tolist()}).encode() if body is None else body
    request = Request("POST", "/explain", query, {"accept": "application/json", **headers}, body)
    return asyncio.run(explainer(model).answer(request))


def explainer(model: Any) -> explain.Explainer:
    models = types.SimpleNamespace(default=model, get=lambda _version=None: model)
    return explain.Explainer(
        types.SimpleNamespace(models=models, settings=types.SimpleNamespace(max_body_bytes=1 << 20))
    )


SHAPES = [(SIDE, SIDE, 1), (SIDE, SIDE, 3), (3, SIDE, SIDE), (SIDE, SIDE)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", explain.METHODS)
def test_the_right_places_are_found(shape: tuple[int, ...], method: str):
    model = Corner(shape)
    found = json.loads(ask(model, f"class=corner&method={method}").body)
    assert (found["method"], found["result"], found["label"], found["baseline"]) == (method, 0, "corner", 0)
    grid = np.array(found["grid"])
    rows, columns = grid.shape
    inside = grid[: rows // 2, : columns // 2]
    assert inside.max() > 0
    # Only the bright part of the upper left quarter speaks for the class; the patch reaches a little beyond.
    assert np.abs(grid[rows * 2 // 3 :]).max() == 0
    assert np.abs(grid[:, columns * 2 // 3 :]).max() == 0
    assert found["runs"] == model.asked
    assert model.observed == 0


def test_integrated_gradients_add_up_to_the_rise():
    found = json.loads(ask(Corner(), "method=integrated-gradients&class=corner").body)
    assert np.sum(found["grid"]) == pytest.approx(found["score"] - found["baseline"], abs=1e-4)
    against = json.loads(ask(Corner(), "method=integrated-gradients&class=other").body)
    assert np.array(against["grid"]) == pytest.approx(-np.array(found["grid"]), abs=1e-4)


def test_occlusion_is_the_mean_fall_under_the_patches():
    found = json.loads(ask(Corner(), "class=corner").body)
    # patch 2, stride 1: each pixel lies under four patches, each of which takes up to four bright pixels away
    assert found["grid"][3][3] == pytest.approx(4 / 36, abs=1e-5)
    assert found["grid"][0][0] == 0


def test_the_found_class_is_explained_unless_another_is_asked_for():
    assert json.loads(ask(Corner()).body)["label"] == "other"
    assert json.loads(ask(Corner(), "class=corner").body)["label"] == "corner"


def test_a_slow_model_is_asked_less():
    model = Corner()
    model.seconds = 0.05
    ask(model, "method=integrated-gradients")
    slow, model.asked, model.seconds = model.asked, 0, 1e-4
    ask(model, "method=integrated-gradients")
    assert slow <= 105 < model.asked


def test_the_answer_is_a_picture_unless_json_is_asked_for():
    response = ask(Corner(), accept="*/*")
    assert response.content_type == "image/png"
    with Image.open(io.BytesIO(response.body)) as image:
        assert image.format == "PNG"
        assert image.width >= 320


def test_a_picture_can_be_sent():
    stream = io.BytesIO()
    Image.new("L", (SIDE, SIDE), 9).save(stream, "PNG")
    answer = ask(Corner(), body=stream.getvalue(), **{"content-type": "image/png"})
    assert json.loads(answer.body)["score"] == pytest.approx(1 - 9 / 255, abs=1e-4)


SAMPLE = json.dumps([0] * SIDE**2)


@pytest.mark.parametrize(
    ("query", "body", "headers", "status", "message"),
    [
        ("method=magic", None, {}, 400, "method='magic' must be one of occlusion, integrated-gradients"),
        ("class=nobody", None, {}, 400, "class='nobody' must be one of corner, other"),
        ("", b"{", {}, 400, "not JSON"),
        ("", f'{{"instances":[{SAMPLE},{SAMPLE}]}}'.encode(), {}, 400, "one sample at a time"),
        ("", b'{"image":[1]}', {}, 400, "image: "),
        ("", b"x", {"content-type": "text/plain"}, 415, "expected application/json"),
        ("", b"x", {"content-type": "image/png"}, 415, "neither a PNG"),
    ],
)
def test_bad_requests_are_named(query: str, body: bytes | None, headers: dict[str, str], status: int, message: str):
    with pytest.raises(RequestError, match=message) as caught:
        ask(Corner(), query, body, **headers)
    assert caught.value.status == status


def test_only_classifiers_of_pictures_can_be_explained():
    model = Corner()
    model.fields = [Field(TensorSpec("features", "float32", (-1, 4)))]
    assert "not an image" in explain.explainable(model)
    model.fields *= 2
    assert "2 inputs" in explain.explainable(model)
    regression = Corner()
    regression.release.signature = Signature(
        regression.release.signature.inputs, (TensorSpec("y", "float32", (-1, 1)),)
    )
    assert "not a classifier" in explain.explainable(regression)
    assert "not a classifier" in explain.explainable(Corner(labels=None)), (
        "a row of numbers alone is not scores of classes"
    )
    assert "has no labels" in explain.explainable(Corner(labels=None))
    assert "no output has a score for each of its 3 labels" in explain.explainable(Corner(labels=("a", "b", "c")))
    with pytest.raises(RequestError, match="not a classifier"):
        ask(Corner(labels=None))
    assert explain.explainable(Corner()) == ""


def test_one_at_a_time():
    async def main() -> None:
        model = Corner()
        model.gate = asyncio.Event()
        busy = explainer(model)
        body = f'{{"image":{SAMPLE}}}'.encode()
        first = asyncio.create_task(
            busy.answer(Request("POST", "/explain", headers={"accept": "application/json"}, body=body))
        )
        await asyncio.sleep(0.01)
        with pytest.raises(RequestError, match="busy") as caught:
            await busy.answer(Request("POST", "/explain", body=body))
        assert (caught.value.status, caught.value.header) == (503, ("retry-after", "1"))
        model.gate.set()
        assert (await first).status == 200
        assert (await busy.answer(Request("POST", "/explain", body=body))).status == 200

    asyncio.run(main())


def test_the_heat_map_shows_both_signs_where_they_are():
    grid = np.zeros((4, 4))
    grid[0, 0], grid[3, 3] = 2.0, -2.0
    with Image.open(io.BytesIO(render(np.zeros((28, 28, 1), np.uint8), grid, "7", 0.5, "occlusion"))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    red, _green, blue = pixels[16 + 20, 16 + 20]
    assert red > blue + 80
    red, _green, blue = pixels[16 + 428, 16 + 428]
    assert blue > red + 80
    red, _green, blue = pixels[16 + 20, 16 + 428]
    assert abs(red - blue) < 5


@pytest.mark.parametrize("label", ["7", "Ω ночь", "x" * 200, ""])
@pytest.mark.parametrize("shape", [(28, 28, 1), (300, 40, 3), (2, 500, 4)])
def test_any_label_and_size_can_be_drawn(label: str, shape: tuple[int, ...]):
    assert render(np.zeros(shape, np.uint8), np.zeros((1, 1)), label, 1.0, "occlusion").startswith(b"\x89PNG")


class Broken(Corner):
    """Gives no number for what is all dark, as for the empty picture."""

    async def infer(self, inputs: list[Any], *arguments: Any, **more: Any) -> list[Any]:
        (scores,) = await super().infer(inputs, *arguments, **more)
        return [np.where(scores[:, :1] == 0, np.nan, scores)]


@pytest.mark.parametrize("method", explain.METHODS)
def test_what_the_model_gives_no_numbers_for_is_told(method: str):
    with pytest.raises(RequestError, match="not numbers") as caught:
        ask(Broken(), f"method={method}&class=corner")
    assert caught.value.status == 400
