"""Files, requests and outputs that are malformed are refused by name, never by a traceback or by waiting."""

from __future__ import annotations

import io
import json
import os
import typing as t
import zipfile
from pathlib import Path

import pytest

from modelship_model import cli
from modelship_model.errors import ModelError
from modelship_model.events import Events
from modelship_model.hashing import tree_files
from modelship_model.inspection import check_keras
from modelship_model.metrics import check_probabilities


@pytest.mark.parametrize("name", [["Lambda"], {"a": 1}, 1, True])
@pytest.mark.parametrize("key", ["class_name", "module", "registered_name"])
def test_a_keras_type_name_that_is_not_text_is_refused(tmp_path: Path, key: str, name: t.Any) -> None:
    layer = {"class_name": "Dense", "module": "keras.layers", "registered_name": None, key: name}
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": [layer]}}))
    with pytest.raises(ModelError, match="Keras cannot load") as caught:
        check_keras(str(path))
    assert caught.value.kind == "release"


@pytest.mark.parametrize("shape", [(0, 3), (5, 0)])
def test_a_model_that_returns_no_values_is_refused(shape: tuple[int, int]) -> None:
    import numpy as np

    with pytest.raises(ModelError, match="the model x returns no values") as caught:
        check_probabilities(np.zeros(shape, dtype=np.float32), shape[1], "the model x", "release")
    assert caught.value.kind == "release"


@pytest.mark.parametrize(
    "text", ['{"model": "a", "name": "x", "model": "b"}', '{"input": {"name": "a", "range": [0, 1], "name": "b"}}']
)
def test_a_key_that_a_request_holds_twice_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"holds the key '(model|name)' twice"):
        cli.run(["import"], text, Events(io.StringIO()))


def test_a_request_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ModelError, match="is not JSON"):
        cli.run(["import"], "[" * 200000 + "]" * 200000, Events(io.StringIO()))


def test_a_named_pipe_in_a_directory_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    assert list(tree_files(str(tmp_path))) == ["file"]
