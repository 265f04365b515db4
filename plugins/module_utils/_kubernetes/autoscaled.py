# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workloads whose replicas a HorizontalPodAutoscaler sets; pure."""

from __future__ import annotations

import typing as t

from .objects import Key, Object, key_of

_KINDS = ("Deployment", "StatefulSet")


def scales(autoscaler: Object, key: Key) -> bool:
    """Tell whether *autoscaler* sets the replicas of the object *key*."""
    target = autoscaler["spec"]["scaleTargetRef"]
    return (autoscaler["metadata"]["namespace"], target["kind"], target["name"]) == (key.namespace, key.kind, key.name)


def bounded(replicas: int, obj: Object, desired: t.Iterable[Object]) -> int:
    """Return *replicas* within the bounds of the autoscaler of *obj* among *desired*, if there is one."""
    for autoscaler in desired:
        if autoscaler["kind"] == "HorizontalPodAutoscaler" and scales(autoscaler, key_of(obj)):
            spec = autoscaler["spec"]
            return min(max(replicas, int(spec.get("minReplicas", 1))), int(spec.get("maxReplicas", replicas)))
    return replicas


def begun(obj: Object, desired: t.Iterable[Object]) -> Object:
    """Return *obj*, which is to be made, with the least replicas of its autoscaler where it declares none.

    The server would begin with one pod, and the autoscaler looks at it only 15 s later.
    """
    spec = obj.get("spec")
    if obj["kind"] not in _KINDS or not isinstance(spec, dict) or "replicas" in spec:
        return obj
    replicas = bounded(0, obj, desired)
    return {**obj, "spec": {**spec, "replicas": replicas}} if replicas else obj
