from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core import content
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError


def test_canonical_json_sorts_keys_and_keeps_unicode() -> None:
    assert content.canonical_json({"b": 1, "a": "ä"}) == '{"a":"ä","b":1}\n'.encode()


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        content.canonical_json({"accuracy": float("nan")})


def test_tree_digest_ignores_caches_and_names_content(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "a.py").write_text("a = 1\n")
    before = content.tree_digest(str(tmp_path))
    assert content.tree_files(str(tmp_path)) == {"pkg/a.py": "sha256:" + hashlib.sha256(b"a = 1\n").hexdigest()}
    (tmp_path / "pkg" / "__pycache__").mkdir()
    (tmp_path / "pkg" / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("x")
    assert content.tree_digest(str(tmp_path)) == before
    (tmp_path / "pkg" / "a.py").write_text("a = 2\n")
    assert content.tree_digest(str(tmp_path)) != before


def test_tree_of_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelshipError, match="no/where is not a folder"):
        content.tree_files(str(tmp_path / "no/where"))


@pytest.mark.parametrize("bad", ["", "latest", "sha256:", "sha256:" + "A" * 64, "sha512:" + "a" * 64, "a" * 64])
def test_parse_digest_refuses(bad: str) -> None:
    with pytest.raises(ModelshipError, match="is not a digest"):
        content.parse_digest(bad)


def test_parse_digest() -> None:
    digest = content.sha256_bytes(b"x")
    assert content.parse_digest(digest) == hashlib.sha256(b"x").hexdigest()
    assert json.loads(content.canonical_json({"d": digest})) == {"d": digest}
