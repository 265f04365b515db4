# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder on the host that is an exact copy, by content, of a folder on the controller."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import tempfile
import typing as t
import zipfile

from .content import canonical_json, sha256_bytes, tree_files
from .diff import Difference
from .errors import ModelshipError
from .files import explained, locked
from .runner import Context, Outcome

#: Marks a folder as made here, so that nothing else is ever replaced; a dot file, and so no part of the content. It holds
#: ``{"digest": "sha256:…", "git": {"commit": "…", "dirty": bool} or null}``: where the content came from.
MARKER = ".modelship-tree"

_FOLDER_MODE = 0o755
_FILE_MODE = 0o644

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2

SPEC: dict[str, t.Any] = {
    "src": {"type": "path", "required": True},
    "dest": {"type": "path", "required": True},
    "force": {"type": "bool", "default": False},
    # from the action plugin: what src holds, the archive of what dest lacks, and the commit they are from
    "_tree": {"type": "dict"},
    "_archive": {"type": "path"},
    "_git": {"type": "dict"},
}


def source_tree(parameters: dict[str, t.Any], context: Context) -> Outcome:
    """Compare ``dest`` with the files named in ``_tree`` and replace it where they differ.

    Without ``_archive`` nothing is changed: the result's ``_wanted`` names the files to send.

    :raises ModelshipError: dest is not a folder, or one that was not made here; the disk is full.
    """
    tree: dict[str, str] | None = parameters["_tree"]
    if not tree:
        raise ModelshipError("source_tree works through its action plugin only: call it as a task")
    dest = os.path.realpath(parameters["dest"])
    if os.path.exists(dest) and not os.path.isdir(dest):
        raise ModelshipError(f"dest: {dest} is not a folder: remove it, or choose another path")
    with explained(dest):
        present = tree_files(dest) if os.path.isdir(dest) else {}
    difference = Difference(dest)
    for name in sorted(present.keys() | tree.keys()):
        difference.add(name, present.get(name), tree.get(name))
    result = {"tree": {"digest": sha256_bytes(canonical_json(tree)), "path": dest, "files": tree}}
    if not difference:
        return Outcome(False, result, difference, f"{dest} is up to date")
    _refuse_foreign(dest, parameters["force"])
    counts = _counts(present, tree)
    if context.check:
        result["tree"]["path"] = None
        return Outcome(True, result, difference, f"{dest} would be updated: {counts}")
    if parameters["_archive"] is None:
        wanted = [name for name, digest in tree.items() if present.get(name) != digest]
        return Outcome(True, {**result, "_wanted": wanted}, difference)
    marker = {"digest": result["tree"]["digest"], "git": parameters.get("_git")}
    _replace(dest, tree, present, parameters["_archive"], marker)
    return Outcome(True, result, difference, f"{dest} updated: {counts}")


def _counts(present: t.Mapping[str, str], tree: t.Mapping[str, str]) -> str:
    added = len(tree.keys() - present.keys())
    removed = len(present.keys() - tree.keys())
    changed = sum(present[name] != tree[name] for name in present.keys() & tree.keys())
    return f"{added} added, {changed} changed, {removed} removed"


def _refuse_foreign(dest: str, force: bool) -> None:
    if force or not os.path.isdir(dest) or os.path.exists(os.path.join(dest, MARKER)):
        return
    with explained(dest):
        if os.listdir(dest):
            raise ModelshipError(
                f"dest: {dest} holds files that source_tree did not put there: choose another folder, remove it, "
                "or set force: true to replace it as a whole",
                kind="foreign",
            )


def _replace(dest: str, tree: t.Mapping[str, str], present: t.Mapping[str, str], archive: str, marker: t.Any) -> None:
    """Build the new folder beside *dest* and put it in its place; a kill leaves the old one or the new one there."""
    parent, base = os.path.split(dest)
    prefix = f".new-{base}-"
    with locked(os.path.join(parent, f".{base}.lock")), explained(dest):
        for name in os.listdir(parent):  # left by a run that was killed
            if name.startswith(prefix):
                shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
        new = tempfile.mkdtemp(dir=parent, prefix=prefix)
        try:
            _fill(new, dest, tree, present, archive)
            _mark(new, marker)
            if tree_files(new) != tree:
                raise ModelshipError(
                    "the source changed while it was being copied: run again", kind="changed_meanwhile"
                )
            _put_in_place(new, dest)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _fill(new: str, old: str, tree: t.Mapping[str, str], present: t.Mapping[str, str], archive: str) -> None:
    os.chmod(new, _FOLDER_MODE)
    with zipfile.ZipFile(archive) as sent:
        for name, digest in tree.items():
            path = os.path.join(new, name)
            folder = os.path.dirname(path)
            _make_folders(folder)
            if present.get(name) == digest:
                shutil.copyfile(os.path.join(old, name), path)
            else:
                with sent.open(name) as source, open(path, "wb") as target:
                    shutil.copyfileobj(source, target)
            os.chmod(path, _FILE_MODE)


def _mark(folder: str, content: t.Any) -> None:
    path = os.path.join(folder, MARKER)
    with open(path, "wb") as stream:
        stream.write(canonical_json(content))
    os.chmod(path, _FILE_MODE)


def _make_folders(folder: str) -> None:
    """Make *folder* and its parents with mode 0755 whatever the umask is."""
    if not os.path.isdir(folder):
        _make_folders(os.path.dirname(folder))
        os.mkdir(folder)
        os.chmod(folder, _FOLDER_MODE)


def _put_in_place(new: str, dest: str) -> None:
    """Give *new* the name *dest*; what was there goes by *new*'s name afterwards."""
    if not os.path.isdir(dest):
        os.rename(new, dest)
        return
    if _exchange(new, dest):
        return
    # not in one step on this file system: the source is on the controller, so a kill between the two loses nothing
    old = new + "-old"
    os.rename(dest, old)
    try:
        os.rename(new, dest)
    except OSError:
        os.rename(old, dest)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: str, other: str) -> bool:
    """Exchange two names in one step (``renameat2(2)`` with ``RENAME_EXCHANGE``); False where that is not known."""
    with contextlib.suppress(OSError, AttributeError):
        renameat2 = ctypes.CDLL(None).renameat2
        return bool(renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)
    return False
