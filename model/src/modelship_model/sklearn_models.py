# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""scikit-learn estimators: saved reproducibly with skops, loaded without running foreign code, converted to ONNX."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import typing as t
import zipfile

from .errors import ModelError, reason_of
from .files import write_zip
from .inspection import SKOPS_FUNCTIONS, SKOPS_TYPES, check_skops

if t.TYPE_CHECKING:
    from .data import Floats

Estimator = t.Any
Signature = dict[str, t.Any]


def save(estimator: Estimator, path: str) -> None:
    """Save *estimator* with skops, such that equal estimators make equal bytes.

    skops names the parts by their addresses in memory; they are numbered in order of appearance instead.
    """
    import skops.io

    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        raw = os.path.join(folder, "raw.skops")
        skops.io.dump(estimator, raw)
        with zipfile.ZipFile(raw) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(content.pop("schema.json"))
    numbers: dict[str, int] = {}
    schema = _renumber(schema, numbers)
    entries = [("schema.json", json.dumps(schema, indent=1, sort_keys=True).encode())]
    renamed = {_numbered_file(name, numbers): data for name, data in content.items()}
    write_zip(path, [*entries, *sorted(renamed.items())], compress=True)


def _renumber(value: t.Any, numbers: dict[str, int]) -> t.Any:
    if isinstance(value, list):
        return [_renumber(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for key in sorted(value):
        item = value[key]
        if key == "__id__":
            item = numbers.setdefault(str(item), len(numbers) + 1)
        elif key == "file" and isinstance(item, str):
            item = _numbered_file(item, numbers)
        else:
            item = _renumber(item, numbers)
        found[key] = item
    return found


def _numbered_file(name: str, numbers: dict[str, int]) -> str:
    match = re.fullmatch(r"(\d+)(\..+)", name)
    if not match:
        return name
    return f"{numbers.setdefault(match[1], len(numbers) + 1)}{match[2]}"


def load(path: str) -> Estimator:
    """Load a skops file of scikit-learn's own types (:func:`inspection.check_skops`); pickles are never read.

    :raises ModelError: it is damaged or holds functions or other types (kind ``release``).
    """
    import skops.io

    check_skops(path)
    try:
        return skops.io.load(path, trusted=sorted(SKOPS_TYPES | SKOPS_FUNCTIONS))
    except Exception as exc:
        raise ModelError("release", f"skops cannot load {path}: {reason_of(exc)}") from exc


#: What to do about an estimator without probabilities.
CALIBRATE = "wrap it in sklearn.calibration.CalibratedClassifierCV, which adds predict_proba()"


def predict(estimator: Estimator, x: Floats) -> Floats:
    """Return class probabilities, float32, for ``(n, …)`` samples."""
    import numpy as np

    try:
        return np.asarray(estimator.predict_proba(x.reshape(len(x), -1)), dtype=np.float32)
    except AttributeError as exc:
        raise ModelError("project", f"the estimator gives no probabilities ({reason_of(exc)}): {CALIBRATE}") from exc


def final_step(estimator: Estimator) -> Estimator:
    """Return the last step of a pipeline, or the estimator itself."""
    return estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator


def check_class_order(estimator: Estimator, labels: int) -> None:
    """Check that the estimator knows the classes 0..labels-1 in that order, so that columns mean labels.

    :raises ModelError: it does not (kind ``data``).
    """
    classes = [
        int(value) if str(value).lstrip("-").isdigit() else value for value in getattr(estimator, "classes_", [])
    ]
    if classes != list(range(labels)):
        raise ModelError(
            "data",
            f"the estimator learned the classes {classes[:12]}, but there are {labels} labels: each needs a sample",
        )


def weights_digest(estimator: Estimator, folder: str) -> str:
    """Return the digest of the estimator's reproducible file; *folder* takes a temporary copy."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = os.path.join(place, "w.skops")
        save(estimator, path)
        digest = hashlib.sha256()
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                digest.update(name.encode() + b"\0" + archive.read(name))
    return "sha256:" + digest.hexdigest()


def to_onnx(estimator: Estimator, signature: Signature) -> bytes:
    """Convert to ONNX float32 with one input and the probabilities as its one output, by the signature's names.

    :raises ModelError: skl2onnx does not convert a part of it (kind ``project``).
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs

    (given,), (answer,) = signature["inputs"], signature["outputs"]
    try:
        with _plain_attributes():
            model = convert_sklearn(
                _convertible(estimator),
                name=given["name"],
                initial_types=[(given["name"], FloatTensorType([None, *given["shape"][1:]]))],
                target_opset=17,
            )
        probabilities = _probabilities(model)
        model = select_model_inputs_outputs(model, [probabilities])
    except Exception as exc:
        raise ModelError(
            "project",
            f"the estimator cannot be converted to ONNX: {reason_of(exc)}: build() must return what skl2onnx converts",
        ) from exc
    from .onnx_models import name_output, tidy

    name_output(model, probabilities, answer["name"], answer["shape"][-1])
    tidy(model)
    return t.cast(bytes, model.SerializeToString(deterministic=True))


def _convertible(estimator: Estimator) -> Estimator:
    """Return *estimator* less what its answers do not depend on and skl2onnx does not know.

    Steps that pass everything on, the search around the estimator it found, and how a vote would shape ``transform()``.
    """
    import copy

    if hasattr(estimator, "best_estimator_"):
        return _convertible(estimator.best_estimator_)
    if hasattr(estimator, "steps"):
        kept = [(name, _convertible(step)) for name, step in estimator.steps if step not in (None, "passthrough")]
        changed = copy.copy(estimator)
        changed.steps = kept
        return changed
    if getattr(estimator, "flatten_transform", False):
        changed = copy.copy(estimator)
        changed.flatten_transform = False
        return changed
    return estimator


def _probabilities(model: t.Any) -> str:
    """Return the name of the tensor with the probabilities: skl2onnx makes a list of mappings of it for its callers.

    (The option that would leave that out is refused for estimators inside of others.)
    """
    for node in model.graph.node:
        if node.op_type == "ZipMap":
            return str(node.input[0])
    outputs = [output.name for output in model.graph.output]
    return "probabilities" if "probabilities" in outputs else str(outputs[-1])


@contextlib.contextmanager
def _plain_attributes() -> t.Iterator[None]:
    """Let skl2onnx write booleans, which protobuf refuses, as the integers that ONNX has for them.

    The converter of histogram-based gradient boosting hands them on as scikit-learn keeps them.
    """
    import numpy as np
    from skl2onnx.common import _container

    make_node = _container.make_node

    def with_integers(*arguments: t.Any, **attributes: t.Any) -> t.Any:
        for name, value in attributes.items():
            if isinstance(value, (list, tuple)) and any(isinstance(item, (bool, np.bool_)) for item in value):
                attributes[name] = [int(item) if isinstance(item, (bool, np.bool_)) else item for item in value]
        return make_node(*arguments, **attributes)

    _container.make_node = with_integers
    try:
        yield
    finally:
        _container.make_node = make_node
