# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The attributes that every module of the collection documents."""

from __future__ import annotations


class ModuleDocFragment:
    """``modelship.core.attributes``: full check mode, diff and idempotence."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return what would change, without changing anything.
    support: full
  diff_mode:
    description: Returns what has changed, or would in C(check_mode), in diff mode.
    support: full
  idempotent:
    description: When run twice with the same inputs, the second run changes nothing.
    support: full
"""
