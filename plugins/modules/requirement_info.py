#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what a host lacks of the programs, files and Python modules that are needed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: requirement_info
short_description: Tell what a host lacks of the programs, files and Python modules that are needed
version_added: 0.1.0
description:
  - Looks for everything in one task, which is faster than a task for each and than reading the list of all packages.
options:
  programs:
    description: Names of programs on E(PATH), C(sbin) included, or absolute paths.
    type: list
    elements: str
    default: []
  files:
    description: Paths of files or folders.
    type: list
    elements: path
    default: []
  modules:
    description: Names of modules that the interpreter of this task can import.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - modelship.core.attributes.info
author:
  - The modelship authors (@modelship)
"""

EXAMPLES = r"""
- name: See whether images can be built here
  modelship.core.requirement_info:
    programs: [mmdebstrap]
    modules: [docker]
  register: found
"""

RETURN = r"""
missing:
  description: What is not there.
  returned: success
  type: dict
  contains:
    programs:
      description: Programs.
      type: list
      elements: str
      returned: success
    files:
      description: Files.
      type: list
      elements: str
      returned: success
    modules:
      description: Python modules.
      type: list
      elements: str
      returned: success
complete:
  description: Whether nothing is missing.
  returned: success
  type: bool
interpreter:
  description: The Python interpreter that was asked for the modules.
  returned: success
  type: str
error_kind:
  description: C(permission), where a file is in a directory that may not be searched, so that nobody knows whether it exists.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelship.core.plugins.module_utils._core.runner import run
from ansible_collections.modelship.core.plugins.module_utils._host.requirements import look


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "programs": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "list", "elements": "path", "default": []},
            "modules": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    run(module, look)


if __name__ == "__main__":
    main()
