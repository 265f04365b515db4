# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument specs that ``image_build`` and ``image_push`` share."""

from __future__ import annotations

import typing as t

#: The options of the doc fragment ``modelship.core.registry``.
REGISTRY_OPTIONS: dict[str, t.Any] = {
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "ca_path": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "plain_http": {"type": "bool"},
    "timeout": {"type": "int", "default": 30},
}
