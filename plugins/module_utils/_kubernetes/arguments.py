# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Argument spec of what target kubernetes alone understands, without the connection to its API server."""

from __future__ import annotations

import typing as t

_TEXTS: dict[str, t.Any] = {"type": "dict", "default": {}}
_OBJECTS: dict[str, t.Any] = {"type": "list", "elements": "dict", "default": []}

#: Options of the module beside those of ``_deployment/options.py``.
KUBERNETES_OPTIONS: dict[str, t.Any] = {
    "namespace": {"type": "str"},
    "kubernetes": {
        "type": "dict",
        "options": {
            "create_namespace": {"type": "bool", "default": True},
            "namespace_labels": _TEXTS,
            "service": {
                "type": "dict",
                "apply_defaults": True,
                "options": {
                    "type": {
                        "type": "str",
                        "choices": ["ClusterIP", "NodePort", "LoadBalancer"],
                        "default": "ClusterIP",
                    },
                    "port": {"type": "int", "default": 80},
                    "node_port": {"type": "int"},
                    "annotations": _TEXTS,
                },
            },
            "service_account": {
                "type": "dict",
                "apply_defaults": True,
                "options": {
                    "name": {"type": "str"},
                    "annotations": _TEXTS,
                    "automount": {"type": "bool", "default": False},
                },
            },
            # not no_log, which would mask a short value everywhere: see _deployment/secrets.py
            "secrets": {"type": "dict", "default": {}, "no_log": False},
            "config_files": _TEXTS,
            "secret_files": {"type": "dict", "default": {}, "no_log": False},
            "storage": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "size": {"type": "str", "required": True},
                    "mount_path": {"type": "str", "required": True},
                    "storage_class": {"type": "str"},
                    "access_modes": {
                        "type": "list",
                        "elements": "str",
                        "choices": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
                        "default": ["ReadWriteOnce"],
                    },
                    "keep": {"type": "bool", "default": False},
                },
            },
            "requests": {
                "type": "dict",
                "apply_defaults": True,
                "options": {"memory": {"type": "str"}, "cpus": {"type": "float"}},
            },
            "gpus": {
                "type": "dict",
                "options": {
                    "count": {"type": "int", "required": True},
                    "resource": {"type": "str", "default": "nvidia.com/gpu"},
                },
            },
            "node_selector": _TEXTS,
            "tolerations": _OBJECTS,
            "affinity": {"type": "dict"},
            "priority_class": {"type": "str"},
            "topology_spread": {"type": "list", "elements": "dict"},
            "runtime_class": {"type": "str"},
            "image_pull_secrets": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "node_lost_seconds": {"type": "int", "default": 30},
            "liveness_path": {"type": "str"},
            "autoscaling": {
                "type": "dict",
                "required_if": [("external", False, ["max"])],
                "options": {
                    "external": {"type": "bool", "default": False},
                    "min": {"type": "int"},
                    "max": {"type": "int"},
                    "cpu_percent": {"type": "int"},
                    "memory_percent": {"type": "int"},
                    "metrics": _OBJECTS,
                },
            },
            "disruption_budget": {
                "type": "dict",
                "options": {"min_available": {"type": "str"}, "max_unavailable": {"type": "str"}},
            },
            "network_policy": {
                "type": "dict",
                "options": {
                    "from": {"type": "list", "elements": "dict", "required": True},
                    "egress": {"type": "list", "elements": "dict"},
                },
            },
            "ingress": {
                "type": "dict",
                "options": {
                    "host": {"type": "str", "required": True},
                    "path": {"type": "str", "default": "/"},
                    "class": {"type": "str"},
                    "tls_secret": {"type": "str", "no_log": False},
                    "annotations": _TEXTS,
                },
            },
            "http_route": {
                "type": "dict",
                "options": {
                    "parents": {
                        "type": "list",
                        "elements": "dict",
                        "required": True,
                        "options": {
                            "name": {"type": "str", "required": True},
                            "namespace": {"type": "str"},
                            "section": {"type": "str"},
                            "port": {"type": "int"},
                        },
                    },
                    "hostnames": {"type": "list", "elements": "str", "default": []},
                    "path": {"type": "str", "default": "/"},
                },
            },
            "service_monitor": {
                "type": "dict",
                "apply_defaults": True,
                "options": {
                    "enabled": {"type": "str", "choices": ["auto", "true", "false"], "default": "auto"},
                    "path": {"type": "str", "default": "/metrics"},
                    "interval": {"type": "str"},
                    "labels": _TEXTS,
                },
            },
            "rollout": {
                "type": "dict",
                "apply_defaults": True,
                "options": {
                    "deadline": {"type": "int", "default": 300},
                    "max_surge": {"type": "str", "default": "1"},
                    "max_unavailable": {"type": "str", "default": "0"},
                    "pre_stop_seconds": {"type": "int", "default": 5},
                    "history": {"type": "int", "default": 5},
                },
            },
            "pod_annotations": _TEXTS,
            "annotations": _TEXTS,
            # not dict: an empty document of a YAML file is null, and is skipped
            "extra_resources": {"type": "list", "elements": "raw", "default": []},
            "force": {"type": "bool", "default": False},
            "wait": {"type": "bool", "default": True},
        },
    },
}
