"""Layers: the same content gives the same bytes, whatever the machine, the time and the order."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.content import sha256_bytes, sha256_file
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._oci import layers
from ansible_collections.modelship.core.plugins.module_utils._oci.bases import measure
from ansible_collections.modelship.core.plugins.module_utils._oci.tree import (
    FOLDER,
    HARDLINK,
    SYMLINK,
    Entry,
    Excludes,
    Tree,
)

LONG = "opt/" + "/".join(["a-rather-long-folder-name"] * 8) + "/fichier-é.txt"


def sample(order: int = 1) -> Tree:
    tree = Tree()
    paths = ["b/one", "a/two", LONG][::order]
    for path in paths:
        tree.add_bytes(path, path.encode() * 50_000)
    tree.add("tmp", Entry(FOLDER, 0o1777))
    tree.add("z", Entry(SYMLINK, target="a/two"))
    tree.add("a/again", Entry(HARDLINK, target="b/one"))
    return tree


@pytest.mark.parametrize("compress", [True, False])
def test_same_bytes_whatever_order_and_umask(tmp_path: Path, compress: bool) -> None:
    first = layers.write_layer(sample(), "base", str(tmp_path / "1"), compress=compress)
    previous = os.umask(0o077)
    try:
        second = layers.write_layer(sample(-1), "base", str(tmp_path / "2"), compress=compress)
    finally:
        os.umask(previous)
    assert first == second
    blob = tmp_path / "1" / first.digest.split(":")[1]
    assert sha256_file(str(blob)) == first.digest
    assert blob.stat().st_size == first.size
    assert measure(str(blob)) == (first.diff_id, first.uncompressed_size)


def test_same_bytes_whatever_number_of_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = layers.write_layer(sample(), "base", str(tmp_path / "1"))
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(layers, "_AHEAD", 14)
    assert layers.write_layer(sample(), "base", str(tmp_path / "2")) == first


def test_content_owners_times_and_modes(tmp_path: Path) -> None:
    layer = layers.write_layer(sample(), "base", str(tmp_path))
    data = gzip.decompress((tmp_path / layer.digest.split(":")[1]).read_bytes())
    assert sha256_bytes(data) == layer.diff_id
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {member.name: member for member in archive}
        text = archive.extractfile(LONG)
        assert text is not None
        assert text.read() == LONG.encode() * 50_000
    assert {(member.uid, member.gid, member.mtime) for member in members.values()} == {(0, 0, 0)}
    assert members["tmp"].mode == 0o1777
    assert members["b/one"].mode == 0o644
    assert members["z"].linkname == "a/two"
    assert members["a/again"].islnk()
    names = list(members)
    assert names.index("a/again") > names.index("b/one")
    assert "opt/a-rather-long-folder-name" in names


def test_gzip_header_has_neither_time_nor_name(tmp_path: Path) -> None:
    layer = layers.write_layer(sample(), "base", str(tmp_path))
    assert (tmp_path / layer.digest.split(":")[1]).read_bytes()[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"


def test_a_file_that_shrinks_while_it_is_read_fails_and_leaves_nothing(tmp_path: Path) -> None:
    tree = Tree()
    tree.add("x", Entry("file", 0o644, 10, lambda: io.BytesIO(b"short")))
    with pytest.raises(ModelshipError, match="x changed while it was read"):
        layers.write_layer(tree, "base", str(tmp_path / "blobs"))
    assert list((tmp_path / "blobs").iterdir()) == []


def test_a_settled_blob_is_trusted_until_it_is_touched(tmp_path: Path) -> None:
    layer = layers.write_layer(sample(), "base", str(tmp_path))
    blob = tmp_path / layer.digest.split(":")[1]
    assert layers.is_settled(str(blob), layer.size)
    blob.chmod(0o644)
    with blob.open("r+b") as stream:
        stream.write(b"?")
    assert not layers.is_settled(str(blob), layer.size)


@pytest.mark.parametrize("path", ["../etc/passwd", "a/../../b", "/etc/passwd", "", "a//b", "./a"])
def test_paths_that_leave_the_image_are_refused(path: str) -> None:
    with pytest.raises(ModelshipError, match="no path inside an image"):
        Tree().add_bytes(path, b"")


def test_the_last_pattern_that_matches_decides() -> None:
    excludes = Excludes(["# comment", "usr/share/doc/*", "!usr/share/doc/*/copyright", "", "*.pyi"])
    assert "usr/share/doc/a/README" in excludes
    assert "usr/share/doc/a/copyright" not in excludes
    assert "numpy/x.pyi" in excludes
    assert "numpy/x.py" not in excludes
