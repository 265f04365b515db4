# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of every module that runs the model side."""

from __future__ import annotations


class ModuleDocFragment:
    """``modelship.core.trainer``: which interpreter has the frameworks, and how it is run."""

    DOCUMENTATION = r"""
options:
  trainer_python:
    description:
      - Path of the Python interpreter that has the frameworks (TensorFlow, scikit-learn). It is run as a process of its
        own, so that Ansible's interpreter needs none of them. The role C(modelship.core.trainer) makes one.
      - Where it does not exist yet, check mode predicts a change instead of failing.
    type: path
    required: true
  trainer_path:
    description:
      - Folder on the host that contains the package C(modelship_model); it is put on E(PYTHONPATH).
      - Leave it out where the package is installed in O(trainer_python).
    type: path
  trainer_environment:
    description:
      - Further environment variables of the process.
      - Values of names that look like a secret's (such as C(HF_TOKEN) or C(DB_PASSWORD)) are kept out of results and
        logs.
    type: dict
    default: {}
  timeout:
    description:
      - Seconds that one call of the model side may take; no limit by default.
      - What was learned by then is kept, and the next run continues from the last checkpoint.
    type: int
notes:
  - The process ends with the task. A run that was interrupted or killed leaves nothing working in the background, and
    can be run again.
"""
