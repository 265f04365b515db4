from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core import files
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError

ROOT = Path(__file__).resolve().parents[3]


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


def test_a_lock_file_is_private_and_deleted_at_the_end(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with files.locked(str(lock)):
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == []


def test_a_lock_file_that_a_killed_run_left_is_used_and_made_private(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch(mode=0o644)
    with files.locked(str(lock)):
        assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    assert not lock.exists()


def test_a_hard_link_to_another_file_is_no_lock_file(tmp_path: Path) -> None:
    lock, other = tmp_path / "lock", tmp_path / "other"
    other.touch(mode=0o644)
    lock.hardlink_to(other)
    with pytest.raises(ModelshipError, match=f"{lock} is a hard link to another file"), files.locked(str(lock)):
        pass
    assert stat.S_IMODE(other.stat().st_mode) == 0o644
    assert lock.exists()


def test_a_run_that_opened_a_lock_file_just_before_it_was_deleted_locks_the_new_one(tmp_path: Path) -> None:
    """Many processes at once: never two of them inside, and no file in the end."""
    lock, inside = str(tmp_path / "lock"), tmp_path / "inside"
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.modelship.core.plugins.module_utils._core import errors, files\n"
        "import os, time\n"
        "entered = 0\n"
        "end = time.monotonic() + 3\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        with files.locked(sys.argv[2]):\n"
        "            os.close(os.open(sys.argv[3], os.O_CREAT | os.O_EXCL))\n"
        "            os.unlink(sys.argv[3])\n"
        "            entered += 1\n"
        "    except errors.ModelshipError as exc:\n"
        "        assert exc.kind == 'locked', exc\n"
        "print(entered)\n"
    )
    command = [sys.executable, "-c", script, str(ROOT / ".build"), lock, str(inside)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    told = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0], told
    assert all(int(out) > 0 for out, _err in told)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_a_lock_file_that_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    lock, target = tmp_path / "lock", tmp_path / "target"
    target.write_text("precious")
    if kind == "link":
        lock.symlink_to(target)
    elif kind == "directory":
        lock.mkdir()
    else:
        os.mkfifo(lock)
    with pytest.raises(ModelshipError, match=f"{lock} is not a regular file") as caught, files.locked(str(lock)):
        pass
    assert caught.value.kind == "file"
    assert os.path.lexists(lock)
    assert (target.read_text(), stat.S_IMODE(target.stat().st_mode)) == ("precious", 0o644)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED, only root can give files to another user")
def test_a_lock_file_of_another_user_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    os.chown(lock, 65534, 65534)
    with pytest.raises(ModelshipError, match=f"{lock} belongs to user 65534"), files.locked(str(lock)):
        pass
    os.chown(tmp_path, 65534, 65534)  # the directory's owner decides about all that is in it anyway
    with files.locked(str(lock)):
        pass


_NAMED = (
    "import os, stat, sys; os.setuid(int(sys.argv[2])); sys.path.insert(0, sys.argv[1])\n"
    "from ansible_collections.modelship.core.plugins.module_utils._core import files\n"
    "with files.locked_by_name('digits'):\n"
    "    folder = files.lock_directory()\n"
    "    print(folder, os.stat(folder).st_uid, oct(os.stat(folder).st_mode & 0o7777), 'digits.lock' in os.listdir(folder))\n"
    "print(os.path.exists(folder))\n"
)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED, only root can become another user")
def test_each_user_has_a_private_directory_for_locks() -> None:
    tree = tempfile.mkdtemp(dir="/tmp")
    try:
        shutil.copytree(ROOT / "plugins", f"{tree}/ansible_collections/modelship/core/plugins")
        os.chmod(tree, 0o755)
        done = {
            user: subprocess.run(
                ["/usr/bin/python3", "-c", _NAMED, tree, str(user)],
                capture_output=True,
                text=True,
                check=True,
                env={},
            ).stdout.split("\n")
            for user in (0, 65534)
        }
    finally:
        shutil.rmtree(tree)
    assert done[0][0] == "/run/modelship 0 0o700 True"
    folder, owner, mode, private = done[65534][0].split()
    assert folder != "/run/modelship"
    assert (owner, mode, private) == ("65534", "0o700", "True")
    assert done[65534][1] == "False"


def test_a_directory_for_locks_of_another_user_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign, link, own = tmp_path / "foreign", tmp_path / "link", tmp_path / "own"
    foreign.mkdir()
    if os.geteuid() == 0:
        os.chown(foreign, 65534, 65534)
    else:
        foreign = Path("/")
    link.symlink_to(tmp_path)
    monkeypatch.setattr(files, "_lock_directories", lambda: [str(foreign), str(link), str(own)])
    assert files.lock_directory() == str(own)
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    monkeypatch.setattr(files, "_lock_directories", lambda: [str(foreign), str(link)])
    with pytest.raises(ModelshipError, match=f"{link}: is not a directory") as caught:
        files.lock_directory()
    assert str(foreign) in caught.value.message


def test_what_may_not_be_seen_is_not_reported_as_missing(tmp_path: Path) -> None:
    assert files.exists(str(tmp_path))
    assert not files.exists(str(tmp_path / "nothing"))
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from ansible_collections.modelship.core.plugins.module_utils._core import errors, files\n"
        "os.geteuid() or os.seteuid(65534)\n"
        "try:\n"
        "    print(files.exists(sys.argv[2]))\n"
        "except errors.ModelshipError as exc:\n"
        "    print(exc.kind, exc.message)\n"
    )
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    command = [sys.executable, "-c", script, str(ROOT / ".build"), str(closed / "file")]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"permission permission denied on {closed}/file: run as root (become: true)"), told
