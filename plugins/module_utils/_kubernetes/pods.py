# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a pod's status says: how far it is, whether it can still become ready, and whose it is.

Sources: https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/ and the reasons that the kubelet writes into
``status.containerStatuses[].state.waiting`` (``pkg/kubelet/images/types.go``, ``pkg/kubelet/container/sync_result.go``).
"""

from __future__ import annotations

import datetime
import re
import typing as t

from .._deployment.image_pull import pull_advice
from .objects import Object, annotations_of, group_of, is_going, labels_of
from .scope import CONTAINER
from .watching import pod_sources_of

if t.TYPE_CHECKING:
    from .client import Api

#: Where nodes are told about registries.
_PULL = {
    "insecure": "in the nodes' container runtime (containerd: /etc/containerd/certs.d/{host}/hosts.toml)",
    "trust": "add the authority to the nodes (containerd: /etc/containerd/certs.d/{host}/hosts.toml)",
    "credentials": "kubernetes.image_pull_secrets",
}
#: The kubelet has given up pulling for now, or will never succeed. ``ErrImagePull`` is not here: one pull may fail.
_IMAGE = frozenset(
    {"ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "SignatureValidationFailed"}
)
_CONFIGURATION = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_CRASH = "CrashLoopBackOff"
#: The kubelet forgets earlier ends of a container that has run for so long.
_FORGIVEN_S = 600.0
#: Messages of ``_CONFIGURATION`` that mean a container runtime or API server that does not answer; the kubelet asks again.
_PASSING = (
    "context deadline exceeded",
    "is reserved for",
    "DeadlineExceeded",
    "failed to sync",
    "timed out",
    "timeout",
    "connection refused",
)

#: A Secret or ConfigMap, or a key of it, that is not there: it may be one that an operator is just making.
_MISSING = re.compile(r'(secret|configmap) "[^"]*" not found|couldn\'t find key \S+ in (Secret|ConfigMap) ')
#: For so many seconds. A kubelet that missed it looks again after 10 to 15 s (``backOffPeriod`` of ``pkg/kubelet``).
CONFIGURATION_GRACE_S = 20.0

_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_REVISION = "deployment.kubernetes.io/revision"
_TEXT_LIMIT = 400


class Trouble(t.NamedTuple):
    """Why a pod cannot become ready.

    :param reason: the kubelet's word, such as ``ImagePullBackOff``.
    :param text: what went wrong, to follow the pod's name.
    :param hint: what to do about it.
    :param container: the container concerned.
    :param previous: its last log is the one of its run before.
    :param grace_s: it counts only if it still is so after so many seconds.
    """

    reason: str
    text: str
    hint: str
    container: str = ""
    previous: bool = False
    grace_s: float = 0.0


def trouble(pod: Object) -> Trouble | None:
    """Return what keeps *pod* from ever becoming ready; ``None`` while it may.

    A container that restarts once, one failed pull, and a pod for which there is no node yet may all turn out well.
    """
    for container in containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        name = container.get("name", "")
        message = one_line(waiting.get("message", ""))
        if reason in _IMAGE:
            return Trouble(
                reason,
                f"cannot get the image {container.get('image') or name} ({_joined(reason, message)})",
                pull_advice(container.get("image") or "", message, **_PULL),
                name,
            )
        if reason in _CONFIGURATION and not any(word in message for word in _PASSING):
            return Trouble(
                reason,
                f"cannot start container {name} ({_joined(reason, message)})",
                "correct the command, environment or volumes that it names",
                name,
                grace_s=CONFIGURATION_GRACE_S if _MISSING.search(message) else 0.0,
            )
        if reason == _CRASH:
            return Trouble(reason, *_crash(container, "lastState"), name, previous=True)
        if _is_crashing(pod, container):
            return Trouble(_CRASH, *_crash(container, "state"), name)
    return None


def _is_crashing(pod: Object, container: Object) -> bool:
    """Tell whether *container* has ended a second time: the kubelet says ``CrashLoopBackOff`` only when it looks again."""
    ended = (container.get("state") or {}).get("terminated")
    if not ended or not container.get("restartCount") or _seconds(ended) > _FORGIVEN_S:
        return False
    always = (pod.get("spec") or {}).get("restartPolicy", "Always") == "Always"
    initial = container in (pod["status"].get("initContainerStatuses") or ())
    return bool(ended.get("exitCode")) or (always and not initial)


def _seconds(ended: Object) -> float:
    """Return how long a container ran that has ended."""
    try:
        begin, end = (datetime.datetime.fromisoformat(ended[name]) for name in ("startedAt", "finishedAt"))
    except (KeyError, TypeError, ValueError):
        return 0.0  # it never ran
    return (end - begin).total_seconds()


def _crash(container: Object, state: str) -> tuple[str, str]:
    ended = (container.get(state) or {}).get("terminated") or {}
    text = f"container {container.get('name')} ends again and again: {how_ended(ended)}"
    if ended.get("reason") == "OOMKilled":
        return text, "raise limits.memory, or run fewer workers"
    return text, "its last log lines say why"


def how_ended(terminated: Object) -> str:
    """Say how a container ended, from its ``terminated`` state."""
    if terminated.get("reason") == "OOMKilled":
        return "it was killed because it reached its memory limit"
    code = terminated.get("exitCode")
    text = "it ended" if code is None else f"exit code {code}"
    reason = terminated.get("reason") or ""
    message = one_line(terminated.get("message", ""))
    if reason in ("", "Error", "Completed"):
        reason = ""
    said = _joined(reason, message)
    return f"{text} ({said})" if said else text


def stage(pod: Object, lost: t.Container[str] = ()) -> str:
    """Return how far *pod* is, in a few words; ``ready`` when it is.

    :param lost: names of nodes that do not answer.
    """
    status = pod.get("status") or {}
    if is_going(pod):
        return "ending"
    node = node_of(pod)
    if node and node in lost:
        return "its node does not answer"
    if is_ready(pod):
        return "ready"
    if status.get("phase") in ("Succeeded", "Failed"):
        return f"has {'finished' if status['phase'] == 'Succeeded' else 'failed'}"
    if not node:
        return _unscheduled(pod)
    if is_silent(pod):
        return f"waits for the kubelet of {node}"
    for container in containers(pod):
        said = _container_stage(pod, container)
        if said:
            return said
    started = all(container.get("started") for container in status.get("containerStatuses") or [{}])
    return "runs, not ready yet" if started else "starting"


def _unscheduled(pod: Object) -> str:
    found = condition(pod, "PodScheduled")
    if found and found.get("status") == "False":
        return f"no node takes it: {one_line(found.get('message') or found.get('reason', ''))}"
    return "waits for a node"


def _container_stage(pod: Object, container: Object) -> str:
    state = container.get("state") or {}
    waiting, ended = state.get("waiting"), state.get("terminated")
    initial = container in (pod["status"].get("initContainerStatuses") or [])
    if waiting is not None:
        reason = waiting.get("reason", "")
        if reason == "ErrImagePull":
            return f"pull of {container.get('image')} failed, is tried again: {one_line(waiting.get('message', ''))}"
        if reason == "PodInitializing":
            return "" if initial else "runs its init containers"
        if reason and reason != "ContainerCreating":
            return _joined(reason, one_line(waiting.get("message", "")))
        network = condition(pod, "PodReadyToStartContainers")
        return "pulling image" if network and network.get("status") == "True" else "preparing volumes and network"
    if ended is not None and not (initial and ended.get("exitCode") == 0):
        return f"container {container.get('name')} is started again after {how_ended(ended)}"
    if initial and state.get("running") is not None and not container.get("started"):
        return f"init container {container.get('name')} runs"
    if not initial and state.get("running") is not None and container.get("restartCount"):
        last = (container.get("lastState") or {}).get("terminated")
        if last and not container.get("ready"):
            return f"container {container.get('name')} was started again after {how_ended(last)}"
    return ""


def is_ready(pod: Object) -> bool:
    """Tell whether *pod* answers requests, as far as the server knows."""
    found = condition(pod, "Ready")
    return bool(found) and found["status"] == "True" and not is_going(pod)


def is_alive(pod: Object) -> bool:
    """Tell whether *pod* counts: it is not being deleted, has not ended, and its node has not been given up."""
    status = pod.get("status") or {}
    return (
        not is_going(pod)
        and status.get("phase") not in ("Failed", "Succeeded", "Unknown")
        and status.get("reason") != "NodeLost"
    )


def is_evicted(pod: Object) -> bool:
    """Tell whether the cluster, and not its owner, takes *pod* away (its node was lost, drained, or is short of memory)."""
    found = condition(pod, "DisruptionTarget")
    reason = (pod.get("status") or {}).get("reason")
    return bool(found and found.get("status") == "True") or reason in (
        "NodeLost",
        "Evicted",
        "Preempting",
        "Terminated",
    )


def is_doubtful(pod: Object) -> bool:
    """Tell whether *pod* looks as if its node had stopped answering: its own containers are ready, but it was made unready.

    So the node lifecycle controller marks the pods of an unreachable node.
    """
    own, said = condition(pod, "ContainersReady"), condition(pod, "Ready")
    gates = (pod.get("spec") or {}).get("readinessGates")
    return bool(own and said) and not gates and own["status"] == "True" and said["status"] != "True"


def is_silent(pod: Object) -> bool:
    """Tell whether *pod* was given to a node whose kubelet has not said anything of it yet."""
    status = pod.get("status") or {}
    return bool(node_of(pod)) and not status.get("startTime") and not containers(pod)


def is_lost(node: Object) -> bool:
    """Tell whether *node*'s kubelet does not answer, or says itself that it cannot run pods."""
    found = condition(node, "Ready")
    return not found or found.get("status") != "True"


def containers(pod: Object) -> list[Object]:
    """Return the container statuses of *pod*, init containers first, in the order they start."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def serving_container(spec: Object, annotations: t.Mapping[str, str] | None = None) -> Object:
    """Return the container of a pod *spec* that serves: the one so named, wherever webhooks have put theirs.

    In pods of other workloads it is the one that ``kubectl.kubernetes.io/default-container`` of *annotations* names, else
    the first.
    """
    found = {container.get("name"): container for container in spec.get("containers") or ()}
    for name in (CONTAINER, (annotations or {}).get(_DEFAULT_CONTAINER)):
        if name in found:
            return dict(found[name])
    return dict(next(iter(found.values()), {}))


def condition(obj: Object, kind: str) -> Object:
    """Return the condition *kind* of *obj*'s status; empty if it has none."""
    for found in (obj.get("status") or {}).get("conditions") or ():
        if found.get("type") == kind:
            return dict(found)
    return {}


def controller_of(obj: Object) -> str:
    """Return the uid of the object that controls *obj*; empty if none does."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["uid"])
    return ""


def node_of(pod: Object) -> str:
    """Return the name of the node *pod* was given to; empty while it has none."""
    return str((pod.get("spec") or {}).get("nodeName") or "")


def named(pod: Object) -> str:
    """Return ``pod NAME on NODE``."""
    node = node_of(pod)
    return f"pod {pod['metadata']['name']}" + (f" on {node}" if node else "")


def row(pod: Object, lost: t.Container[str] = ()) -> dict[str, t.Any]:
    """Return *pod* as one row of a table.

    ``name``, ``node``, ``address``, ``ready`` (bool), ``restarts`` (of all its containers), ``image`` and ``image_id`` of
    its main container (see :func:`serving_container`), ``state`` (see :func:`stage`).
    """
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    found = trouble(pod)
    declared = serving_container(spec, annotations_of(pod))
    running: Object = next(
        (each for each in status.get("containerStatuses") or () if each.get("name") == declared.get("name")), {}
    )
    return {
        "name": pod["metadata"]["name"],
        "node": node_of(pod),
        "address": status.get("podIP", ""),
        "ready": is_ready(pod) and node_of(pod) not in lost,
        "restarts": sum(int(each.get("restartCount") or 0) for each in containers(pod)),
        "image": declared.get("image", ""),
        "image_id": running.get("imageID", ""),
        "state": found.text if found and is_alive(pod) else stage(pod, lost),
    }


def current_of(obj: Object, replica_sets: t.Iterable[Object], pods: t.Iterable[Object]) -> list[Object] | None:
    """Return those of *obj*'s *pods* that are of its newest revision; ``None`` while it is not known which these are."""
    kind = (group_of(obj["apiVersion"]), obj["kind"])
    if kind == ("apps", "Deployment"):
        newest = newest_replica_set(obj, replica_sets)
        return None if newest is None else [pod for pod in pods if controller_of(pod) == newest["metadata"]["uid"]]
    if kind == ("apps", "StatefulSet"):
        revision = (obj.get("status") or {}).get("updateRevision")
        return [pod for pod in pods if labels_of(pod).get("controller-revision-hash") == revision]
    if kind == ("apps", "DaemonSet"):
        template = annotations_of(obj).get("deprecated.daemonset.template.generation")
        return [pod for pod in pods if template in (None, labels_of(pod).get("pod-template-generation"))]
    return list(pods)


def newest_replica_set(deployment: Object, replica_sets: t.Iterable[Object]) -> Object | None:
    """Return the ReplicaSet of *deployment*'s newest revision.

    The controller writes the revision to the Deployment before it says that it has observed its generation, so the
    ReplicaSet of that revision is the right one, also while others of it are known only from before.
    """
    revision = annotations_of(deployment).get(_REVISION)
    for each in replica_sets:
        if revision and annotations_of(each).get(_REVISION) == revision:
            return each
    return None


class ObservedPods(t.NamedTuple):
    """The pods of one workload.

    :param live: the workload itself.
    :param pods: all that it controls.
    :param current: those of its newest revision; empty while it is not known which these are.
    """

    live: Object
    pods: list[Object]
    current: list[Object]


def observed_pods(api: Api, obj: Object) -> ObservedPods | None:
    """Return the pods of the workload *obj*, as the server knows them now; ``None`` where it does not exist.

    *obj* itself is read again: when it was applied, its controller had not named its revision yet.

    :raises ApiError: it cannot be asked.
    """
    metadata = obj["metadata"]
    live = api.get(obj["apiVersion"], obj["kind"], metadata["namespace"], metadata["name"])
    if live is None:
        return None
    found: dict[str, list[Object]] = {"ReplicaSet": [], "Pod": []}
    for source in pod_sources_of([live]):
        found[source.kind] = api.list(source.api_version, source.kind, source.namespace, labels=source.labels)[0]
    uid = live["metadata"]["uid"]
    sets = [each for each in found["ReplicaSet"] if controller_of(each) == uid]
    owners = {uid, *(each["metadata"]["uid"] for each in sets)}
    pods = [pod for pod in found["Pod"] if controller_of(pod) in owners]
    return ObservedPods(live, pods, list(current_of(live, sets, pods) or ()))


def current_pods(api: Api, obj: Object) -> list[Object]:
    """Return the ready pods of the newest revision of the workload *obj*; see :func:`observed_pods`."""
    observed = observed_pods(api, obj)
    return [pod for pod in observed.current if is_ready(pod)] if observed else []


def one_line(text: str) -> str:
    """Return *text* on one line, cut where it is endless; what matters in a server's message is mostly at its end."""
    line = " ".join(str(text).split())
    if len(line) <= _TEXT_LIMIT:
        return line
    return f"{line[: _TEXT_LIMIT // 3]} … {line[-(_TEXT_LIMIT * 2 // 3) :]}"


def _joined(reason: str, message: str) -> str:
    return ": ".join(part for part in (reason, message) if part)
