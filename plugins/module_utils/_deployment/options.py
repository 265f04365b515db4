# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument spec of a deployment, without the connection to its target."""

from __future__ import annotations

import typing as t

from .._endpoint.credentials import OPTIONS as CREDENTIALS
from .._kubernetes.arguments import KUBERNETES_OPTIONS

_LIMITS: dict[str, t.Any] = {
    "type": "dict",
    "options": {"memory": {"type": "str"}, "cpus": {"type": "float"}, "pids": {"type": "int"}},
}

OPTIONS: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "target": {"type": "str", "choices": ["docker", "kubernetes"], "default": "docker"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "image": {"type": "str"},
    "replicas": {"type": "int", "default": 1},
    "workers": {"type": "int", "default": 1},
    "host_ip": {"type": "str", "default": "127.0.0.1"},
    "port": {"type": "int", "default": 5000},
    "container_port": {"type": "int", "default": 8080},
    "environment": {"type": "dict", "default": {}},
    "limits": _LIMITS,
    "health": {
        "type": "dict",
        "options": {
            "path": {"type": "str", "default": "/v2/health/ready"},
            "interval": {"type": "float", "default": 0.2},
            "start_deadline": {"type": "float", "default": 60.0},
            "timeout": {"type": "float", "default": 2.0},
        },
    },
    "verify": {
        "type": "dict",
        "options": {
            "release": {"type": "path", "required": True},
            "protocol": {"type": "str", "choices": ["v2", "predict"], "default": "v2"},
            **CREDENTIALS,
        },
    },
    "https": {
        "type": "dict",
        "options": {
            "secret": {"type": "str", "no_log": False},
            "folder": {"type": "path"},
            "client_ca": {"type": "bool", "default": False},
        },
    },
    "read_only": {"type": "bool", "default": True},
    "user": {"type": "str"},
    "cap_drop": {"type": "list", "elements": "str", "default": ["ALL"]},
    "no_new_privileges": {"type": "bool", "default": True},
    "tmpfs": {"type": "list", "elements": "str", "default": ["/tmp"]},  # noqa: S108 - a path inside the container
    "volumes": {"type": "list", "elements": "str", "default": []},
    "restart_policy": {
        "type": "str",
        "choices": ["no", "always", "unless-stopped", "on-failure"],
        "default": "unless-stopped",
    },
    "drain_seconds": {"type": "int", "default": 10},
    "proxy": {
        "type": "dict",
        "options": {
            "image": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 60},
            "limits": _LIMITS,
        },
    },
    "labels": {"type": "dict", "default": {}},
    **KUBERNETES_OPTIONS,
}
