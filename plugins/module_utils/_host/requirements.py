# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has of what is needed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import typing as t

from .._core.files import exists
from .._core.runner import Context, Outcome

#: Administrators' programs are looked for also where a user's PATH does not lead.
_SEARCH = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def look(options: dict[str, t.Any], _context: Context) -> Outcome:
    """Look for programs, files and Python modules; the options are the module's."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_SEARCH])
    missing = {
        "programs": [name for name in options["programs"] if shutil.which(name, path=path) is None],
        "files": [name for name in options["files"] if not exists(name)],
        "modules": [name for name in options["modules"] if not _importable(name)],
    }
    return Outcome(
        changed=False,
        result={"missing": missing, "complete": not any(missing.values()), "interpreter": sys.executable},
    )


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
