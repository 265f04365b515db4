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

    CONFINEMENT = r"""
options:
  confinement:
    description:
      - How a model that somebody else made is read.
      - With V(required) by an unprivileged process without network, that sees nothing of the host but copies of the model and
        the samples and the trainer's environment, with limits of memory and time. Where the host offers no way to confine a
        process so, the task fails and nothing is read.
      - With V(none) unconfined, with the rights of the task. For a model that you trust as you trust a program.
      - Releases of M(modelship.core.model_train) are the user's own and are never confined.
    type: str
    choices: [required, none]
    default: required
  memory:
    description:
      - Memory that the confined process may use, such as V(8g) or V(4096m).
      - The default is 8 GiB, or three quarters of the host's where that is less.
    type: str
"""
