#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a virtual environment from a hash-locked requirements file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: python_environment
short_description: Make a virtual environment from a hash-locked requirements file
version_added: 0.1.0
description:
  - Makes a virtual environment that has exactly the packages of a locked requirements file, wheels only.
  - Where the requirements and the interpreter are those that the environment was made from, nothing runs.
  - A changed environment is made beside the old one and takes its place when it is whole. A run that fails or is killed
    leaves the old one as it was.
  - Which index and which proxy pip uses is the host's own configuration.
options:
  path:
    description: Where the environment is. This is a link; the environment itself is a folder beside it.
    type: path
    required: true
  state:
    description: Whether it is to be there. With V(absent), its parent folder goes too where nothing else is in it.
    type: str
    choices: [present, absent]
    default: present
  requirements:
    description: The text of the requirements file. Each requirement has its C(--hash). Required when it is to be there.
    type: str
  python:
    description: The interpreter, a path or a name on E(PATH).
    type: str
    default: python3
  minimum_python:
    description: The oldest fit version.
    type: str
    default: "3.11"
  wheelhouse:
    description: Folder with all the wheels. With it, pip asks no index.
    type: path
  large:
    description: Packages known to be large. A second pip unpacks them beside the others.
    type: list
    elements: str
    default: []
  check_imports:
    description:
      - Modules that are imported once when the environment is made.
      - It proves that they work, and leaves their bytecode, which halves the time of their next import.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - modelship.core.attributes
  - modelship.core.progress
author:
  - The modelship authors (@modelship)
"""

EXAMPLES = r"""
- name: Make the trainer's environment
  modelship.core.python_environment:
    path: /var/lib/modelship/trainer/venv
    requirements: "{{ lookup('ansible.builtin.file', 'trainer.txt') }}"
    large: [tensorflow-cpu]
    check_imports: [tensorflow]
"""

RETURN = r"""
environment:
  description: The environment and the interpreter it is made with.
  returned: success
  type: dict
  contains:
    path:
      description: Where it is.
      type: str
      returned: success
    needed:
      description: Whether it was not as wanted.
      type: bool
      returned: when present
    python:
      description: Its interpreter.
      type: str
      returned: when present
    version:
      description: Version of Python.
      type: str
      returned: when present
    venv:
      description: Whether the base interpreter can make environments.
      type: bool
      returned: when present
output:
  description: The last lines of what pip said.
  returned: when the installation fails
  type: list
  elements: str
error_kind:
  description: Class of the failure, as V(missing), V(install), V(disk_full).
  returned: failure
  type: str
"""

from ansible_collections.modelship.core.plugins.module_utils._core.discretion import DiscreetModule
from ansible_collections.modelship.core.plugins.module_utils._core.runner import PROGRESS_OPTION, run
from ansible_collections.modelship.core.plugins.module_utils._python.environment import ensure_environment


def main() -> None:
    """Run the module."""
    module = DiscreetModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "requirements": {"type": "str"},
            "python": {"type": "str", "default": "python3"},
            "minimum_python": {"type": "str", "default": "3.11"},
            "wheelhouse": {"type": "path"},
            "large": {"type": "list", "elements": "str", "default": []},
            "check_imports": {"type": "list", "elements": "str", "default": []},
            **PROGRESS_OPTION,
        },
        required_if=[("state", "present", ["requirements"])],
        supports_check_mode=True,
    )
    run(module, ensure_environment)


if __name__ == "__main__":
    main()
