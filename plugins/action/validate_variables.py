# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validates the variables of roles and playbooks on the controller, before anything is done on a host."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.plugin_utils import variables

_Values = dict[str, t.Any]


class ActionModule(ActionBase):  # type: ignore[misc]
    """Reports all values that cannot be used at once; connects to no host."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: _Values | None = None) -> _Values:
        """Validate the variables of the task's roles, and those of the playbooks."""
        result: _Values = super().run(tmp, task_vars)
        _result, arguments = self.validate_argument_spec(
            argument_spec={
                "roles": {"type": "list", "elements": "str", "default": [variables.MAIN]},
                "report_unknown": {"type": "bool", "default": False},
            }
        )
        given = dict(task_vars or {})
        try:
            options = {
                name: option for role in arguments["roles"] for name, option in variables.options_of(role).items()
            }
        except ModelshipError as exc:
            return {**result, "failed": True, "error_kind": exc.kind, "msg": exc.message}
        if arguments["report_unknown"] and (strange := variables.unknown(self._declared(given))):
            result["warnings"] = [f"Unknown variables are ignored: {', '.join(strange)}"]
        values: _Values = {}
        errors = []
        unevaluated: dict[str, list[str]] = {}  # names of variables by the reason
        for name, option in {**options, **variables.PLAYBOOKS}.items():
            if name not in given:
                continue
            try:
                values[name] = self._templar.template(given[name])
            except AnsibleUndefinedVariable:
                continue  # refers to what only a later task knows; the role itself validates it then
            except AnsibleError as exc:
                unevaluated.setdefault(" ".join(str(exc).split()), []).append(name)
            else:
                errors.append(variables.problem(name, option, values[name]))
        errors = [error for error in errors if error]
        errors += [f"{', '.join(names)} cannot be evaluated: {reason}" for reason, names in unevaluated.items()]
        if variables.MAIN in arguments["roles"] and not errors:
            errors = [error for error in [variables.deployment_problem(values)] if error]
        if not errors:
            return {**result, "changed": False}
        number = len(errors) - len(unevaluated) + sum(map(len, unevaluated.values()))
        count = "1 variable cannot be used" if number == 1 else f"{number} variables cannot be used"
        message = "\n".join([f"{count}; nothing was changed:", *errors])
        return {**result, "failed": True, "error_kind": "variables", "msg": message}

    def _declared(self, given: _Values) -> set[str]:
        """Return the names of variables that were declared, without registered results and facts."""
        manager = getattr(given.get("hostvars"), "_variable_manager", None)
        facts = getattr(manager, "_nonpersistent_fact_cache", {}).get(given.get("inventory_hostname"), {})
        return given.keys() - set(facts) - set(given.get("ansible_facts") or {})
