# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deleting what is ours and no longer declared, and giving up what was there before us."""

from __future__ import annotations

import time
import typing as t

from .._core.errors import ModelshipError
from .._core.progress import Progress
from .errors import ApiError
from .objects import MANAGER, Object, annotations_of, is_going, key_of, labels_of, waves
from .refusal import combined, some
from .vacancy import is_container, why_left

if t.TYPE_CHECKING:
    from .client import Api
    from .plan import Plan

#: These own pods; they are gone only when their pods are.
_OWN_PODS = frozenset(("CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"))
_OUR_PREFIX = "modelship.io/"


def no_guard() -> None:
    """Stand for a check before each write where none is needed."""


def prune(
    api: Api,
    plan: Plan,
    progress: Progress,
    *,
    deadline_s: float = 120.0,
    guard: t.Callable[[], None] = no_guard,
) -> None:
    """Delete what *plan* found to be no longer declared, and wait until it is gone; give up what existed before.

    Namespaces and kinds come last, and only if still nothing else is in them: since *plan* was made, minutes may have passed.

    :param guard: called before each write; raises if this run must not write any more.
    :raises ModelshipError: the server refuses, or something is not gone after *deadline_s* seconds.
    """
    for obj in plan.releases:
        guard()
        release(api, obj)
    if plan.prunes:
        progress.step(f"removing {some([key_of(obj) for obj in plan.prunes])}")
    deadline = time.monotonic() + deadline_s
    ours = list(plan.prunes)
    for wave in waves(ours, backwards=True):
        for obj in wave:
            if is_container(obj) and (why := why_left(api, obj, plan.name, ours)):
                plan.leave(obj, why)
        vacant = [obj for obj in wave if obj in plan.prunes]
        delete_all(api, vacant, progress, deadline_s=deadline - time.monotonic(), guard=guard)


def delete_all(
    api: Api,
    objects: t.Sequence[Object],
    progress: Progress,
    *,
    deadline_s: float,
    guard: t.Callable[[], None] = no_guard,
) -> None:
    """Delete live *objects*, those that refer to others first, and wait until all are gone, their pods too.

    :raises ModelshipError: the server refuses, or something is not gone in time.
    """
    from .gone import wait_gone  # with all that judges pods, which a run that deletes nothing need not compile

    deadline = time.monotonic() + deadline_s

    def delete(obj: Object) -> bool:
        guard()
        return api.delete(obj, propagation="Foreground" if obj["kind"] in _OWN_PODS else "Background")

    for wave in waves(objects, backwards=True):
        fresh = [obj for obj in wave if not is_going(obj)]
        if errors := [result for result in api.each(delete, fresh) if isinstance(result, ModelshipError)]:
            raise combined(errors)
        # in the foreground an object stays until its pods are gone
        wait_gone(api, wave, deadline_s=deadline - time.monotonic(), progress=progress, pods=False)


def release(api: Api, obj: Object) -> None:
    """Give up the live *obj*, which existed before we applied to it: it loses what only we declared, and our marks.

    Where it could not be without that (a Deployment without an image), it stays as it is and only our marks go.

    :raises ModelshipError: the server refuses.
    """
    key = key_of(obj)
    metadata = {"name": key.name, "uid": obj["metadata"]["uid"]}
    if key.namespace:
        metadata["namespace"] = key.namespace
    try:
        api.apply({"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": metadata})
    except ApiError as exc:
        if exc.status in (404, 409):
            return  # it is gone, or another one by now
        if exc.status != 422:
            raise
        _forget(api, obj)


def _forget(api: Api, obj: Object) -> None:
    key = key_of(obj)
    metadata = obj["metadata"]
    patch = {
        "resourceVersion": metadata["resourceVersion"],
        "labels": {name: None for name in labels_of(obj) if name.startswith(_OUR_PREFIX)},
        "annotations": {name: None for name in annotations_of(obj) if name.startswith(_OUR_PREFIX)},
        "managedFields": [
            entry
            for entry in metadata.get("managedFields") or []
            if (entry.get("manager"), entry.get("operation")) != (MANAGER, "Apply")
        ],
    }
    api.request(
        "PATCH",
        api.path(obj["apiVersion"], obj["kind"], key.namespace, key.name),
        query={"fieldManager": f"{MANAGER}-release"},
        body={"metadata": patch},
        content_type="application/merge-patch+json",
    )
