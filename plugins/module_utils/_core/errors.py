# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception type that a user sees as a failed task."""

from __future__ import annotations

import typing as t


class ModelshipError(Exception):
    """A failure the user can act on.

    :param message: one line that names the offending value and says what to do.
    :param kind: machine-readable class of the failure, returned as ``error_kind``.
    :param details: further return values for the failed task (a table, a traceback, a log tail).
    """

    def __init__(self, message: str, *, kind: str = "input", **details: t.Any) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.details = details
