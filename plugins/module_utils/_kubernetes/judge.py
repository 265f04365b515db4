# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an object is ready, may become so, or never will: pure functions of what the server says.

A status counts only once its controller has seen the object's generation. Sources: the API reference of each kind; for
kinds not known here the conventions of https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus.
"""

from __future__ import annotations

import typing as t

from .objects import Object, annotations_of, group_of, is_going
from .pods import condition, how_ended, is_ready, node_of, one_line, stage, trouble
from .verdict import UNSEEN, UNTOLD, Related, Verdict, is_observed
from .workloads import WORKLOADS

#: An object's annotation that names what to wait for, as ``Type`` or ``Type=Status`` of a condition.
WAIT_FOR = "modelship.io/wait-for"
#: Seconds for which a Gateway may refuse a route: it may have been made at the same time.
ROUTE_GRACE_S = 5.0


def judge(obj: Object, related: Related) -> Verdict:
    """Judge *obj*, which may have no status yet."""
    if is_going(obj):
        return Verdict("progressing", "is being deleted")
    wish = annotations_of(obj).get(WAIT_FOR)
    if wish:
        return _as_wished(obj, wish)
    known = _JUDGES.get((group_of(obj["apiVersion"]), obj["kind"]), _other)
    return known(obj, related)


def has_pods(obj: Object) -> bool:
    """Tell whether pods of its own decide whether *obj* is ready."""
    return (group_of(obj["apiVersion"]), obj["kind"]) in WORKLOADS


def _pod(obj: Object, related: Related) -> Verdict:
    status = obj.get("status") or {}
    if status.get("phase") == "Succeeded":
        return Verdict("ready", "has finished")
    if is_ready(obj) and node_of(obj) not in related.lost:
        return Verdict("ready", "ready")
    if node_of(obj) in related.lost or status.get("phase") == "Unknown":
        return Verdict("progressing", f"its node {node_of(obj)} does not answer")
    if status.get("phase") == "Failed":
        return _pod_failed(obj, status)
    found = trouble(obj)
    if found is not None:
        return Verdict("failed", found.text, found.hint, found.grace_s, obj, found.container, found.previous)
    return Verdict("progressing", stage(obj))


def _pod_failed(obj: Object, status: Object) -> Verdict:
    for container in status.get("containerStatuses") or ():
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            name = container["name"]
            return Verdict(
                "failed",
                f"container {name}: {how_ended(ended)}",
                "its last log lines say why",
                0.0,
                obj,
                name,
            )
    said = one_line(f"{status.get('reason', '')} {status.get('message', '')}") or "phase Failed"
    return Verdict("failed", said, "delete it to have it made again", pod=obj)


def _claim(obj: Object, related: Related) -> Verdict:
    phase = (obj.get("status") or {}).get("phase", "Pending")
    if phase == "Bound":
        return Verdict("ready", "bound")
    if phase == "Lost":
        volume = obj["spec"].get("volumeName", "")
        return Verdict(
            "failed", f"its volume {volume} is lost", "restore that PersistentVolume, or declare another claim"
        )
    if related.late_binding:
        return Verdict("ready", "is bound as soon as a pod uses it")
    wanted = obj["spec"].get("storageClassName")
    return Verdict("progressing", "waits for a volume" + (f" of storage class {wanted}" if wanted else ""))


def _namespace(obj: Object, related: Related) -> Verdict:  # noqa: ARG001
    phase = (obj.get("status") or {}).get("phase", "")
    return (
        Verdict("ready", "active") if phase == "Active" else Verdict("progressing", f"phase {phase or 'not known yet'}")
    )


def _definition(obj: Object, related: Related) -> Verdict:  # noqa: ARG001
    if condition(obj, "Established").get("status") == "True":
        return Verdict("ready", "established")
    names = condition(obj, "NamesAccepted")
    if names.get("status") == "False":
        return Verdict("failed", f"its names are taken: {one_line(names.get('message', ''))}", "choose other names")
    return Verdict("progressing", "is not established yet")


def _autoscaler(obj: Object, related: Related) -> Verdict:  # noqa: ARG001
    # Metrics come a minute after the pods; that they are missing stops nobody from being served.
    for kind in ("AbleToScale", "ScalingActive"):
        found = condition(obj, kind)
        if found.get("status") == "False" and found.get("reason") != "ScalingDisabled":
            return Verdict("ready", f"does not scale yet: {found.get('reason')}: {one_line(found.get('message', ''))}")
    return Verdict("ready", "scales" if condition(obj, "ScalingActive") else "is there")


def _service(obj: Object, related: Related) -> Verdict:  # noqa: ARG001
    if obj["spec"].get("type") == "LoadBalancer" and not ((obj.get("status") or {}).get("loadBalancer") or {}).get(
        "ingress"
    ):
        # Whether a cluster gives addresses at all cannot be told from here, and the pods serve without one.
        return Verdict("ready", "has no address from a load balancer yet")
    return Verdict("ready", "is there")


def _route(obj: Object, related: Related) -> Verdict:
    """Judge by what the Gateways say that the route belongs to; without a Gateway's controller none says anything."""
    generation = obj["metadata"].get("generation", 0)
    wanted = {str(parent.get("name")) for parent in obj["spec"].get("parentRefs") or ()}
    told = 0
    for parent in (obj.get("status") or {}).get("parents") or ():
        name = str((parent.get("parentRef") or {}).get("name"))
        found = condition({"status": parent}, "Accepted")
        if name not in wanted or not found:
            continue
        if found.get("observedGeneration", generation) < generation:
            return UNSEEN
        if found["status"] == "False":
            why = f"Gateway {name} does not accept it: {_said(found)}"
            return Verdict("failed", why, "correct what the Gateway names, here or there", ROUTE_GRACE_S)
        if found["status"] != "True":
            return Verdict("progressing", f"Gateway {name}: {_said(found)}")
        told += 1
    if told < len(wanted) and related.fresh:
        return UNTOLD
    return Verdict("ready", "is accepted" if told else "no Gateway has said anything of it")


def _there(obj: Object, related: Related) -> Verdict:  # noqa: ARG001
    return Verdict("ready", "is there")


def _as_wished(obj: Object, wish: str) -> Verdict:
    kind, _equals, status = wish.partition("=")
    found = condition(obj, kind.strip())
    if _condition_observed(obj, found) and found.get("status") == (status.strip() or "True"):
        return Verdict("ready", wish)
    said = f" ({_said(found)})" if found else ""
    return Verdict("progressing", f"waits for the condition {wish}{said}")


def _condition_observed(obj: Object, found: Object) -> bool:
    generation = obj["metadata"].get("generation", 0)
    observed = found.get("observedGeneration", (obj.get("status") or {}).get("observedGeneration", generation))
    return bool(found) and observed >= generation


def _said(found: Object) -> str:
    said = ": ".join(part for part in (found.get("reason", ""), one_line(found.get("message", ""))) if part)
    return f"{found['type']}={found['status']}" + (f", {said}" if said else "")


def _other(obj: Object, related: Related) -> Verdict:
    """Judge by the conventions for conditions; what has none of them, a moment after it was applied, is ready by being there."""
    status = obj.get("status") or {}
    if "observedGeneration" in status and not is_observed(obj):
        return UNSEEN
    for kind in ("Stalled", "Failed"):
        found = condition(obj, kind)
        if found.get("status") == "True" and _condition_observed(obj, found):
            return Verdict("failed", _said(found), "see what its controller says")
    found = condition(obj, "Reconciling")
    if found.get("status") == "True":
        return Verdict("progressing", _said(found))
    for kind in ("Ready", "Available", "Healthy", "Established", "Complete"):
        found = condition(obj, kind)
        if found:
            fine = found.get("status") == "True" and _condition_observed(obj, found)
            return Verdict("ready" if fine else "progressing", _said(found))
    return UNTOLD if related.fresh else Verdict("ready", "is there")


_JUDGES: t.Final[dict[tuple[str, str], t.Callable[[Object, Related], Verdict]]] = {
    **WORKLOADS,
    ("", "Pod"): _pod,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Namespace"): _namespace,
    ("", "Service"): _service,
    ("", "Node"): _there,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("gateway.networking.k8s.io", "GRPCRoute"): _route,
    ("gateway.networking.k8s.io", "HTTPRoute"): _route,
    ("monitoring.coreos.com", "ServiceMonitor"): _there,
    ("policy", "PodDisruptionBudget"): _there,
}
