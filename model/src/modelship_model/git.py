# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which commit a project's folder is at."""

from __future__ import annotations

import json
import os
import re
import subprocess
import typing as t

#: The module ``source_tree`` leaves this in a copied folder: what it was copied from.
MARKER = ".modelship-tree"


def git_state(folder: str) -> dict[str, t.Any]:
    """Return ``{"commit", "dirty"}``: the last commit that touched *folder*, and whether it differs from that.

    Asked about the folder alone, so that commits elsewhere in the repository make no new release. A copied folder tells
    by its marker. Outside of a repository, or without git, the commit is ``None``.
    """
    copied = _marker(folder)
    if copied:
        return copied
    commit = _git(folder, "log", "-1", "--format=%H", "--", ".")
    if not commit:
        return {"commit": None, "dirty": False}
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", "."))}


def _marker(folder: str) -> dict[str, t.Any] | None:
    try:
        with open(os.path.join(folder, MARKER), "rb") as stream:
            state = json.load(stream)["git"]
        commit, dirty = state["commit"], state["dirty"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if commit is not None and not re.fullmatch(r"[0-9a-f]{40,64}", str(commit)):
        return None
    return {"commit": commit, "dirty": bool(dirty)}


def _git(folder: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
