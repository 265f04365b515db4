# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module C(service_process): its options as they may be shown and logged."""

from __future__ import annotations

import typing as t

from .._core.discretion import Concealed, DiscreetModule
from .._core.redaction import HIDDEN, maskable
from .._core.secret_text import without_secrets


class ServiceModule(DiscreetModule):
    """A module that shows and logs no values of environment variables and no configuration files."""

    def concealed(self) -> Concealed:
        """Return the options with the names of variables and files, and without their values.

        Any variable and any file may hold a secret; those whose names say so are masked wherever else they stand.
        """
        found: list[t.Any] = []
        shown = without_secrets(self.params, found)
        for options, names in ((shown, ["environment"]), (shown.get("config"), ["files", "secrets"])):
            for name in names if isinstance(options, dict) else ():
                given = options.get(name)
                options[name] = dict.fromkeys(given, HIDDEN) if isinstance(given, dict) else given and HIDDEN
        return Concealed(shown, maskable(found))
