# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what has pods of its own is ready, may become so, or never will.

Only pods of the newest revision decide: those of earlier ones are being replaced, whatever state they are in. Sources: the
API reference of each kind; https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status.
"""

from __future__ import annotations

import typing as t

from .managed import managers_of
from .objects import MANAGER, Object, is_going, labels_of
from .pods import (
    condition,
    current_of,
    how_ended,
    is_alive,
    is_evicted,
    is_ready,
    is_silent,
    named,
    newest_replica_set,
    node_of,
    one_line,
    stage,
    trouble,
)
from .verdict import UNSEEN, Related, Verdict, is_observed

#: Seconds that a refusal to make pods may last: a rolling update can free the quota that it needs itself.
REFUSAL_GRACE_S = 5.0
#: Seconds that a Deployment found with its deadline already exceeded may take to show that it moves again.
STALE_GRACE_S = 15.0
#: Seconds that a kubelet may be silent after that. A node that stops answering is noticed after 50 s
#: (``--node-monitor-grace-period`` of kube-controller-manager); until then it looks as if the pods there were at fault.
SILENT_GRACE_S = 60.0

#: So many pods are named in a reason; a number tells of the others.
_NAMED_PODS = 3


def _deployment(obj: Object, related: Related) -> Verdict:
    if not is_observed(obj):
        return UNSEEN
    spec, status = obj["spec"], obj["status"]
    wanted = spec.get("replicas", 1)
    total, updated, available = (
        int(status.get(key) or 0) for key in ("replicas", "updatedReplicas", "availableReplicas")
    )
    if updated == total == available == wanted:
        return Verdict("ready", _of(available, wanted, "ready"))
    if spec.get("paused") and MANAGER in managers_of(obj, "spec", "paused"):
        return Verdict("ready", "is paused, as declared")
    if spec.get("paused") and (total != updated or not updated):  # else it is only scaled, which goes on
        return Verdict("failed", *paused(obj))
    failed = _pods_failed(obj, related)
    if failed is None:
        newest = newest_replica_set(obj, related.replica_sets)
        refused = condition(newest or obj, "ReplicaFailure")
        failed = _refused(refused.get("message", ""), related) if refused.get("status") == "True" else None
    if failed is None:
        failed = _deadline(obj, related)
    if failed is not None:
        return failed
    parts = [_new_pods(obj, related, wanted)]
    if total > updated:
        parts.append(f"{total - updated} of the earlier revision still run")
    return Verdict("progressing", "; ".join(parts))


def paused(obj: Object) -> tuple[str, str]:
    """Return what is wrong with the paused Deployment *obj* that is to be rolled out, and what to do about it."""
    managers = [name for name in managers_of(obj, "spec", "paused") if name != MANAGER]
    by = f" by {', '.join(managers)}" if managers else ""
    metadata = obj["metadata"]
    return (
        f"its rollout is paused{by} (spec.paused), so its pods are not replaced",
        f"kubectl --namespace {metadata['namespace']} rollout resume deployment {metadata['name']}, then run again",
    )


def _deadline(obj: Object, related: Related) -> Verdict | None:
    """Judge ``Progressing=False``: final, unless a node that was lost is why."""
    found = condition(obj, "Progressing")
    if found.get("status") != "False" or found.get("reason") != "ProgressDeadlineExceeded":
        return None
    ending = [pod for pod in related.pods if is_going(pod)]
    if any(node_of(pod) in related.lost for pod in related.pods) or any(is_evicted(pod) for pod in ending):
        return None
    seconds = obj["spec"].get("progressDeadlineSeconds", 600)
    unready = _unready(obj, related)
    grace_s = STALE_GRACE_S if related.stale else 0.0
    if any(is_silent(pod) for pod in unready):
        grace_s = max(grace_s, SILENT_GRACE_S)
    return Verdict(
        "failed",
        f"no progress for {seconds} s (ProgressDeadlineExceeded): "
        + _new_pods(obj, related, obj["spec"].get("replicas", 1)),
        "see why its pods do not become ready; if they only need longer, raise the deadline",
        grace_s=grace_s,
        pod=unready[0] if unready else None,
    )


def _refused(message: str, related: Related) -> Verdict | None:
    """Judge that the server refuses to make pods; not while pods of the same owner are ending, whose room becomes free."""
    if any(is_going(pod) for pod in related.pods):
        return None
    text = one_line(message)
    if "exceeded quota" in text:
        hint = "raise the quota, or ask for less (replicas, requests, limits)"
    elif "admission webhook" in text or "violates PodSecurity" in text or "denied" in text:
        hint = "change what that policy refuses, or have it changed"
    else:
        hint = "correct what the server names"
    return Verdict("failed", f"its pods are refused: {text}", hint, grace_s=REFUSAL_GRACE_S)


def _pods_failed(obj: Object, related: Related) -> Verdict | None:
    """Return the failure of the first pod of the newest revision that can never become ready."""
    for pod in current_of(obj, related.replica_sets, related.pods) or ():
        if not is_alive(pod) or node_of(pod) in related.lost:
            continue
        found = trouble(pod)
        if found is not None and not (obj["kind"] == "Job" and found.reason == "CrashLoopBackOff"):
            text = f"{named(pod)} {found.text}"
            return Verdict("failed", text, found.hint, found.grace_s, pod, found.container, found.previous)
    return None


def _unready(obj: Object, related: Related) -> list[Object]:
    pods = current_of(obj, related.replica_sets, related.pods) or []
    return [pod for pod in pods if not is_ready(pod) and not is_going(pod)]


def _new_pods(obj: Object, related: Related, wanted: int) -> str:
    """Say how many pods of the newest revision are ready, and how far the others are."""
    pods = current_of(obj, related.replica_sets, related.pods) or []
    unready = [pod for pod in pods if not is_ready(pod) or node_of(pod) in related.lost]
    ready = len(pods) - len(unready)
    parts = [_of(min(ready, wanted), wanted, "new pods ready" if wanted > 1 else "new pod ready")]
    told = [f"{named(pod)}: {stage(pod, related.lost)}" for pod in unready]
    parts += told[:_NAMED_PODS]
    if len(told) > _NAMED_PODS:
        parts.append(f"{len(told) - _NAMED_PODS} more")
    return "; ".join(parts)


def _of(number: int, wanted: int, what: str) -> str:
    return f"{number} of {wanted} {what}"


def _replica_set(obj: Object, related: Related) -> Verdict:
    if not is_observed(obj):
        return UNSEEN
    wanted = obj["spec"].get("replicas", 1)
    total, available = (int(obj["status"].get(key) or 0) for key in ("replicas", "availableReplicas"))
    if total == available == wanted:
        return Verdict("ready", _of(available, wanted, "ready"))
    failed = _pods_failed(obj, related)
    refused = condition(obj, "ReplicaFailure")
    if failed is None and refused.get("status") == "True":
        failed = _refused(refused.get("message", ""), related)
    return failed or Verdict("progressing", _new_pods(obj, related, wanted))


def _stateful_set(obj: Object, related: Related) -> Verdict:
    if not is_observed(obj):
        return UNSEEN
    spec, status = obj["spec"], obj["status"]
    wanted = spec.get("replicas", 1)
    strategy = spec.get("updateStrategy") or {}
    partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
    total, updated, available = (
        int(status.get(key) or 0) for key in ("replicas", "updatedReplicas", "availableReplicas")
    )
    same = status.get("currentRevision") == status.get("updateRevision")
    to_update = 0 if strategy.get("type") == "OnDelete" or same else max(0, wanted - partition)
    if total == available == wanted and updated >= to_update:
        return Verdict("ready", _of(available, wanted, "ready"))
    failed = _pods_failed(obj, related) or _refused_by_event(total < wanted, related)
    if failed is not None:
        return failed
    # A broken pod of an earlier revision is never replaced under the default policy: a documented limit of StatefulSets.
    for pod in related.pods:
        found = trouble(pod)
        if (
            found is not None
            and is_alive(pod)
            and labels_of(pod).get("controller-revision-hash") != status.get("updateRevision")
        ):
            name = pod["metadata"]["name"]
            return Verdict(
                "progressing", f"{named(pod)} of the earlier revision {found.text}; kubectl delete pod {name}"
            )
    lost = [pod for pod in related.pods if node_of(pod) in related.lost]
    if lost:
        return Verdict(
            "progressing",
            f"{named(lost[0])}: its node does not answer, and a StatefulSet replaces no pod before its node is back or deleted",
        )
    return Verdict("progressing", _new_pods(obj, related, wanted))


def _daemon_set(obj: Object, related: Related) -> Verdict:
    if not is_observed(obj):
        return UNSEEN
    status = obj["status"]
    wanted = int(status.get("desiredNumberScheduled") or 0)
    updated, available, total = (
        int(status.get(key) or 0) for key in ("updatedNumberScheduled", "numberAvailable", "currentNumberScheduled")
    )
    if (obj["spec"].get("updateStrategy") or {}).get("type") == "OnDelete":
        updated = wanted
    if updated >= wanted and available >= wanted:
        return Verdict("ready", _of(available, wanted, "ready"))
    failed = _pods_failed(obj, related) or _refused_by_event(total < wanted, related)
    return failed or Verdict("progressing", _new_pods(obj, related, wanted))


def _refused_by_event(lacking: bool, related: Related) -> Verdict | None:
    """Judge by events where the kind has no condition for refused pods."""
    return _refused(related.refusals[-1].get("message", ""), related) if lacking and related.refusals else None


def _job(obj: Object, related: Related) -> Verdict:
    spec, status = obj["spec"], obj.get("status") or {}
    if condition(obj, "Complete").get("status") == "True":
        return Verdict("ready", "has finished")
    for kind in ("Failed", "FailureTarget"):
        found = condition(obj, kind)
        if found.get("status") == "True":
            return _job_failed(found, related)
    if spec.get("suspend"):
        return _suspended(obj)
    lacking = not status.get("active") and not status.get("succeeded")
    failed = _pods_failed(obj, related) or _refused_by_event(lacking, related)
    if failed is not None:
        return failed
    wanted = spec.get("completions") or 1
    parts = [_of(int(status.get("succeeded") or 0), wanted, "finished")]
    if status.get("failed"):
        parts.append(f"{status['failed']} failed of at most {int(spec.get('backoffLimit', 6)) + 1}")
    running = [pod for pod in related.pods if is_alive(pod)]
    parts += [f"{named(pod)}: {stage(pod, related.lost)}" for pod in running[:_NAMED_PODS]]
    return Verdict("progressing", "; ".join(parts))


def _suspended(obj: Object) -> Verdict:
    """Judge a suspended Job by who suspended it: queues (Kueue) resume what they suspend, people have to be asked."""
    managers = managers_of(obj, "spec", "suspend")
    others = [name for name in managers if name != MANAGER]
    if MANAGER in managers or not others:
        return Verdict("ready", "is suspended, as declared")
    text = f"is suspended by {', '.join(others)} (spec.suspend)"
    if any(name.startswith("kubectl") for name in others):
        metadata = obj["metadata"]
        patch = """-p '{"spec":{"suspend":false}}'"""
        hint = f"kubectl --namespace {metadata['namespace']} patch job {metadata['name']} {patch}, then run again"
        return Verdict("failed", text, hint)
    return Verdict("progressing", text)


def _job_failed(found: Object, related: Related) -> Verdict:
    text = f"{found.get('reason', '')}: {one_line(found.get('message', ''))}"
    for pod in sorted(related.pods, key=lambda each: str(each["metadata"].get("creationTimestamp")), reverse=True):
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            for state, previous in (("state", False), ("lastState", True)):
                ended = (container.get(state) or {}).get("terminated") or {}
                if ended.get("exitCode"):
                    text += f"; {named(pod)}, container {container['name']}: {how_ended(ended)}"
                    hint = "its last log lines say why; delete the Job to run it again"
                    return Verdict("failed", text, hint, 0.0, pod, container["name"], previous)
    return Verdict("failed", text, "delete the Job to run it again")


WORKLOADS: t.Final[dict[tuple[str, str], t.Callable[[Object, Related], Verdict]]] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    ("", "ReplicationController"): _replica_set,
}
