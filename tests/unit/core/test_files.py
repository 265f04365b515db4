from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core import files
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError


def test_write_atomic_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    files.write_atomic(str(target), b"one")
    files.write_atomic(str(target), b"two", mode=0o600)
    assert target.read_bytes() == b"two"
    assert target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(target.parent) == ["file"]


def test_write_atomic_on_a_full_disk_keeps_the_old_file() -> None:
    # /dev/full refuses every write; the same errno is what a full disk gives
    with pytest.raises(ModelshipError, match="no space left") as caught, files.explained("/some/file"):
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")
    assert caught.value.kind == "disk_full"


def test_new_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = str(tmp_path / "release")
    with pytest.raises(RuntimeError), files.new_folder(target) as temporary:
        Path(temporary, "half").write_text("x")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with files.new_folder(target) as temporary:
        Path(temporary, "whole").write_text("x")
    assert os.listdir(tmp_path) == ["release"]
    assert os.listdir(target) == ["whole"]


def test_explained_names_the_file() -> None:
    with pytest.raises(ModelshipError, match="cannot use /no/such: "), files.explained("/no/such"):
        raise OSError(errno.EACCES, "Permission denied", "/no/such")


def test_a_second_run_is_told_that_another_works_here(tmp_path: Path) -> None:
    lock = str(tmp_path / "lock")
    with files.locked(lock):
        with pytest.raises(ModelshipError, match="another run is working here") as caught, files.locked(lock):
            pass
        assert caught.value.kind == "locked"
    with files.locked(lock):
        pass
