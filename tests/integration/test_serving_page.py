"""The page in a real browser: drawing with mouse, finger and keys, pictures, forms, explanations, keys, versions."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.chromium import Browser, Point, chromium
from tests.integration.page_models import digits_release, photo_release, table_release
from tests.integration.tiny import Server, served

pytestmark = pytest.mark.integration
pytest.importorskip("numpy", reason="the serving runtime's dependencies are not installed here")
Image = pytest.importorskip("PIL.Image", reason="the serving runtime's dependencies are not installed here")


def arc(x: float, y: float, wide: float, high: float, start: int, end: int) -> list[Point]:
    """A part of an ellipse, in degrees clockwise from the right."""
    step = 12 if end > start else -12
    angles = [math.radians(each) for each in [*range(start, end, step), end]]
    return [(x + wide * math.cos(angle), y + high * math.sin(angle)) for angle in angles]


def line(*corners: Point) -> list[Point]:
    """Straight from corner to corner, in small steps."""
    return [
        (x0 + (x1 - x0) * i / 8, y0 + (y1 - y0) * i / 8)
        for (x0, y0), (x1, y1) in itertools.pairwise(corners)
        for i in range(9)
    ]


#: Strokes as shares of the sheet. They are small and not in the middle: the page has to scale and centre them.
DIGITS: dict[str, list[list[Point]]] = {
    "0": [arc(0.4, 0.45, 0.14, 0.24, -90, 270)],
    "1": [line((0.52, 0.2), (0.48, 0.7))],
    "3": [arc(0.45, 0.32, 0.13, 0.12, -150, 90) + arc(0.45, 0.57, 0.15, 0.13, -90, 150)],
    "2": [arc(0.45, 0.35, 0.14, 0.14, -160, 30) + line((0.57, 0.42), (0.33, 0.72), (0.63, 0.72))],
    "5": [line((0.6, 0.22), (0.37, 0.22), (0.36, 0.44)) + arc(0.45, 0.57, 0.16, 0.15, -120, 130)],
    "6": [line((0.53, 0.2), (0.38, 0.5)) + arc(0.46, 0.6, 0.11, 0.13, 200, 560)],
}
#: What stands where no answer is.
NOTHING = "\u2013"
LABEL = "document.querySelector('#answer b')?.innerText"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    release = digits_release(tmp_path_factory.mktemp("digits"))
    with served(release) as server:
        yield server


def visit(browser: Browser, server: Server, width: int = 1280, height: int = 860, **screen: bool) -> None:
    browser.screen(width, height, **screen)
    browser.open(f"{server.url}/")


def keep(browser: Browser, name: str) -> None:
    """Save a picture of the page where somebody wants to look at it."""
    if folder := os.environ.get("MODELSHIP_SCREENSHOTS"):
        (Path(folder) / f"{name}.png").write_bytes(browser.picture())


def settled(browser: Browser) -> None:
    """The page is content, and stayed at home."""
    assert browser.complaints() == []
    origin = browser.script("location.origin")
    assert [url for url in browser.requests() if not url.startswith((f"{origin}/", "blob:", "data:"))] == []


@pytest.mark.parametrize("digit", DIGITS)
@pytest.mark.parametrize("screen", ["desk", "phone"])
def test_a_drawn_digit_is_read(browser: Browser, digits: Server, digit: str, screen: str):
    phone = screen == "phone"
    visit(browser, digits, **({"width": 390, "height": 844, "phone": True, "dark": True} if phone else {}))  # type: ignore[arg-type]
    assert browser.text("#answer").strip() == NOTHING
    for stroke in DIGITS[digit]:
        browser.draw("#ink", stroke, touch=phone)
    browser.until(f"{LABEL} === '{digit}'")
    keep(browser, f"{screen}-{digit}")
    shares = browser.script(
        "[...document.querySelectorAll('#classes .share')].map((each) => parseFloat(each.innerText))"
    )
    assert len(shares) == 10
    assert sum(shares) == pytest.approx(100, abs=1)
    assert max(shares) == shares[int(digit)]
    assert browser.text("#classes .best .label") == digit
    assert "ms" in browser.text("#latency")
    assert browser.text("#release") == digits.digest[:19]
    assert browser.script("document.querySelector('#release').title") == digits.digest
    # nothing reaches over the edge of the screen
    assert browser.script("document.documentElement.scrollWidth <= innerWidth")
    settled(browser)


def seen(browser: Browser) -> list[list[int]]:
    """What the model sees: rows of pixels."""
    context = "document.querySelector('#small').getContext('2d')"
    values = browser.script(f"[...{context}.getImageData(0, 0, 28, 28).data].filter((v, i) => i % 4 === 0)")
    return [values[28 * y : 28 * y + 28] for y in range(28)]


def test_the_drawing_is_placed_as_in_the_training_data(browser: Browser, digits: Server):
    visit(browser, digits)
    browser.draw("#ink", DIGITS["1"][0])
    browser.until(f"{LABEL} === '1'")
    rows = seen(browser)
    inked = [y for y, row in enumerate(rows) if max(row) > 25]
    assert max(inked) - min(inked) + 1 in (20, 21)
    mass = sum(map(sum, rows))
    assert sum((x + 0.5) * v for row in rows for x, v in enumerate(row)) / mass == pytest.approx(14, abs=0.6)
    assert sum((y + 0.5) * sum(row) for y, row in enumerate(rows)) / mass == pytest.approx(14, abs=0.6)


def test_the_keyboard_draws_too(browser: Browser, digits: Server):
    visit(browser, digits)
    for _unused in range(12):
        if browser.script("document.activeElement.id") == "ink":
            break
        browser.press("Tab", 9)
    assert browser.script("document.activeElement.id") == "ink"
    browser.press(" ", 32, " ")
    browser.press("ArrowDown", 40, times=6)
    browser.press("ArrowRight", 39, times=3)
    browser.press(" ", 32, " ")
    browser.until("document.querySelector('#answer b') !== null && !document.querySelector('#explain').disabled")
    rows = seen(browser)
    ink = [(x, y) for y, row in enumerate(rows) for x, value in enumerate(row) if value > 128]
    assert max(y for _x, y in ink) - min(y for _x, y in ink) in (18, 19, 20)
    assert 8 <= max(x for x, _y in ink) - min(x for x, _y in ink) <= 14
    browser.press("Backspace", 8)
    browser.until(f"document.querySelector('#answer').innerText.trim() === '{NOTHING}'")
    settled(browser)


def test_undo_and_clear(browser: Browser, digits: Server):
    visit(browser, digits)
    assert browser.script("document.querySelector('#clear').disabled && document.querySelector('#undo').disabled")
    browser.draw("#ink", DIGITS["1"][0])
    browser.until(f"{LABEL} === '1'")
    browser.draw("#ink", line((0.7, 0.2), (0.9, 0.9), (0.1, 0.9)))
    browser.click("#undo")
    browser.until(f"{LABEL} === '1'")
    browser.click("#clear")
    browser.until(f"document.querySelector('#answer').innerText.trim() === '{NOTHING}'")
    assert browser.script("document.querySelector('#seen').hidden")
    assert browser.script("document.querySelector('#explain').disabled")


def test_a_photograph_of_a_digit_is_read(browser: Browser, digits: Server, tmp_path: Path):
    """Grey ink on paper that is not quite white, in a corner of it."""
    paper = Image.new("RGB", (600, 800), (225, 222, 214))
    for x, y in DIGITS["3"][0]:
        left, top = int(120 + x * 400), int(330 + y * 560)
        paper.paste((60, 62, 80), (left - 16, top - 16, left + 16, top + 16))
    path = tmp_path / "three.jpg"
    paper.save(path)
    visit(browser, digits)
    browser.choose("#file", path)
    browser.until(f"{LABEL} === '3'")
    keep(browser, "photograph")
    settled(browser)


def test_a_picture_of_the_models_size_is_taken_as_it_is(browser: Browser, digits: Server, tmp_path: Path):
    path = tmp_path / "small.png"
    pixels = bytes((7 * i) % 256 if i > 60 else 0 for i in range(784))
    Image.frombytes("L", (28, 28), pixels).save(path)
    visit(browser, digits)
    browser.choose("#file", path)
    browser.until("document.querySelector('#answer b') !== null")
    stream = io.BytesIO(path.read_bytes())
    told = digits.call("POST", "/predict", stream.getvalue(), {"content-type": "image/png"}).json
    assert browser.text("#answer b") == told["label"]
    best = max(told["probabilities"])
    assert browser.text("#answer span") == f"{100 * best:.1f} %"


def test_what_is_no_picture_is_said(browser: Browser, digits: Server, tmp_path: Path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    visit(browser, digits)
    browser.choose("#file", path)
    browser.until("!document.querySelector('#error').hidden")
    assert "notes.txt" in browser.text("#error")


def test_the_answer_is_explained(browser: Browser, digits: Server):
    visit(browser, digits)
    browser.draw("#ink", DIGITS["3"][0])
    browser.until(f"{LABEL} === '3' && !document.querySelector('#explain').disabled")
    browser.click("#explain")
    browser.until("!document.querySelector('#why').hidden && document.querySelector('#heat').naturalWidth > 300")
    keep(browser, "explained")
    assert "what speaks for 3" in browser.script("document.querySelector('#heat').alt")
    browser.draw("#ink", line((0.1, 0.1), (0.9, 0.1)))
    browser.until("document.querySelector('#why').hidden")
    settled(browser)


def test_everything_one_can_use_has_a_name(browser: Browser, digits: Server):
    visit(browser, digits)
    browser.draw("#ink", DIGITS["1"][0])
    browser.until(f"{LABEL} === '1'")
    unnamed = []
    for node in browser.send("Accessibility.getFullAXTree")["nodes"]:
        role = node.get("role", {}).get("value")
        if not node.get("ignored") and role in (
            "button",
            "link",
            "textbox",
            "image",
            "canvas",
            "combobox",
            "spinbutton",
            "list",
        ):
            name = node.get("name", {}).get("value", "")
            if not name.strip():
                unnamed.append((role, node.get("domNodeId")))
    assert unnamed == []
    # contrast of text on its background, by WCAG 2: at least 4.5 to 1, light and dark
    for dark in (False, True):
        browser.screen(1280, 860, dark=dark)
        for name in ("--ink", "--soft", "--accent"):
            assert _contrast(browser, name, "--paper") >= 4.5, (name, dark)
        assert _contrast(browser, "--on-accent", "--accent") >= 4.5, dark


def _contrast(browser: Browser, *names: str) -> float:
    def luminance(name: str) -> float:
        code = browser.script(f"getComputedStyle(document.documentElement).getPropertyValue('{name}').trim()")
        levels = [int(code[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        red, green, blue = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in levels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted(map(luminance, names), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_a_key_is_asked_for_and_used(browser: Browser, digits: Server, tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text(f"tester sha256:{hashlib.sha256(b'secret-of-the-page').hexdigest()}\n")
    with served(digits_release(tmp_path), MODELSHIP_API_KEYS=str(keys)) as server:
        visit(browser, server)
        assert browser.script("document.querySelector('#credentials').hidden")
        browser.draw("#ink", DIGITS["1"][0])
        browser.until("!document.querySelector('#credentials').hidden")
        browser.script("document.querySelector('#key').value = 'wrong'")
        browser.click("#credentials button")
        browser.until("document.querySelector('#error').innerText.includes('not known')")
        keep(browser, "key")
        browser.script("document.querySelector('#key').value = 'secret-of-the-page'")
        browser.click("#credentials button")
        browser.until(f"{LABEL} === '1'")
        assert browser.script(
            "document.querySelector('#credentials').hidden && document.querySelector('#error').hidden"
        )


def test_another_version_can_be_chosen(browser: Browser, tmp_path: Path):
    default = digits_release(tmp_path)
    other = digits_release(tmp_path / "versions", seed=2)
    with served(default, MODELSHIP_VERSIONS=str(other.parent)) as server:
        visit(browser, server)
        browser.draw("#ink", DIGITS["3"][0])
        browser.until(f"{LABEL} === '3'")
        assert browser.text("#release") == f"sha256:{default.name[:12]}"
        browser.script("document.querySelector('#version').selectedIndex = 1")
        browser.script("document.querySelector('#version').dispatchEvent(new Event('change'))")
        browser.until(f"document.querySelector('#release').innerText === 'sha256:{other.name[:12]}'")
        browser.until("!document.querySelector('#explain').disabled")
        browser.click("#explain")
        browser.until("document.querySelector('#heat').naturalWidth > 300")
        settled(browser)
        asked = [url for url in browser.requests() if "version=" in url]
        assert len(asked) >= 2
        assert all(other.name[:12] in url for url in asked)


def test_a_table_has_a_form(browser: Browser, tmp_path: Path):
    with served(table_release(tmp_path)) as server:
        visit(browser, server, 390, 844, phone=True)
        # filled in with a golden sample, and asked about: 20 + 1 + 20 + 300
        browser.until(f"{LABEL} === '341'")
        keep(browser, "table")
        assert browser.script("document.querySelector('#explain').hidden && document.querySelector('#sheet').hidden")
        browser.script("document.querySelectorAll('#numbers input')[1].value = '0.5'")
        browser.click("#fields button.primary")
        browser.until(f"{LABEL} === '340.5'")
        # Whole numbers are shown whole: 20 + 12345678.
        browser.script(
            "document.querySelectorAll('#numbers input').forEach((x, i) => x.value = [20, 12345678, 0, 0][i])"
        )
        browser.click("#fields button.primary")
        browser.until(f"{LABEL} === '12345698'")
        browser.click("#restore")
        browser.click("#restore")
        browser.until(f"{LABEL} === '684'")
        browser.script("document.querySelectorAll('#numbers input')[0].value = '7'")
        browser.click("#fields button.primary")
        assert browser.script("document.querySelectorAll('#numbers input')[0].validity.rangeUnderflow")
        settled(browser)


def test_a_colour_picture_is_dropped(browser: Browser, tmp_path: Path):
    with served(photo_release(tmp_path)) as server:
        visit(browser, server)
        assert browser.script("document.querySelector('#undo').hidden")
        picture = tmp_path / "green.png"
        Image.new("RGB", (480, 320), (20, 200, 60)).save(picture)
        browser.choose("#file", picture)
        browser.until(f"{LABEL} === 'green'")
        keep(browser, "colour")
        # no probabilities: the scores as they are
        told: dict[str, Any] = server.call("POST", "/predict", picture.read_bytes(), {"content-type": "image/png"}).json
        assert float(browser.text("#answer span")) == pytest.approx(told["scores"][1], abs=0.01)
        settled(browser)


def test_the_documentation_is_quiet_too(browser: Browser, digits: Server):
    for width in (1280, 390):
        browser.screen(width, 860, phone=width < 500)
        browser.open(f"{digits.url}/docs")
        browser.script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert browser.script("document.documentElement.scrollWidth <= innerWidth")
        keep(browser, f"docs-{width}")
        settled(browser)
    assert json.loads(digits.call("GET", "/openapi.json").body)["info"]["title"] == "digits"


def test_caching_and_head(digits: Server):
    whole = digits.call("GET", "/page.js")
    assert whole.status == 200
    again = digits.call("GET", "/page.js", headers={"if-none-match": whole.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    assert again.headers["content-length"] == whole.headers["content-length"]
    head = digits.call("HEAD", "/")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) == len(digits.call("GET", "/").body)
    assert digits.call("POST", "/").status == 405


def test_a_model_that_is_not_a_classifier_shows_its_outputs_by_name(browser: Browser, tmp_path: Path):
    with served(photo_release(tmp_path, labels=None)) as server:
        visit(browser, server)
        picture = tmp_path / "green.png"
        Image.new("RGB", (480, 320), (51, 204, 0)).save(picture)
        browser.choose("#file", picture)
        browser.until("document.querySelector('#answer b') !== null")
        assert json.loads(browser.text("#answer b")) == pytest.approx([0.2, 0.8, 0], abs=1e-3)
        assert browser.text("#answer .named > span") == "scores"
        assert browser.script("document.querySelector('#explain').hidden")
        assert browser.script("document.querySelector('#classes').childElementCount === 0")
        keep(browser, "outputs")
        settled(browser)
        told: dict[str, Any] = server.call("POST", "/predict", picture.read_bytes(), {"content-type": "image/png"}).json
        assert told["outputs"]["scores"] == pytest.approx([0.2, 0.8, 0.0], abs=1e-6)
        assert set(told) == {"outputs", "release"}
