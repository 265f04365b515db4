# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that the model modules share."""

from __future__ import annotations


class ModuleDocFragment:
    """``modelship.core.model.<name>``: one fragment an option group, all lower case."""

    RELEASES = r"""
options:
  releases:
    description:
      - Folder that holds the releases, as C(<releases>/<name>/<64 hex digits>/). It is made where it does not exist.
      - Releases are never changed and never removed by this module.
    type: path
    required: true
"""

    WORK = r"""
options:
  work:
    description:
      - Folder for checkpoints, from which a killed run continues.
      - The default is the folder C(.work) in O(releases).
    type: path
"""

    OVERRIDES = r"""
options:
  parameters:
    description:
      - Parameters that override those of C(model.yml), by name. Unknown names are errors.
    type: dict
    default: {}
  data:
    description:
      - Replaces the key C(data) of C(model.yml), with the same keys; empty for the project's own data.
    type: dict
    default: {}
"""
