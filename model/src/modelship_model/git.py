# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which commit a project's folder is at."""

from __future__ import annotations

import subprocess
import typing as t


def git_state(folder: str) -> dict[str, t.Any]:
    """Return ``{"commit", "dirty"}``: the last commit that touched *folder*, and whether it differs from that.

    Asked about the folder alone, so that commits elsewhere in the repository make no new release. Outside of a
    repository, or without git, the commit is ``None``.
    """
    commit = _git(folder, "log", "-1", "--format=%H", "--", ".")
    if not commit:
        return {"commit": None, "dirty": False}
    return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", "."))}


def _git(folder: str, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
