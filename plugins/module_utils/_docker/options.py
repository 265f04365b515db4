# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument spec of the connection to a Docker Engine; documented in the doc fragment C(modelship.core.docker)."""

from __future__ import annotations

import typing as t

DOCKER_OPTIONS: dict[str, t.Any] = {
    "docker_host": {"type": "str"},
    "tls": {"type": "bool", "default": False},
    "validate_certs": {"type": "bool"},
    "ca_path": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "timeout": {"type": "int", "default": 60},
    "registry_username": {"type": "str"},
    "registry_password": {"type": "str", "no_log": True},
}
