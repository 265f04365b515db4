#!/usr/bin/python
# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep one process running, with or without systemd."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_process
short_description: Keep one process running, with or without systemd
version_added: 0.1.0
description:
  - Starts a process, knows it again, and restarts it only when its command, its environment, its configuration or its
    program has changed.
  - Where systemd runs, the process is a unit of systemd, which also starts it at boot and after a crash.
  - Where it does not, the process is detached, with a pidfile, a record and a log file in O(folder); the next run starts it
    again if it has ended.
  - Ends only what it started. A process is known by its number, its start time and the boot it was started in, so that
    a number that was used again for another process is never taken for it.
  - New configuration is judged by O(config.validate) before it replaces the old. When a restart fails, the old
    configuration is put back and what ran before runs again.
options:
  name:
    description: Name of the service. The unit of systemd is V(modelship-<name>.service).
    type: str
    required: true
  state:
    description:
      - V(started) starts it, or restarts it when something has changed.
      - V(restarted) restarts it in any case.
      - V(stopped) ends it and, with systemd, disables it.
      - V(absent) also removes its unit. The data stays.
    type: str
    choices: [started, restarted, stopped, absent]
    default: started
  command:
    description: Program and arguments. Required to start. The program must stay in the foreground.
    type: list
    elements: str
  folder:
    description: Where the pidfile, the record and the log are kept. Made if absent.
    type: path
    required: true
  log:
    description: File that takes what the process writes. Default V(<folder>/<name>.log).
    type: path
  user:
    description: Who it runs as, with that user's groups. Default is who runs the module.
    type: str
  chdir:
    description: Working directory, default V(/).
    type: path
  environment:
    description:
      - Environment variables. Besides them the process has only E(PATH), E(LANG) and E(HOME).
      - Values are not shown among the options of the task and not logged. Diffs show those of variables whose names do not
        tell of a secret.
      - With systemd they are written to V(<folder>/<name>.env), which only the module's user can read, and not to the unit,
        which systemd shows to all users.
    type: dict
    default: {}
  config:
    description: Configuration files that are written for the service.
    type: dict
    suboptions:
      folder:
        description: Where they are written. Made if absent.
        type: path
        required: true
      files:
        description:
          - Relative file names and their text.
          - The text is not shown among the options of the task. Diffs show it without the values of keys whose names tell of a
            secret, and without passwords in URLs.
        type: dict
        default: {}
      secrets:
        description: Like O(config.files), but never shown.
        type: dict
        default: {}
      validate:
        description: Command that judges the configuration. V({folder}) in it is the folder of the copy to be judged.
        type: list
        elements: str
      reload_signal:
        description: Signal on which the process reads changed files again, as V(HUP). Default is a restart.
        type: str
      mode:
        description: Permissions of the files. Their group is that of O(user).
        type: str
        default: "0640"
  watch:
    description: Files of others whose content decides on a restart.
    type: list
    elements: path
    default: []
  ready:
    description: What tells that the service is ready. Without it a process that lives for half a second is.
    type: dict
    suboptions:
      tcp:
        description: An address V(host:port) that accepts connections.
        type: str
      url:
        description: An http or https URL. Its certificate is not judged.
        type: str
      unix:
        description: A socket over which O(ready.url) is asked.
        type: path
      status:
        description: HTTP codes of a ready service.
        type: list
        elements: int
        default: [200]
      headers:
        description: Headers that the answer must have.
        type: dict
        default: {}
      timeout:
        description: Seconds within which it must be ready.
        type: float
        default: 30
  adopt:
    description:
      - Leave a service alone, and be content with it, that answers as O(ready) wants it but was not started here.
      - Otherwise an address that is taken is an error.
    type: bool
    default: false
  follow_upgrades:
    description: Restart the process when its program was replaced on disk, as by an upgrade of its package.
    type: bool
    default: true
  stop_timeout:
    description: Seconds between SIGTERM and SIGKILL.
    type: float
    default: 30
  purge:
    description:
      - With O(state=absent), also remove the log and the configuration files that were written, and their folders and
        O(folder) where nothing of others is left in them.
    type: bool
    default: false
  unit:
    description: Where systemd runs, use this unit of a package instead of O(command), O(user) and O(environment).
    type: str
  manager:
    description: What keeps the process running. V(auto) is V(systemd) where that is the host's init, else V(process).
    type: str
    choices: [auto, process, systemd]
    default: auto
extends_documentation_fragment:
  - modelship.core.attributes
attributes:
  idempotent:
    support: partial
    details: O(state=restarted) restarts the process on every run.
author:
  - The modelship authors (@modelship)
"""

EXAMPLES = r"""
- name: Run a registry
  modelship.core.service_process:
    name: registry
    folder: /var/lib/modelship/registry
    command: [/usr/bin/docker-registry, serve, /var/lib/modelship/registry/etc/config.yml]
    user: docker-registry
    config:
      folder: /var/lib/modelship/registry/etc
      files:
        config.yml: "{{ lookup('ansible.builtin.template', 'config.yml.j2') }}"
    ready:
      url: http://127.0.0.1:5001/v2/

- name: End it
  modelship.core.service_process:
    name: registry
    folder: /var/lib/modelship/registry
    state: absent
"""

RETURN = r"""
service:
  description: The service as it is now; in check mode as it was found.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      returned: success
    manager:
      description: What keeps it running, V(process) or V(systemd).
      type: str
      returned: success
    running:
      description: Whether it runs.
      type: bool
      returned: success
    adopted:
      description: Whether it runs but was not started here.
      type: bool
      returned: when started
    pid:
      description: Process number.
      type: int
      returned: success
    executable:
      description: Absolute path of the program, or null where it is not installed.
      type: str
      returned: when started
    log:
      description: Its log file.
      type: str
      returned: when started
    reasons:
      description: Why it was, or would be, started again.
      type: list
      elements: str
      returned: when started
    answer:
      description: What O(ready) was answered, or null.
      type: dict
      returned: when started
      contains:
        status:
          description: HTTP code, 0 for a TCP port.
          type: int
          returned: success
        body:
          description: Text, at most 64 KiB.
          type: str
          returned: success
log_tail:
  description: The last lines that the process wrote.
  returned: when it did not start
  type: list
  elements: str
error_kind:
  description: Class of the failure, as V(port_taken), V(config), V(start), V(missing).
  returned: failure
  type: str
"""

from ansible_collections.modelship.core.plugins.module_utils._core.runner import run
from ansible_collections.modelship.core.plugins.module_utils._service.options import ServiceModule
from ansible_collections.modelship.core.plugins.module_utils._service.supervise import supervise


def main() -> None:
    """Run the module."""
    config = {
        "folder": {"type": "path", "required": True},
        "files": {"type": "dict", "default": {}},
        "secrets": {"type": "dict", "default": {}, "no_log": True},
        "validate": {"type": "list", "elements": "str"},
        "reload_signal": {"type": "str"},
        "mode": {"type": "str", "default": "0640"},
    }
    ready = {
        "tcp": {"type": "str"},
        "url": {"type": "str"},
        "unix": {"type": "path"},
        "status": {"type": "list", "elements": "int", "default": [200]},
        "headers": {"type": "dict", "default": {}},
        "timeout": {"type": "float", "default": 30},
    }
    module = ServiceModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["started", "restarted", "stopped", "absent"], "default": "started"},
            "command": {"type": "list", "elements": "str"},
            "folder": {"type": "path", "required": True},
            "log": {"type": "path"},
            "user": {"type": "str"},
            "chdir": {"type": "path"},
            "environment": {"type": "dict", "default": {}},
            "config": {"type": "dict", "options": config},
            "watch": {"type": "list", "elements": "path", "default": []},
            "ready": {
                "type": "dict",
                "options": ready,
                "mutually_exclusive": [("tcp", "url"), ("tcp", "unix")],
                "required_one_of": [("tcp", "url")],
            },
            "adopt": {"type": "bool", "default": False},
            "follow_upgrades": {"type": "bool", "default": True},
            "stop_timeout": {"type": "float", "default": 30},
            "purge": {"type": "bool", "default": False},
            "unit": {"type": "str"},
            "manager": {"type": "str", "choices": ["auto", "process", "systemd"], "default": "auto"},
        },
        required_if=[("state", "started", ["command"]), ("state", "restarted", ["command"])],
        supports_check_mode=True,
    )
    run(module, supervise)


if __name__ == "__main__":
    main()
