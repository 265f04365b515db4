"""The serving image's locked dependencies, and the list of files it leaves out."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

LOCKS = Path(__file__).resolve().parents[3] / "model" / "locks"


@pytest.mark.parametrize("name", ["litert", "onnx"])
def test_every_package_is_pinned_and_hashed_and_no_address_is_named(name: str):
    text = (LOCKS / f"serving-{name}.txt").read_text()
    entries = re.split(r"\n(?=\S)", text.strip())
    pins = {entry.split()[0] for entry in entries}
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==[0-9.]+ \\\n", entry), entry
        assert len(re.findall(r"--hash=sha256:[0-9a-f]{64}", entry)) >= 2
    wanted = {line for line in (LOCKS / f"serving-{name}.in").read_text().splitlines() if line and line[0] != "#"}
    assert pins == wanted
    assert "://" not in text
    assert "index-url" not in text


def test_nothing_that_serving_opens_is_left_out():
    lines = (LOCKS / "serving-excludes.txt").read_text().splitlines()
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    kept = [
        "ai_edge_litert/__init__.py",
        "ai_edge_litert/_pywrap_litert_interpreter_wrapper.so",
        "ai_edge_litert/interpreter.py",
        "ai_edge_litert/libpywrap_litert_common.so",
        "ai_edge_litert/metrics_portable.py",
        "msgspec/_core.cpython-311-x86_64-linux-gnu.so",
        "numpy/_core/_multiarray_umath.cpython-311-x86_64-linux-gnu.so",
        "numpy/lib/introspect.py",
        "numpy/ma/core.py",
        "numpy/linalg/_umath_linalg.cpython-311-x86_64-linux-gnu.so",
        "numpy.libs/libscipy_openblas64_-32a4b2a6.so",
        "numpy-2.4.6.dist-info/licenses/LICENSE.txt",
        "onnxruntime/capi/libonnxruntime_providers_shared.so",
        "onnxruntime/capi/onnxruntime_pybind11_state.cpython-311-x86_64-linux-gnu.so",
    ]
    assert {path: p for path in kept for p in patterns if fnmatch.fnmatchcase(path, p)} == {}
    dropped = [
        "ai_edge_litert/libLiteRt.so",
        "onnxruntime/capi/libonnxruntime.so.1.32.0",
        "numpy/_core/tests/test_umath.py",
    ]
    assert [path for path in dropped if not any(fnmatch.fnmatchcase(path, p) for p in patterns)] == []
