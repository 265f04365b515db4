# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument spec of the connection to a Kubernetes API server; documented in ``modelship.core.kubernetes``.

``ca_path``, ``client_cert``, ``client_key``, ``validate_certs`` and ``timeout`` are shared with target docker.
"""

from __future__ import annotations

import typing as t

CONNECTION_OPTIONS: dict[str, t.Any] = {
    "kubeconfig": {"type": "raw"},
    "context": {"type": "str"},
    "api_server": {"type": "str"},
    "api_token": {"type": "str", "no_log": True},
    "api_proxy": {"type": "str"},
    "allow_credentials_over_http": {"type": "bool", "default": False},
    "tls_server_name": {"type": "str"},
}
