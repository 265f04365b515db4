"""Two releases of a tiny classifier as images in the cluster's registry, made by the collection as its users make them."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import yaml

from ansible_collections.modelship.core.plugins.module_utils._core.content import canonical_json, sha256_bytes

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
NAME = "tiny"
#: One row per pixel of a 2x2 image, one column per class: which corner is bright decides the class.
WEIGHTS = [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0], [1.0, 1.0, 1.0]]
SAMPLES = [[255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [200, 30, 90, 10]]

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


@dataclasses.dataclass(frozen=True)
class Built:
    """One release and the image that serves it.

    :param image: ``repository@sha256:…`` as the nodes pull it.
    :param release: the release's digest; its folder is *path*.
    :param answers: for each of ``SAMPLES`` the class.
    """

    image: str
    release: str
    path: str
    answers: list[int]


@dataclasses.dataclass(frozen=True)
class Serving:
    """Two releases that answer the same questions differently."""

    first: Built
    second: Built


def write_releases(folder: Path, python: str) -> list[tuple[Path, list[int]]]:
    """Make two releases below *folder* with the interpreter *python*, which has the package ``onnx``."""
    found = []
    for number, weights in enumerate((WEIGHTS, [row[::-1] for row in WEIGHTS])):
        model = folder / f"model-{number}.onnx"
        done = subprocess.run(
            [python, "-c", _MAKE_ONNX, json.dumps(weights), str(model)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-3000:]
        found.append(_write_release(folder, model.read_bytes(), weights))
    return found


def publish(folder: Path, releases: list[Path], registry: str, collections: Path, cache: Path) -> list[str]:
    """Build an image of each release and push it to *registry*; return the references by digest.

    :param cache: folder that image_build keeps between runs, named by content.
    """
    package = ROOT / "model"
    tasks: list[dict[str, t.Any]] = []
    for number, release in enumerate(releases):
        build = {
            "name": NAME,
            "dest": str(folder / "layout"),
            "cache": str(cache),
            "base": {"bootstrap": {"suite": "bookworm"}},
            "requirements": str(package / "locks/serving-onnx.txt"),
            "requirements_exclude": str(package / "locks/serving-excludes.txt"),
            "runtime": str(package / "src/modelship_serving"),
            "release": str(release),
            "compression": "none",
        }
        push = {
            "layout": str(folder / "layout"),
            "digest": f"{{{{ built_{number}.image.digest }}}}",
            "repository": f"{registry}/test/{NAME}",
            "plain_http": True,
        }
        tasks += [
            {"name": "Build", "modelship.core.image_build": build, "register": f"built_{number}"},
            {"name": "Push", "modelship.core.image_push": push, "register": f"pushed_{number}"},
        ]
    names = [f"pushed_{number}.push.reference" for number in range(len(releases))]
    tasks.append(
        {
            "name": "Tell",
            "ansible.builtin.copy": {
                "content": f"{{{{ [{', '.join(names)}] | to_json }}}}",
                "dest": str(folder / "references.json"),
                "mode": "0644",
            },
        }
    )
    play(folder / "images.yml", tasks, collections)
    return list(json.loads((folder / "references.json").read_text()))


def play(path: Path, tasks: list[dict[str, t.Any]], collections: Path) -> None:
    """Write *tasks* as a playbook for this machine to *path* and run it."""
    path.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}], sort_keys=False))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        [
            *(str(BIN / "ansible-playbook"), "-i", "localhost,", "-c", "local"),
            *("-e", json.dumps({"ansible_python_interpreter": sys.executable}), str(path)),
        ],
        capture_output=True,
        text=True,
        env={**kept, "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_NOCOLOR": "1"},
        cwd="/",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _write_release(root: Path, model: bytes, weights: list[list[float]]) -> tuple[Path, list[int]]:
    outputs = [_answer(sample, weights) for sample in SAMPLES]
    golden = canonical_json(
        {
            "inputs": {"image": [[[[row[0]], [row[1]]], [[row[2]], [row[3]]]] for row in SAMPLES]},
            "outputs": {"probabilities": outputs},
            "tolerance": {"absolute": 0.001, "classes": "equal"},
        }
    )
    files = {"model/model.onnx": model, "golden.json": golden}
    manifest = {
        "schema": "modelship.release/1",
        "name": NAME,
        "kind": "import",
        "signature": {
            "inputs": [{"name": "image", "dtype": "float32", "shape": [-1, 2, 2, 1], "range": [0, 255]}],
            "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [-1, 3]}],
            "labels": ["red", "green", "blue"],
        },
        "model": {"format": "onnx", "path": "model/model.onnx", "size": len(model)},
        "files": {name: {"sha256": sha256_bytes(data)[7:], "size": len(data)} for name, data in files.items()},
    }
    text = canonical_json(manifest)
    folder = root / NAME / sha256_bytes(text)[7:]
    (folder / "model").mkdir(parents=True)
    for name, data in {**files, "release.json": text}.items():
        (folder / name).write_bytes(data)
    return folder, [row.index(max(row)) for row in outputs]


def _answer(sample: list[int], weights: list[list[float]]) -> list[float]:
    """What the model answers: softmax of the pixels, scaled to 0..1, times *weights*."""
    scores = [sum(pixel / 255 * row[column] for pixel, row in zip(sample, weights, strict=True)) for column in range(3)]
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]
