"""A headless Chromium, driven over its DevTools protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

websocket = pytest.importorskip("websocket", reason="websocket-client is not installed here")

Point = tuple[float, float]


class Browser:
    """One tab."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=60)
        self._last = 0
        #: What the browser told unasked: exceptions, console messages, requests.
        self.events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._last += 1
        self._socket.send(json.dumps({"id": self._last, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == self._last:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])
            self.events.append(message)

    def script(self, expression: str) -> Any:
        """Evaluate JavaScript, wait for a promise, return the value."""
        result = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, expression: str, seconds: float = 30) -> Any:
        """Wait until the JavaScript *expression* is true; return its value."""
        deadline = time.monotonic() + seconds
        while not (value := self.script(expression)):
            assert time.monotonic() < deadline, f"{expression} did not become true; {self.complaints()}"
            time.sleep(0.05)
        return value

    def screen(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Be a screen of this size, for a finger where it is a phone."""
        scale = 2 if phone else 1
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        self.send("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go to *url* and wait until its scripts have run."""
        self.events.clear()
        result = self.send("Page.navigate", url=url)
        assert "errorText" not in result, result
        self.until(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def text(self, selector: str) -> str:
        """The text of an element, as it is shown."""
        return str(self.script(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        self.script(
            f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center', behavior: 'instant'}})"
        )
        left, top, width, height = self._box(selector)
        place = {"x": left + width / 2, "y": top + height / 2, "button": "left", "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mousePressed", **place)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", **place)

    def draw(self, selector: str, points: Sequence[Point], *, touch: bool = False) -> None:
        """Draw a line through *points*, shares of the element's width and height, with the mouse or a finger."""
        left, top, width, height = self._box(selector)
        places = [{"x": left + x * width, "y": top + y * height} for x, y in points]
        if touch:
            self.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=places[:1])
            for place in places[1:]:
                self.send("Input.dispatchTouchEvent", type="touchMove", touchPoints=[place])
            self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            return
        self.send("Input.dispatchMouseEvent", type="mousePressed", button="left", clickCount=1, **places[0])
        for place in places[1:]:
            self.send("Input.dispatchMouseEvent", type="mouseMoved", button="left", buttons=1, **place)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", button="left", clickCount=1, **places[-1])

    def press(self, key: str, code: int, text: str = "", times: int = 1) -> None:
        """Press a key; *code* is its virtual key code."""
        for _unused in range(times):
            event = {"key": key, "windowsVirtualKeyCode": code}
            self.send("Input.dispatchKeyEvent", type="keyDown", **event, **({"text": text} if text else {}))
            self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in an ``<input type=file>``."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def picture(self) -> bytes:
        """The whole page as PNG."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        return base64.b64decode(self.send("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"])

    def complaints(self) -> list[str]:
        """Exceptions, errors in the console (so also what the content security policy forbade) since :meth:`open`."""
        found = []
        for event in self.events:
            details = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(details["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
                found.append(details["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning", "assert"):
                found.append(json.dumps(details["args"]))
        return found

    def requests(self) -> list[str]:
        """The addresses asked for since :meth:`open`."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def _box(self, selector: str) -> tuple[float, float, float, float]:
        left, top, width, height = self.script(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return [box.left, box.top, box.width, box.height]; })()"
        )
        return left, top, width, height


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium; skips where it is not installed."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("NO CHROMIUM IS INSTALLED HERE: the page is not tested (`make stand` installs it with apt)")
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--hide-scrollbars", "--disable-background-networking", "--disable-component-update"]
        process = subprocess.Popen(
            [program, *options, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield Browser(_address(Path(profile) / "DevToolsActivePort", process))
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(path: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, f"Chromium ended with code {process.returncode}"
        with contextlib.suppress(OSError, IndexError, StopIteration):
            port = path.read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=20) as reply:
                return str(next(each for each in json.load(reply) if each["type"] == "page")["webSocketDebuggerUrl"])
        assert time.monotonic() < deadline, "Chromium does not listen"
        time.sleep(0.05)
