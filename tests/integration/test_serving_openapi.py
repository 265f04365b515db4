"""The server does what its OpenAPI document says: requests made from the document by schemathesis, good and bad ones.

``MODELSHIP_SCHEMATHESIS_EXAMPLES`` sets how many are made for each call (default 12; a soak takes thousands).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.page_models import photo_release, table_release
from tests.integration.tiny import Server, served, tiny_release

pytestmark = pytest.mark.integration
pytest.importorskip("numpy", reason="the serving runtime's dependencies are not installed here")
Image = pytest.importorskip("PIL.Image", reason="the serving runtime's dependencies are not installed here")

EXAMPLES = os.environ.get("MODELSHIP_SCHEMATHESIS_EXAMPLES", "12")
KEY = "key-of-the-test"

#: Methods that HTTP knows: one that it does not know is answered with 501, as RFC 9110 (section 15.6.2) has it.
CONFIGURATION = """
[phases.coverage]
unexpected-methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
"""


def conform(server: Server, folder: Path, *options: str) -> str:
    """Run schemathesis on the server's own document; return what it says."""
    pytest.importorskip("schemathesis", reason="schemathesis is not installed here")
    document = server.call("GET", "/openapi.json").json
    # A deadline of a millisecond is rightly answered with 504, which is no defect. Binary tensors (JSON, then bytes) and what
    # makes a file in a form a picture are beyond what a schema can say: other tests send those.
    for path in document["paths"].values():
        for operation in path.values():
            for kind in ("application/octet-stream", "multipart/form-data"):
                operation.get("requestBody", {}).get("content", {}).pop(kind, None)
            operation["parameters"] = [
                each for each in operation["parameters"] if not each.get("$ref", "").endswith("/modelship-timeout-ms")
            ]
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    command = [
        *(sys.executable, "-m", "schemathesis.cli"),
        *("--config-file", str(folder / "schemathesis.toml"), "--no-color"),
        *("run", str(folder / "openapi.json"), "--url", server.url, "--max-examples", EXAMPLES, "--seed", "1"),
        *("--phases", "examples,coverage,fuzzing", *options),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=800)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-8000:]
    failures = {key: n for key, n in server.counts("modelship_requests_total").items() if 'code="500"' in key}
    assert failures == {}
    return said


@pytest.mark.parametrize("kind", ["onnx", "litert-int8"])
def test_a_model_of_pictures_does_as_documented(tmp_path: Path, kind: str):
    with served(tiny_release(tmp_path, kind)) as server:
        said = conform(server, tmp_path)
    tested = re.search(r"Tested: (\d+)", said)
    assert tested, said
    assert int(tested[1]) >= 14


def test_a_table_behind_a_key_does_as_documented(tmp_path: Path):
    keys = tmp_path / "keys"
    keys.write_text(f"tester sha256:{hashlib.sha256(KEY.encode()).hexdigest()}\n")
    with served(table_release(tmp_path), MODELSHIP_API_KEYS=str(keys), MODELSHIP_PAGE="false") as server:
        # Its own check of credentials sends wrong ones beside the right one given here; the loop below does it properly.
        # A schema cannot say all: 82.0 counts as an integer there, and the two inputs could have one name.
        unfit = "ignored_auth,positive_data_acceptance"
        conform(server, tmp_path, "--header", f"authorization: Bearer {KEY}", "--exclude-checks", unfit)
        for path, methods in server.call("GET", "/openapi.json").json["paths"].items():
            for method, operation in methods.items():
                place = path.replace("{version}", server.digest[7:19])
                status = server.call(method.upper(), place, b"{}" if method == "post" else None).status
                assert (status == 401) == (operation.get("security") != []), (method, path)


def test_the_examples_of_the_document_work(tmp_path: Path):
    for release in (tiny_release(tmp_path), table_release(tmp_path), photo_release(tmp_path)):
        with served(release) as server:
            document = server.call("GET", "/openapi.json").json
            worked = 0
            for path, methods in document["paths"].items():
                body = methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
                bodies = [each["value"] for each in body.get("examples", {}).values()]
                bodies += [body["example"]] if "example" in body else []
                for each in bodies:
                    answer = server.call("POST", path.replace("{version}", server.digest[7:19]), each)
                    # Only pictures can be explained.
                    assert answer.status == (400 if path == "/explain" and "table" in str(release) else 200), (
                        answer.body
                    )
                    worked += 1
            assert worked >= 4


def test_every_release_explains_its_own_pictures(tmp_path: Path):
    """Through the server: a picture in, a picture or numbers out; turned off, it is not there."""
    stream = io.BytesIO()
    picture: Any = Image.new("RGB", (24, 16), (255, 0, 0))
    picture.paste((0, 255, 0), (12, 0, 24, 16))
    picture.save(stream, "PNG")
    kind = {"content-type": "image/png"}
    release = photo_release(tmp_path)
    with served(release) as server:
        png = server.call("POST", "/explain", stream.getvalue(), kind)
        assert (png.status, png.headers["content-type"], png.body[:4]) == (200, "image/png", b"\x89PNG")
        for method in ("occlusion", "integrated-gradients"):
            path = f"/explain?class=green&method={method}"
            found = server.call("POST", path, stream.getvalue(), {**kind, "accept": "application/json"}).json
            assert found["label"] == "green"
            rows = [sum(row[: len(row) // 2]) < sum(row[len(row) // 2 :]) for row in found["grid"]]
            assert all(rows), "the green half speaks for green"
        assert server.counts("modelship_drift") == {}
    with served(release, MODELSHIP_EXPLAIN="false", MODELSHIP_PAGE="false") as server:
        for path in ("/explain", "/", "/docs", "/page.js"):
            assert server.call("POST" if path == "/explain" else "GET", path, b"{}").status == 404
