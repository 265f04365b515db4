# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option through which a long module's action plugin shows its progress."""

from __future__ import annotations


class ModuleDocFragment:
    """``modelship.core.progress``: for modules with ``PROGRESS_OPTION``."""

    DOCUMENTATION = r"""
options:
  _progress:
    description:
      - Set by the action plugin, for live progress. Not for use in tasks.
    type: path
"""
