"""Unpacking a base: whiteouts, links, and layers that try to leave their folder."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import tracemalloc
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._oci.bases import measure
from ansible_collections.modelship.core.plugins.module_utils._oci.bytecode import elf_interpreter
from ansible_collections.modelship.core.plugins.module_utils._oci.roots import Budget, Facts, look, resolve, unpack


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


@pytest.mark.parametrize("target", ["/", "../..", "/usr/../.."])
def test_a_link_is_followed_inside_the_root(tmp_path: Path, target: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    unpack(layer(tmp_path / "1", ("out", f"-> {target}"), ("out/etc/file", b"x")), str(root))
    assert (root / "etc/file").read_bytes() == b"x"
    assert sorted(os.listdir(tmp_path)) == ["1", "root"]


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh...", "a/b/.wh..."])
def test_a_whiteout_of_the_parent_directory_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    (tmp_path / "beside").write_bytes(b"mine")
    with pytest.raises(ModelshipError, match=r"whiteout '.*' names no file"):
        unpack(layer(tmp_path / "1", (name, b"")), str(root))
    assert (root / "a/b").is_dir()
    assert (tmp_path / "beside").read_bytes() == b"mine"


def test_whiteouts_of_a_storage_driver_delete_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    unpack(layer(tmp_path / "1", (".wh.plnk", b"kept"), ("wh.plnk", b"kept"), (".wh..wh.plnk", b"")), str(root))
    assert os.listdir(root) == ["wh.plnk"]


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(ModelshipError, match="loop of symbolic links"):
        unpack(layer(tmp_path / "1", ("a", "-> b"), ("b", "-> a"), ("a/file", b"x")), str(root))


def test_facts_are_not_read_through_links_out_of_the_root(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "x86_64-linux-gnu").mkdir(parents=True)
    (outside / "python3.12").write_bytes(b"")
    (outside / "x86_64-linux-gnu/libc.so.6").write_bytes(b"GNU C Library stable release version 2.99.")
    root = tmp_path / "root"
    (root / "usr").mkdir(parents=True)
    (root / "usr/bin").symlink_to(outside)
    (root / "lib").symlink_to(outside)
    assert look(str(root)) == Facts()


def test_a_device_in_place_of_the_c_library_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "dev").mkdir()
    (tmp_path / "lib/libc.so.6").symlink_to("/dev/zero")
    assert look(str(tmp_path)).libc == ""


def test_a_base_with_too_many_files_is_refused(tmp_path: Path) -> None:
    blob = layer(tmp_path / "1", *((f"file{number}", b"") for number in range(20)))
    budget = Budget(entries=30)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    unpack(blob, str(tmp_path / "one"), budget)
    with pytest.raises(ModelshipError, match="too many files"):
        unpack(blob, str(tmp_path / "two"), budget)


def test_a_layer_that_unpacks_to_more_than_the_limit_is_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    with gzip.open(bomb, "wb") as stream:
        for _unused in range(64):
            stream.write(b"\0" * (1 << 20))
    assert bomb.stat().st_size < 1 << 18
    tracemalloc.start()
    with pytest.raises(ModelshipError, match=r"unpacks to more than 50\.0 MB.*base\.max_size"):
        measure(str(bomb), 50_000_000)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    with pytest.raises(ModelshipError, match="unpacks to more than"):
        measure(str(bomb), 100_000_000, used=50_000_000)
    assert measure(str(bomb), 100_000_000)[1] == 64 << 20


@pytest.mark.parametrize(
    "packed", [gzip.compress(bytes(100_000))[:50], gzip.compress(b"")[:10]], ids=["data", "header"]
)
def test_a_layer_that_is_cut_off_is_refused(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "blob").write_bytes(packed)
    with pytest.raises(ModelshipError, match=r"is damaged \(it is cut off\)"):
        measure(str(tmp_path / "blob"))


def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    plain = Path(layer(tmp_path / "plain", ("noise", os.urandom(100_000)))).read_bytes()
    (tmp_path / "blob").write_bytes(gzip.compress(plain)[:50_000])
    (tmp_path / "root").mkdir()
    with pytest.raises(ModelshipError, match="is not a tar archive"):
        unpack(str(tmp_path / "blob"), str(tmp_path / "root"))


@pytest.mark.parametrize("compress", [lzma.compress, bz2.compress])
def test_an_archive_that_unpacks_to_more_than_was_measured_is_refused(
    tmp_path: Path, compress: t.Callable[[bytes], bytes]
) -> None:
    plain = Path(layer(tmp_path / "plain", ("zeros", bytes(1 << 20)))).read_bytes()
    (tmp_path / "blob").write_bytes(compress(plain))
    assert measure(str(tmp_path / "blob"))[1] < 1 << 16
    (tmp_path / "root").mkdir()
    with pytest.raises(ModelshipError, match="is not a tar archive"):
        unpack(str(tmp_path / "blob"), str(tmp_path / "root"))
    assert list((tmp_path / "root").iterdir()) == []


def sparse(path: Path, **headers: str) -> str:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("holes")
        info.size, info.pax_headers = 512, {f"GNU.sparse.{name}": value for name, value in headers.items()}
        archive.addfile(info, io.BytesIO(bytes(512)))
    return str(path)


def test_a_sparse_file_is_refused_before_anything_of_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    blob = sparse(tmp_path / "1", map=f"0,512,{1 << 45},0", size=str(1 << 45))
    with pytest.raises(ModelshipError, match="'holes' is a sparse file of 35,184,372,088,832 bytes"):
        unpack(blob, str(tmp_path / "root"))
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize("headers", [{"map": "a,b", "size": "x"}, {"major": "1", "minor": "0", "name": "../../x"}])
def test_a_malformed_sparse_header_is_reported(tmp_path: Path, headers: dict[str, str]) -> None:
    (tmp_path / "root").mkdir()
    with pytest.raises(ModelshipError, match="is not a tar archive"):
        unpack(sparse(tmp_path / "1", **headers), str(tmp_path / "root"))


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (("hard", "=> ../secret"), "entry 'hard', a link to '../secret', cannot be unpacked"),
        (("hard", "=> missing"), "entry 'hard', a link to 'missing', cannot be unpacked"),
        (("hard", "=> hard"), "entry 'hard', a link to 'hard', cannot be unpacked"),
        (("hard", "=> ."), "entry 'hard', a link to '.', cannot be unpacked"),
        (("soft", "-> " + "x" * 5000), "entry 'soft', a link to 'xxx"),
        (("soft", "-> "), "entry 'soft' cannot be unpacked"),
        (("x" * 300, b""), "cannot be unpacked (file name too long)"),
        (("/".join(["d"] * 3000), b""), "too deep"),
    ],
)
def test_an_entry_that_cannot_be_unpacked_is_named(tmp_path: Path, member: tuple[str, str | bytes], words: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_bytes(b"untouched")
    with pytest.raises(ModelshipError) as caught:
        unpack(layer(tmp_path / "1", member), str(root))
    assert (caught.value.kind, words in caught.value.message, len(caught.value.message) < 400) == ("base", True, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "root", "secret"]


@pytest.mark.parametrize("last", [True, False])
def test_whiteouts_hide_lower_layers_alone_wherever_they_stand(tmp_path: Path, last: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    unpack(layer(tmp_path / "1", ("d/old", b"1"), ("d/sub/old", b"1"), ("e/file", b"1"), ("f/old", b"1")), str(root))
    files: list[tuple[str, str | bytes]] = [("d/new", b"2"), ("d/sub/new", b"2"), ("e/file", b"2"), ("f/new", b"2")]
    whiteouts: list[tuple[str, str | bytes]] = [("d/.wh..wh..opq", b""), ("e/.wh.file", b""), (".wh.f", b"")]
    unpack(layer(tmp_path / "2", *(files + whiteouts if last else whiteouts + files)), str(root))
    assert {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()} == {
        "d/new": b"2",
        "d/sub/new": b"2",
        "e/file": b"2",
        "f/new": b"2",
    }


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
