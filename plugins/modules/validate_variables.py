#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: validate_variables
short_description: Validate the variables of this collection's roles and playbooks, all at once
version_added: 0.1.0
author:
  - The modelship authors (@modelship)
description:
  - Compares the variables of the host with the argument specifications of the collection's roles and reports every value
    that cannot be used, before anything is changed.
  - Stricter than the validation that Ansible itself does when a role starts. A list or a mapping must be given as such, a
    variable without a value is an error, and mappings that end as an option of a module are validated with its options.
  - Roles and playbooks of the collection call it first. It runs on the controller and connects to no host.
options:
  roles:
    description: Roles of this collection whose variables are validated, besides the variables of the playbooks.
    type: list
    elements: str
    default: [modelship]
  report_unknown:
    description:
      - Warn of variables that begin with C(modelship_), C(docker_), C(registry_), C(trainer_), C(builder_) or
        C(monitoring_) and that no role or playbook of the collection knows, with the nearest known name.
      - Registered results and facts are not reported.
    type: bool
    default: false
extends_documentation_fragment:
  - modelship.core.attributes.info
"""

EXAMPLES = r"""
- name: Validate the variables of everything that is to be provisioned
  modelship.core.validate_variables:
    roles: [docker, registry, trainer]
    report_unknown: true
"""

RETURN = r"""
msg:
  description: The variables that cannot be used, one line each, and why.
  returned: on failure
  type: str
  sample: |-
    1 variable cannot be used; nothing was changed:
    modelship_replicas must be a whole number, not 'two'
error_kind:
  description: Class of the failure, V(variables), or V(input) for a role that is not one of the collection's.
  returned: on failure
  type: str
"""
