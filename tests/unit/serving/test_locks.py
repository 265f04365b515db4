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
        "PIL/Image.py",
        "PIL/ImageFont.py",
        "PIL/JpegImagePlugin.py",
        "PIL/MpoImagePlugin.py",
        "PIL/PngImagePlugin.py",
        "PIL/TiffImagePlugin.py",
        "PIL/_imaging.cpython-311-x86_64-linux-gnu.so",
        # the core is linked to these
        "pillow.libs/libXau-154567c4.so.6.0.0",
        "pillow.libs/libjpeg-6dc8d115.so.62.4.0",
        "pillow.libs/liblzma-de26b416.so.5.8.4",
        "pillow.libs/libopenjp2-e530e1bf.so.2.5.4",
        "pillow.libs/libtiff-20b7e810.so.6.3.0",
        "pillow.libs/libxcb-9065bb12.so.1.1.0",
        "pillow.libs/libzstd-40ad5e7e.so.1.5.7",
    ]
    assert {path: p for path in kept for p in patterns if fnmatch.fnmatchcase(path, p)} == {}
    dropped = [
        "PIL/_avif.cpython-311-x86_64-linux-gnu.so",
        "pillow.libs/libavif-c6062d5f.so.16.4.2",
        "ai_edge_litert/libLiteRt.so",
        "onnxruntime/capi/libonnxruntime.so.1.32.0",
        "numpy/_core/tests/test_umath.py",
    ]
    assert [path for path in dropped if not any(fnmatch.fnmatchcase(path, p) for p in patterns)] == []
