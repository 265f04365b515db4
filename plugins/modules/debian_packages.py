#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Install Debian packages without removing others."""

from __future__ import annotations

DOCUMENTATION = r"""
module: debian_packages
short_description: Install Debian packages without removing others
version_added: 0.1.0
description:
  - Installs the packages that are missing with C(apt-get). Packages that are installed are not upgraded.
  - A package that would remove others is refused, and the others are named, unless O(allow_removals=true); in check mode too.
  - An installation that was killed is completed.
  - Needs root where something is to be installed.
options:
  packages:
    description: Names of packages, each also as V(name=version).
    type: list
    elements: str
    required: true
  allow_removals:
    description: Whether packages that conflict with O(packages) are removed.
    type: bool
    default: false
  removals_variable:
    description: What a message names instead of O(allow_removals), for roles that have a variable for it.
    type: str
  start_services:
    description:
      - Whether services of the packages are started at once, as Debian does. They are enabled in any case.
      - With V(false) a policy script (C(/usr/sbin/policy-rc.d)) forbids it, only while the module runs. One of the
        administrator is restored afterwards.
    type: bool
    default: true
  recommends:
    description: Whether recommended packages are installed too.
    type: bool
    default: false
  cache_valid_time:
    description: Age in seconds up to which package lists are used without an update. Unknown packages are always looked up.
    type: int
    default: 3600
  lock_timeout:
    description: Seconds to wait for another program that installs packages.
    type: int
    default: 120
extends_documentation_fragment:
  - modelship.core.attributes
author:
  - The modelship authors (@modelship)
"""

EXAMPLES = r"""
- name: Install Docker Engine, which the role starts itself
  modelship.core.debian_packages:
    packages: [docker.io]
    start_services: false
"""

RETURN = r"""
installed:
  description: Packages that were installed, or would be, dependencies included.
  returned: success
  type: list
  elements: str
removed:
  description: Packages that were removed, or would be.
  returned: success
  type: list
  elements: str
error_kind:
  description: Class of the failure, V(permission), V(removals), V(missing) or V(apt).
  returned: failure
  type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelship.core.plugins.module_utils._core.runner import run
from ansible_collections.modelship.core.plugins.module_utils._host.packages import install_packages

OPTIONS: dict[str, t.Any] = {
    "packages": {"type": "list", "elements": "str", "required": True},
    "allow_removals": {"type": "bool", "default": False},
    "removals_variable": {"type": "str"},
    "start_services": {"type": "bool", "default": True},
    "recommends": {"type": "bool", "default": False},
    "cache_valid_time": {"type": "int", "default": 3600},
    "lock_timeout": {"type": "int", "default": 120},
}


def main() -> None:
    """Run the module."""
    run(AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True), install_packages)


if __name__ == "__main__":
    main()
