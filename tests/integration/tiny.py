"""A tiny classifier as a release, in every format that is served, and the server as a process.

Models are made by the interpreter that ``MODELSHIP_TRAINER_PYTHON`` names (TensorFlow and ai-edge-quantizer for LiteRT, the
``onnx`` package for ONNX) and kept under ``.cache/tiny`` by what they are made of; the server runs under
``MODELSHIP_SERVING_PYTHON`` (what model/locks/serving-*.txt list), or this interpreter where those packages are in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import json
import math
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "tiny"
#: One row per pixel of a 2x2 image, one column per class: bright corners decide the class.
WEIGHTS = [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0], [1.0, 1.0, 1.0]]
LABELS = ["red", "green", "blue"]
GREEN = [0, 255, 10, 0]
RED = [250.5, 3, 0.25, 40]
#: int8 steps of 1/256 at the output, and those of the input and the weights on the way.
TOLERANCE = 0.02
KINDS = ("onnx", "litert", "litert-int8")

SIGNATURE: dict[str, Any] = {
    "inputs": [{"name": "image", "dtype": "float32", "shape": [-1, 2, 2, 1], "range": [0, 255]}],
    "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [-1, 3]}],
    "labels": LABELS,
}

_MAKE_ONNX = """
import json, sys, numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
weights = np.array(json.loads(sys.argv[1]), "float32")
constants = [nh.from_array(weights / 255, "w"), nh.from_array(np.array([-1, 4], "int64"), "flat")]
nodes = [h.make_node("Reshape", ["image", "flat"], ["x"]), h.make_node("MatMul", ["x", "w"], ["y"]),
         h.make_node("Softmax", ["y"], ["probabilities"], axis=1)]
graph = h.make_graph(nodes, "tiny", [h.make_tensor_value_info("image", T.FLOAT, ["n", 2, 2, 1])],
                     [h.make_tensor_value_info("probabilities", T.FLOAT, ["n", 3])], constants)
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), sys.argv[2])
"""

# In two processes: TensorFlow and the quantizer's own LiteRT do not share one well.
_MAKE_LITERT = """
import json, sys, numpy as np, keras, tensorflow as tf
weights = np.array(json.loads(sys.argv[1]), "float32")
model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(),
                          keras.layers.Dense(weights.shape[1], activation="softmax")])
model.layers[-1].set_weights([weights, np.zeros(weights.shape[1], "float32")])
archive = keras.export.ExportArchive()
archive.track(model)
archive.add_endpoint("serve", lambda image: {"probabilities": model(image)},
                     [tf.TensorSpec((1, 2, 2, 1), tf.float32, name="image")])
archive.write_out(sys.argv[2] + ".saved")
open(sys.argv[2], "wb").write(tf.lite.TFLiteConverter.from_saved_model(sys.argv[2] + ".saved").convert())
"""
_QUANTIZE = """
import sys, numpy as np
from ai_edge_quantizer import quantizer, recipe
tool = quantizer.Quantizer(sys.argv[2])
tool.load_quantization_recipe(recipe.static_wi8_ai8())
# The brightest image alone: the tool averages the ranges that it sees, and an average would cut the larger scores off.
samples = np.full((8, 1, 2, 2, 1), 255, "float32")
found = tool.calibrate({"serving_default": [{"image": sample} for sample in samples]})
open(sys.argv[3], "wb").write(tool.quantize(found).quantized_model)
"""


def _has(python: str, *modules: str) -> bool:
    script = "import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, sys.argv[1:])))"
    try:
        return subprocess.run([python, "-c", script, *modules], check=False).returncode == 0
    except OSError:
        return False


def interpreter(variable: str, *modules: str) -> str:
    """The interpreter that the environment's *variable* names, or this one, if it has *modules*; skips without one."""
    for python in filter(None, (os.environ.get(variable), sys.executable)):
        if _has(python, *modules):
            return python
    pytest.skip(f"no interpreter with {', '.join(modules)}: set {variable} to one")


def made(script: str, suffix: str, *arguments: str, modules: Sequence[str] = ("onnx",)) -> bytes:
    """A model file that *script* writes to the path in its last argument; made once, and kept."""
    key = hashlib.sha256(json.dumps([script, *arguments]).encode()).hexdigest()[:24]
    kept = CACHE / f"{key}{suffix}"
    if not kept.exists():
        python = interpreter("MODELSHIP_TRAINER_PYTHON", *modules)
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as work:
            path = Path(work) / f"model{suffix}"
            done = subprocess.run(
                [python, "-c", script, *arguments, str(path)], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr[-3000:]
            path.replace(kept)
    return kept.read_bytes()


def tiny_model(kind: str = "onnx", weights: Sequence[Sequence[float]] = WEIGHTS) -> bytes:
    """The classifier's file, in one of :data:`KINDS`; ``litert-int8`` takes and gives quantized tensors inside."""
    matrix = json.dumps(weights)
    if kind == "onnx":
        return made(_MAKE_ONNX, ".onnx", matrix)
    modules = ("tensorflow", "ai_edge_quantizer")
    plain = made(_MAKE_LITERT, ".tflite", matrix, modules=modules)
    if kind == "litert":
        return plain
    with tempfile.NamedTemporaryFile(suffix=".tflite") as source:
        key = hashlib.sha256(plain).hexdigest()[:24]
        kept = CACHE / f"{key}-int8.tflite"
        if not kept.exists():
            source.write(plain)
            source.flush()
            python = interpreter("MODELSHIP_TRAINER_PYTHON", *modules)
            partial = CACHE / f"{key}-{os.getpid()}"
            done = subprocess.run(
                [python, "-c", _QUANTIZE, "", source.name, str(partial)], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr[-3000:]
            partial.replace(kept)
    return kept.read_bytes()


def tiny_release(
    folder: Path,
    kind: str = "onnx",
    *,
    weights: Sequence[Sequence[float]] = WEIGHTS,
    name: str = "tiny",
    signature: Mapping[str, Any] | None = None,
    model: bytes | None = None,
    files: Mapping[str, bytes] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Path:
    """Write a release of the tiny classifier under *folder*; return the release's own folder, named by its digest.

    :param kind: one of :data:`KINDS`.
    :param weights: other weights make another version of the same model.
    :param signature: changes of :data:`SIGNATURE`; with *model* the bytes of another model file of this format.
    :param files: further files of the release by path (``baseline.json``, ``golden.json``), listed with their sha256.
    :param more: further fields of release.json.
    """
    form = kind.partition("-")[0]
    relative = "model/model." + {"onnx": "onnx", "litert": "tflite"}[form]
    contents = {relative: tiny_model(kind, weights) if model is None else model, **(files or {})}
    manifest = {
        "schema": "modelship.release/1",
        "name": name,
        "kind": "import",
        "signature": {**SIGNATURE, **(signature or {})},
        "model": {"format": form, "path": relative, "size": len(contents[relative])},
        "files": {
            path: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for path, data in contents.items()
        },
        **(more or {}),
    }
    data = json.dumps(manifest, sort_keys=True).encode()
    release = folder / name / hashlib.sha256(data).hexdigest()
    for path, content in contents.items():
        (release / path).parent.mkdir(parents=True, exist_ok=True)
        (release / path).write_bytes(content)
    (release / "release.json").write_bytes(data)
    return release


def expected(pixels: Sequence[float], weights: Sequence[Sequence[float]] = WEIGHTS) -> list[float]:
    """The tiny model's probabilities, by the definition of softmax."""
    classes = range(len(weights[0]))
    scores = [sum(p / 255 * row[c] for p, row in zip(pixels, weights, strict=True)) for c in classes]
    total = sum(map(math.exp, scores))
    return [math.exp(score) / total for score in scores]


def nested(pixels: Sequence[float]) -> list[Any]:
    """Four pixels as an image of 2x2x1."""
    return [[[pixels[0]], [pixels[1]]], [[pixels[2]], [pixels[3]]]]


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclasses.dataclass
class Answer:
    """One HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclasses.dataclass
class Server:
    """A running server; ``stderr`` is the file its log goes to."""

    process: subprocess.Popen[bytes]
    port: int
    stderr: Path
    #: ``sha256:<hex>`` of the release that it serves by default.
    digest: str
    #: How to reach it: with TLS the client's context.
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def connect(self, timeout: float = 20) -> http.client.HTTPConnection:
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.tls)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def call(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request on a connection of its own; a *body* that is not bytes is sent as JSON."""
        connection = self.connect()
        try:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(method, path, data, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def counts(self, name: str) -> dict[str, float]:
        """The metrics that begin with *name*."""
        lines = self.call("GET", "/metrics").body.decode().splitlines()
        return {key: float(value) for key, value in (x.rsplit(" ", 1) for x in lines if x.startswith(name))}

    def stop(self) -> int:
        """Ask it to end (SIGTERM); return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def log(self) -> list[dict[str, Any]]:
        """The log's events so far."""
        return [json.loads(line) for line in self.stderr.read_text().splitlines(keepends=True) if line.endswith("\n")]


def environment(release: Path, port: int, **more: str) -> dict[str, str]:
    """What a server process is started with."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "model" / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MODELSHIP_RELEASE": str(release),
        "MODELSHIP_HOST": "127.0.0.1",
        "MODELSHIP_PORT": str(port),
        **more,
    }


def serving_python(release: Path, *modules: str) -> str:
    """The interpreter that can serve *release* (and has *modules* besides)."""
    runtime = "onnxruntime" if (release / "model" / "model.onnx").exists() else "ai_edge_litert"
    return interpreter("MODELSHIP_SERVING_PYTHON", "msgspec", "numpy", runtime, *modules)


@contextlib.contextmanager
def served(release: Path, /, *, tls: ssl.SSLContext | None = None, **env: str) -> Iterator[Server]:
    """Start a server on a free port, wait until it is ready, and end it.

    :param tls: the client's context, where *env* makes the server speak TLS.
    :param env: further environment variables, by their full names.
    """
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="tiny-") as folder:
        stderr = Path(folder) / "stderr"
        with stderr.open("wb") as stream:
            process = subprocess.Popen(
                [serving_python(release), "-m", "modelship_serving"],
                env=environment(release, port, **env),
                stderr=stream,
            )
        server = Server(process, port, stderr, f"sha256:{release.name}", tls)
        try:
            _wait_ready(server)
            yield server
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _wait_ready(server: Server) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert server.process.poll() is None, server.stderr.read_text()
        with contextlib.suppress(OSError, http.client.HTTPException):
            if server.call("GET", "/v2/health/ready").status == 200:
                return
        assert time.monotonic() < deadline, server.stderr.read_text()
        time.sleep(0.02)


def fails_to_start(release: Path, port: int | None = None, **env: str) -> str:
    """Return the one line that a server says that cannot start."""
    done = subprocess.run(
        [serving_python(release), "-m", "modelship_serving"],
        env=environment(release, port or free_port(), **env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr.strip()
