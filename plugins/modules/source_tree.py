#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: source_tree
short_description: Make a folder on the host an exact copy of a folder on the controller
version_added: 0.1.0
author:
  - The modelship authors (@modelship)
description:
  - Compares the two folders by the content of their files, in one call where nothing differs, however many there are.
  - Where something differs, the files that do are sent in one archive, the new folder is built beside the old one, and
    the two are exchanged in one step. Files that the source does not have are gone afterwards.
  - Python's caches (C(__pycache__), C(*.pyc)) and names that begin with a dot are no part of the content.
  - Files get the mode 0644 and folders 0755, whatever they have on the controller.
options:
  src:
    description:
      - The folder on the controller; a relative path is looked up as M(ansible.builtin.copy) does.
    type: path
    required: true
  dest:
    description:
      - The folder on the host. It and its parents are made where they do not exist.
    type: path
    required: true
  force:
    description:
      - Replace a folder with other content that this module did not make. Without it, such a folder is an error and
        stays as it is.
    type: bool
    default: false
  _tree:
    description:
      - Set by the action plugin, what O(src) holds. Not for use in tasks.
    type: dict
  _archive:
    description:
      - Set by the action plugin, the files to put in place. Not for use in tasks.
    type: path
  _git:
    description:
      - Set by the action plugin, the commit that O(src) is at. Not for use in tasks.
    type: dict
extends_documentation_fragment:
  - modelship.core.attributes
seealso:
  - module: ansible.builtin.copy
  - module: modelship.core.model_train
"""

EXAMPLES = r"""
- name: Put the model project on the host
  modelship.core.source_tree:
    src: model/examples/digits
    dest: /var/lib/modelship/projects/digits
  register: project

- name: Train it, or predict the training in check mode
  modelship.core.model_train:
    project: "{{ project.tree.path }}"
    releases: /var/lib/modelship/releases
    trainer_python: /opt/modelship/trainer/bin/python
"""

RETURN = r"""
tree:
  description: The copy.
  returned: always
  type: dict
  contains:
    digest:
      description: Digest of the names and contents of all files.
      type: str
      sample: sha256:5b6f0d6c0c7d4a5f0e6b1fb3a2f7e4dbe5e9f5d0c8f3f8a1d2b7c6a5e4d3c2b1
    path:
      description:
        - Folder from which the content can be read, which is the host's folder with links resolved.
        - In check mode, where that one is not up to date, it is the source folder if the host is the controller itself
          (connection V(local)), and null otherwise.
      type: str
      sample: /var/lib/modelship/projects/digits
    files:
      description: Maps each file, relative to the folder, to the digest of its content.
      type: dict
      sample: {"model.yml": "sha256:0f343b0931126a20f133d67c2b018a3b5f4d4ef4f0c7c5a1a2a0a3a4a5a6a7a8"}
msg:
  description: What was done or would be, in one line.
  returned: always
  type: str
  sample: "/var/lib/modelship/projects/digits updated: 1 added, 1 changed, 0 removed"
error_kind:
  description: Class of the failure, such as V(input), V(foreign), V(file), V(disk_full), V(locked).
  returned: on failure
  type: str
  sample: foreign
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelship.core.plugins.module_utils._core.runner import run
from ansible_collections.modelship.core.plugins.module_utils._core.source_tree import SPEC, source_tree


def main() -> None:
    """Run the module."""
    run(AnsibleModule(argument_spec=SPEC, supports_check_mode=True), source_tree)


if __name__ == "__main__":
    main()
