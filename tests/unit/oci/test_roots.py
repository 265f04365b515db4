"""Unpacking a base: whiteouts, links, and layers that try to leave their folder."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._oci.bytecode import elf_interpreter, resolve
from ansible_collections.modelship.core.plugins.module_utils._oci.roots import Facts, look, unpack


def layer(path: Path, *members: tuple[str, str | bytes]) -> str:
    """Write a tar: bytes are a file, ``-> x`` a symbolic link, ``=> x`` a hard link, ``/`` a folder."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
                continue
            kinds = {"->": tarfile.SYMTYPE, "=>": tarfile.LNKTYPE, "/": tarfile.DIRTYPE}
            info.type, info.mode = kinds[content.split(" ")[0]], 0o755
            info.linkname = content.partition(" ")[2]
            archive.addfile(info)
    return str(path)


def test_layers_over_each_other(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    unpack(
        layer(tmp_path / "1", ("a/one", b"1"), ("a/two", b"2"), ("b/x", b"x"), ("c", "-> a"), ("d/y", b"y")), str(root)
    )
    unpack(
        layer(
            tmp_path / "2",
            ("a/.wh.one", b""),
            ("b/.wh..wh..opq", b""),
            ("b/z", b"z"),
            ("e", "=> a/two"),
            ("d", b"file"),
        ),
        str(root),
    )
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["a", "a/two", "b", "b/z", "c", "d", "e"]
    assert (root / "e").read_bytes() == b"2"
    assert (root / "c").is_symlink()
    assert (root / "d").read_bytes() == b"file"


@pytest.mark.parametrize("target", ["/", "../.."])
def test_a_link_does_not_lead_out(tmp_path: Path, target: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(ModelshipError, match="leads out of the image"):
        unpack(layer(tmp_path / "1", ("out", f"-> {target}"), ("out/tmp/evil", b"x")), str(root))
    assert not (tmp_path / "tmp").exists()


def test_dots_stay_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    unpack(layer(tmp_path / "1", ("../../evil", b"x")), str(root))
    assert (root / "evil").read_bytes() == b"x"


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"no archive")
    with pytest.raises(ModelshipError, match="is not a tar archive"):
        unpack(str(tmp_path / "x"), str(tmp_path))


def test_facts(tmp_path: Path) -> None:
    for name in ("usr/bin/python3.9", "usr/bin/python3.11", "usr/bin/python3.11-config"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    library = tmp_path / "usr/lib/x86_64-linux-gnu/libc.so.6"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n\0")
    facts = look(str(tmp_path))
    assert facts == Facts("/usr/bin/python3.11", "3.11", "glibc", "2.36")
    assert facts.python3 == "/usr/bin/python3"
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    (tmp_path / "usr/local/bin/python3.13").write_bytes(b"")
    assert look(str(tmp_path)).python == "/usr/local/bin/python3.13"


def test_links_are_followed_inside_the_root(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/ld").write_bytes(b"")
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "lib64").symlink_to("/lib")
    (tmp_path / "up").symlink_to("../../lib64/ld")
    assert resolve(str(tmp_path), "/lib64/ld") == str(tmp_path / "usr/lib/ld")
    assert resolve(str(tmp_path), "/up") == str(tmp_path / "usr/lib/ld")


def test_the_loader_that_a_program_names() -> None:
    with open("/bin/sh", "rb") as stream:
        interpreter = elf_interpreter(stream.read(1 << 16))
    assert interpreter
    assert os.path.exists(interpreter)
    assert elf_interpreter(b"#!/bin/sh\n") == ""
