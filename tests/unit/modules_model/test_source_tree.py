"""source_tree on the host: what differs, what is sent, and that the folder is exchanged as a whole."""

from __future__ import annotations

import os
import typing as t
import zipfile
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core import source_tree as logic
from ansible_collections.modelship.core.plugins.module_utils._core.content import tree_digest, tree_files
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome


class Copy:
    """What the action plugin does, without a connection."""

    def __init__(self, folder: Path) -> None:
        self.src = folder / "src"
        self.dest = folder / "host" / "dest"
        self.sent: list[str] = []
        self._folder = folder
        self.write("a.py", "a")
        self.write("sub/b.txt", "b")

    def write(self, name: str, text: str) -> None:
        path = self.src / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def module(self, *, check: bool = False, force: bool = False, archive: str | None = None) -> Outcome:
        parameters: dict[str, t.Any] = {
            "src": str(self.src),
            "dest": str(self.dest),
            "force": force,
            "_tree": tree_files(str(self.src)),
            "_archive": archive,
        }
        return logic.source_tree(parameters, Context(check=check))

    def run(self, *, force: bool = False) -> Outcome:
        outcome = self.module(force=force)
        self.sent = outcome.result.get("_wanted", [])
        if not self.sent and not outcome.changed:
            return outcome
        archive = self._folder / "tree.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            for name in self.sent:
                packed.write(self.src / name, name)
        return self.module(force=force, archive=str(archive))


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_the_copy_has_the_content_and_a_second_run_changes_nothing(copy: Copy) -> None:
    outcome = copy.run()
    assert outcome.changed
    assert tree_files(str(copy.dest)) == tree_files(str(copy.src))
    assert outcome.result["tree"] == {
        "digest": tree_digest(str(copy.src)),
        "path": str(copy.dest),
        "files": tree_files(str(copy.src)),
    }
    again = copy.run()
    assert not again.changed
    assert again.difference is not None
    assert again.difference.names == []
    assert again.result == outcome.result


def test_only_what_differs_is_sent_and_what_is_gone_goes(copy: Copy) -> None:
    copy.run()
    copy.write("a.py", "new")
    copy.write("c.py", "c")
    (copy.src / "sub" / "b.txt").unlink()
    copy.write("sub/d.txt", "d")
    (copy.dest / "stray.py").write_text("stray")
    outcome = copy.run()
    assert sorted(copy.sent) == ["a.py", "c.py", "sub/d.txt"]
    assert outcome.message.endswith("2 added, 1 changed, 2 removed")
    assert outcome.difference is not None
    assert outcome.difference.names == ["a.py", "c.py", "stray.py", "sub/b.txt", "sub/d.txt"]
    assert tree_files(str(copy.dest)) == tree_files(str(copy.src))


def test_check_mode_tells_and_changes_nothing(copy: Copy) -> None:
    outcome = copy.module(check=True)
    assert outcome.changed
    assert outcome.result["tree"]["path"] is None
    assert "_wanted" not in outcome.result
    assert not copy.dest.parent.exists()
    copy.run()
    assert not copy.module(check=True).changed


def test_caches_and_dot_files_do_not_count(copy: Copy) -> None:
    copy.write("__pycache__/a.pyc", "x")
    copy.write(".git/config", "x")
    copy.run()
    assert not (copy.dest / ".git").exists()
    (copy.dest / "__pycache__").mkdir()
    (copy.dest / "__pycache__" / "a.pyc").write_text("y")
    assert not copy.run().changed


def test_modes_are_the_same_whatever_the_source_and_the_umask_say(copy: Copy) -> None:
    (copy.src / "a.py").chmod(0o700)
    before = os.umask(0o077)
    try:
        copy.run()
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in [copy.dest, *copy.dest.rglob("*")]}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o755}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o644}


def test_a_folder_with_somebody_elses_files_is_left_alone_unless_forced(copy: Copy) -> None:
    copy.dest.mkdir(parents=True)
    (copy.dest / "thesis.txt").write_text("ten years of work")
    with pytest.raises(ModelshipError, match="did not put there") as caught:
        copy.run()
    assert caught.value.kind == "foreign"
    assert (copy.dest / "thesis.txt").read_text() == "ten years of work"
    copy.run(force=True)
    assert tree_files(str(copy.dest)) == tree_files(str(copy.src))


def test_an_empty_folder_may_be_filled(copy: Copy) -> None:
    copy.dest.mkdir(parents=True)
    assert copy.run().changed


def test_a_link_at_dest_is_followed(copy: Copy, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere" / "real"
    real.mkdir(parents=True)
    copy.dest.parent.mkdir()
    copy.dest.symlink_to(real)
    outcome = copy.run()
    assert outcome.result["tree"]["path"] == str(real)
    assert copy.dest.is_symlink()
    assert tree_files(str(real)) == tree_files(str(copy.src))


def test_a_file_at_dest_is_named(copy: Copy) -> None:
    copy.dest.parent.mkdir()
    copy.dest.write_text("a file")
    with pytest.raises(ModelshipError, match="not a folder"):
        copy.run()


def test_a_failed_run_leaves_the_old_folder_and_no_rest(copy: Copy, tmp_path: Path) -> None:
    copy.run()
    old = tree_files(str(copy.dest))
    copy.write("a.py", "new")
    archive = tmp_path / "wrong.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a.py", "changed after it was hashed")
    with pytest.raises(ModelshipError, match="changed while"):
        copy.module(archive=str(archive))
    assert tree_files(str(copy.dest)) == old
    assert sorted(path.name for path in copy.dest.parent.iterdir()) == ["dest"]


def test_what_a_killed_run_left_behind_goes(copy: Copy) -> None:
    left = copy.dest.parent / ".new-dest-killed"
    other = copy.dest.parent / ".new-other-running"
    left.mkdir(parents=True)
    other.mkdir()
    copy.run()
    assert not left.exists()
    assert other.exists()


@pytest.mark.parametrize("exchange", [True, False])
def test_replacing_works_with_and_without_an_exchange_in_one_step(
    copy: Copy, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(logic, "_exchange", lambda _one, _other: False)
    copy.run()
    copy.write("a.py", "new")
    copy.run()
    assert tree_files(str(copy.dest)) == tree_files(str(copy.src))
    assert sorted(path.name for path in copy.dest.parent.iterdir()) == ["dest"]


def test_the_exchange_in_one_step_is_real(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    (one / "1").touch()
    if not logic._exchange(str(one), str(other)):
        pytest.skip("this file system cannot exchange two names in one step")
    assert (other / "1").exists()
    assert not (one / "1").exists()
    assert not logic._exchange(str(one), str(tmp_path / "missing"))


def test_without_the_action_plugin_it_says_so() -> None:
    with pytest.raises(ModelshipError, match="action plugin"):
        logic.source_tree(
            {"src": "/a", "dest": "/b", "force": False, "_tree": None, "_archive": None}, Context(check=True)
        )
