# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Having the cluster try again at once what it has put off.

A pull that failed is tried again after up to 5 minutes, pods that were refused after up to 17. Who has repaired the cause
and runs again must not wait for that, nor be told of a failure that is over.
"""

from __future__ import annotations

import time
import typing as t

from .._core.errors import ModelshipError
from .judge import has_pods
from .objects import Key, Object
from .pods import condition, current_of, is_alive, newest_replica_set, trouble
from .state import State, look

if t.TYPE_CHECKING:
    from .client import Api

#: Annotation of a ReplicaSet; a change of it makes its controller look at it now.
RETRIED = "modelship.io/retried"


def nudge(api: Api, objects: t.Sequence[Object], *, check: bool = False) -> list[str]:
    """Have the cluster try again what keeps *objects* from being ready; return what was done, in words.

    Pods that the kubelet has stopped trying to start are deleted, so that new ones are made; a ReplicaSet whose pods were
    refused is touched. What is ready, or on its way, is left alone.

    :param objects: as the server returned them.
    :param check: do nothing, only return what would be done.
    :raises ApiError: the server cannot be asked, or does not allow it.
    """
    state = State(objects)
    look(api, state, state.target_sources(state.live))
    keys = [key for key in state.live if state.wants_pods(key) and state.judge(key).state != "ready"]
    look(api, state, state.pod_sources(keys))
    deeds: list[tuple[str, t.Callable[[], t.Any]]] = []
    for key in keys:
        deeds += _deeds(api, state, key)
    for result in api.each(lambda deed: deed[1](), [] if check else deeds):
        if isinstance(result, ModelshipError):
            raise result
    return [text for text, _call in deeds]


def _deeds(api: Api, state: State, key: Key) -> list[tuple[str, t.Callable[[], t.Any]]]:
    obj = state.live[key]
    if obj is None or not has_pods(obj):
        return []
    related = state.related(key)
    # A StatefulSet waits for its broken pods of earlier revisions as well.
    pods = related.pods if key.kind == "StatefulSet" else current_of(obj, related.replica_sets, related.pods) or []
    deeds: list[tuple[str, t.Callable[[], t.Any]]] = []
    for pod in pods:
        found = trouble(pod)
        if found is not None and is_alive(pod):
            deeds.append((f"pod {pod['metadata']['name']} ({found.reason}) is made anew", _delete(api, pod)))
    newest = newest_replica_set(obj, related.replica_sets) if key.kind == "Deployment" else obj
    if newest is not None and condition(newest, "ReplicaFailure").get("status") == "True":
        deeds.append((f"{key} tries again to make its pods", _touch(api, newest)))
    return deeds


def _delete(api: Api, pod: Object) -> t.Callable[[], t.Any]:
    return lambda: api.delete(pod)


def _touch(api: Api, replica_set: Object) -> t.Callable[[], t.Any]:
    metadata = replica_set["metadata"]
    path = api.path(replica_set["apiVersion"], replica_set["kind"], metadata["namespace"], metadata["name"])
    body = {"metadata": {"annotations": {RETRIED: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}}}
    return lambda: api.request("PATCH", path, body=body, content_type="application/merge-patch+json")
