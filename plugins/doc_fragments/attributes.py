# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes of modules: check mode, diff mode and idempotence."""

from __future__ import annotations


class ModuleDocFragment:
    """``modelship.core.attributes``: all of them in full; ``modelship.core.attributes.info``: of modules that change nothing."""

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

    # modules that only look
    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return what would change, without changing anything.
    support: full
    details: This action does not modify state.
  diff_mode:
    description: Returns what has changed, or would in C(check_mode), in diff mode.
    support: N/A
    details: This action does not modify state.
  idempotent:
    description: When run twice with the same inputs, the second run changes nothing.
    support: full
    details: This action does not modify state.
"""
