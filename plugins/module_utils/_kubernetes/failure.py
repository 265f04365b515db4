# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user needs to see when a rollout fails: one line, the last log lines, the recent events, the pods."""

from __future__ import annotations

import typing as t

from .._core.errors import ModelshipError
from .objects import Object, key_of
from .pods import containers, current_of, is_alive, is_ready, newest_replica_set, one_line, row
from .verdict import Related, Verdict
from .watching import bounded

if t.TYPE_CHECKING:
    from .client import Api

LOG_LINES = 20
_TOLD_LOG_LINES = 3
_EVENTS = 20
#: Pods whose events are asked for.
_PODS = 3
#: Seconds that collecting may take; a server that does not answer must not hold the verdict back.
_COLLECT_S = 3.0


def unhealthy(api: Api, obj: Object, verdict: Verdict, related: Related, message: str) -> ModelshipError:
    """Return the error of kind ``unhealthy`` for *obj*, told with what the server knows about it.

    Its details are ``log`` (last lines of the failed container), ``events`` (see :func:`warnings_of`) and ``pods`` (see
    :func:`.pods.row`); a detail that cannot be read within 3 s is empty.

    :param message: what is wrong, as a whole sentence without the hint.
    """
    pod, container, previous = _speaker(obj, verdict, related)
    concerned = [obj, *_beside(obj, related, pod)]
    log: list[str] = []
    events: list[dict[str, t.Any]] = []
    jobs: list[t.Callable[[], None]] = [lambda: events.extend(warnings_of(api, concerned))]
    if pod is not None and container:
        jobs.append(lambda: log.extend(log_of(api, pod, container, previous=previous)))
    answered = bounded(lambda: api.each(lambda job: job(), jobs), _COLLECT_S)
    log, events = list(log), list(events)
    told = message if answered else f"{message} (so it was last seen; {api.access.server} does not answer now)"
    telling = [each for each in events if each["message"] and each["message"] not in message]
    if verdict.state != "failed" and telling:
        told += f"; {telling[-1]['object']}: {telling[-1]['reason']}: {telling[-1]['message']}"
    if log:
        told += f"; the log of {container} ends: {' | '.join(line.strip() for line in log[-_TOLD_LOG_LINES:])}"
    if verdict.hint:
        told += f". What to do: {verdict.hint}"
    pods = [row(each, related.lost) for each in (related.pods or ([obj] if obj["kind"] == "Pod" else []))]
    return ModelshipError(one_line_of(told), kind="unhealthy", log=log, events=events, pods=pods)


def one_line_of(text: str) -> str:
    """Return *text* without line breaks."""
    return " ".join(text.split())


def log_of(api: Api, pod: Object, container: str, *, previous: bool) -> list[str]:
    """Return the last lines of a container's log; of its run before if *previous*, and there was one."""
    path = f"{api.path('v1', 'Pod', pod['metadata']['namespace'], pod['metadata']['name'])}/log"
    query: dict[str, t.Any] = {"container": container, "tailLines": LOG_LINES}
    for run_before in (True, False) if previous else (False,):
        try:
            text = api.text(path, query={**query, "previous": "true"} if run_before else query)
        except ModelshipError:
            continue  # there is none (any more), or its node does not answer; the failure itself is told anyway
        if text.strip():
            return text.splitlines()[-LOG_LINES:]
    return []


def warnings_of(api: Api, objects: t.Sequence[Object]) -> list[dict[str, t.Any]]:
    """Return the recent warnings about *objects*, repeated ones once, the newest last.

    Each is ``object`` (``Pod/NAME``), ``reason``, ``message``, ``count`` and ``last`` (RFC 3339).
    """

    def about(obj: Object) -> list[Object]:
        fields = f"involvedObject.uid={obj['metadata'].get('uid', '')},type=Warning"
        return api.list("v1", "Event", obj["metadata"].get("namespace") or "default", fields=fields)[0]

    found: dict[tuple[str, str, str], dict[str, t.Any]] = {}
    for events in api.each(about, objects):
        if isinstance(events, ModelshipError):
            continue  # events are a help; not to be allowed to read them is no reason to hide the failure
        for event in events:
            concerned = event.get("involvedObject") or {}
            name = f"{concerned.get('kind', '')}/{concerned.get('name', '')}"
            message = one_line(event.get("message", ""))
            series = event.get("series") or {}
            count = int(event.get("count") or series.get("count") or 1)
            last = str(
                event.get("lastTimestamp")
                or series.get("lastObservedTime")
                or event.get("eventTime")
                or event["metadata"].get("creationTimestamp")
            )
            known = found.setdefault(
                (name, event.get("reason", ""), message),
                {"object": name, "reason": event.get("reason", ""), "message": message, "count": 0, "last": ""},
            )
            known["count"] += count
            known["last"] = max(known["last"], last)
    return sorted(found.values(), key=lambda each: str(each["last"]))[-_EVENTS:]


def _speaker(obj: Object, verdict: Verdict, related: Related) -> tuple[Object | None, str, bool]:
    """Return pod and container whose log tells most, and whether of its run before."""
    if verdict.pod is not None and verdict.container:
        return verdict.pod, verdict.container, verdict.previous
    pods = [obj] if obj["kind"] == "Pod" else current_of(obj, related.replica_sets, related.pods) or []
    for pod in pods:
        if is_ready(pod) or not is_alive(pod):
            continue
        for each in reversed(containers(pod)):
            state = each.get("state") or {}
            if not each.get("ready") and (state.get("running") or state.get("terminated")):
                return pod, str(each["name"]), False
    return verdict.pod, "", False


def _beside(obj: Object, related: Related, pod: Object | None) -> list[Object]:
    """Return the objects whose events concern *obj*: its newest ReplicaSet, and a few pods that are not ready."""
    found: list[Object] = []
    if obj["kind"] == "Deployment":
        newest = newest_replica_set(obj, related.replica_sets)
        found += [newest] if newest is not None else []
    unready = [each for each in current_of(obj, related.replica_sets, related.pods) or () if not is_ready(each)]
    pods = ([pod] if pod is not None and key_of(pod) != key_of(obj) else []) + unready
    unique = {each["metadata"]["uid"]: each for each in pods}
    return found + list(unique.values())[:_PODS]
