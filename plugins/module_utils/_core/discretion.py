# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules among whose options are secrets that an argument spec cannot tell from the rest."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from .masking import encodings
from .redaction import HIDDEN, maskable
from .secret_text import without_secrets
from .secret_values import is_secret_value, passwords_in


class Concealed(t.NamedTuple):
    """Options without their secrets.

    :param shown: the options as they may be shown and logged.
    :param values: what Ansible is to mask wherever else it stands.
    """

    shown: dict[str, t.Any]
    values: set[str]


class DiscreetModule(AnsibleModule):  # type: ignore[misc]
    """An ``AnsibleModule`` that shows and logs its options only as :meth:`concealed` returns them.

    By default these are all but the values of names, at any depth, that tell of a secret, and secrets in texts.

    ``no_log`` on a whole dict would mask each of its values wherever it stands, a "1" in every digest and address too.
    """

    params: dict[str, t.Any]

    def concealed(self) -> Concealed:
        """Return the options, which may not have been validated yet, without what their names tell to be secret."""
        found: list[t.Any] = []
        return Concealed(without_secrets(self.params, found), maskable(found))

    def exit_json(self, **result: t.Any) -> None:
        """End the module with *result*, and its options without their secrets."""
        super().exit_json(invocation=self._invocation(), **result)

    def fail_json(self, msg: str, **result: t.Any) -> None:
        """End the module with the error *msg*, and its options without their secrets."""
        super().fail_json(msg, invocation=self._invocation(), **result)

    def _invocation(self) -> dict[str, t.Any]:
        shown, values = self.concealed()
        self.no_log_values.update(text for value in values for text in encodings(value))
        return {"module_args": shown}

    def _log_invocation(self) -> None:
        options = self.params
        self.params = self._invocation()["module_args"]
        try:
            super()._log_invocation()
        finally:
            self.params = options


def conceal(options: t.Mapping[str, t.Any], name: str, is_secret: t.Callable[[str], bool]) -> Concealed:
    """Return *options* without the values in the dict *name* that are secret.

    :param is_secret: tells whether a name is that of a secret; values that show it themselves are hidden whatever it returns.
    """
    values: list[t.Any] = []
    shown = dict(options)
    if name in options:
        shown[name] = hidden(
            options[name], lambda key, value: is_secret(key) or is_secret_value(str(value)), found=values
        )
    return Concealed(shown, maskable(values))


def hidden(given: t.Any, is_secret: t.Callable[[str, t.Any], bool], found: list[t.Any]) -> t.Any:
    """Return the dict *given* without the values that are secret by *is_secret* (called with name and value).

    They are added to *found*, and the passwords in them, which may stand elsewhere too.
    """
    if not isinstance(given, dict):  # refused in a moment
        return given and HIDDEN
    secret = {key: value for key, value in given.items() if value not in (None, "") and is_secret(str(key), value)}
    for value in secret.values():
        found += [value, *passwords_in(str(value))]
    shown = {**given, **dict.fromkeys(secret, HIDDEN)}
    # NAME=value, mistaken for a name
    return {name if "=" not in str(name) else without_secrets(str(name), found): value for name, value in shown.items()}
