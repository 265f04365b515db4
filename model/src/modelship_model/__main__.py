# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``python -m modelship_model COMMAND``: one JSON request on stdin, JSON-lines events on stdout."""

from __future__ import annotations

import sys

from .cli import main


def run() -> int:
    """Run the command named on the command line; the exit code."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run())
