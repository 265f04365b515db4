# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting by watch until deleted objects, and the pods they leave behind, are gone."""

from __future__ import annotations

import time
import typing as t

from .._core.errors import ModelshipError
from .._core.progress import Progress
from .judge import has_pods
from .objects import Key, Object, key_of
from .pods import named, node_of
from .watching import Feed, News, Source, pod_sources_of, remaining, sources_of

if t.TYPE_CHECKING:
    from .client import Api

_TELL_S = 1.0
_NAMED = 3


def wait_gone(
    api: Api, objects: t.Sequence[Object], *, deadline_s: float, progress: Progress, pods: bool = True
) -> None:
    """Wait until *objects* are gone: the ones with their uid, not what somebody made anew under the name.

    :param objects: as they were when they were deleted.
    :param deadline_s: seconds from now.
    :param pods: wait for the workloads' pods too, which the server deletes after their owner.
    :raises ModelshipError: of kind ``kubernetes``: something is still there; the message names it and its finalizers.
    """
    waiter = _Gone(api, objects, deadline_s, progress, pods=pods)
    try:
        waiter.run()
    finally:
        waiter.feed.close()


class _Gone:
    def __init__(
        self, api: Api, objects: t.Sequence[Object], deadline_s: float, progress: Progress, *, pods: bool
    ) -> None:
        self.feed = Feed(api)
        self.deadline_s = deadline_s
        self.begun = time.monotonic()
        self.progress = progress
        self.targets = {key_of(obj): obj for obj in objects}
        self.workloads = [obj for obj in objects if pods and has_pods(obj)]
        self.left: dict[Source, dict[tuple[Key, str], Object]] = {}
        self.unsynced: set[Source] = set()
        self.trouble: ModelshipError | None = None
        self.told_at = self.begun

    def run(self) -> None:
        sources = {*sources_of(self.targets.values()), *self._pod_sources()}
        self.unsynced = set(sources)
        self.feed.open(sources)
        deadline = self.begun + self.deadline_s
        while self.unsynced or any(self.left.values()):
            if not self.unsynced:
                self.feed.go()
            if remaining(deadline) <= 0:
                raise ModelshipError(self._what_hangs(), kind="kubernetes")
            self._tell()
            for news in self.feed.get(min(_TELL_S, remaining(deadline))):
                self._take(news)

    def _pod_sources(self) -> set[Source]:
        return {source for source in pod_sources_of(self.workloads) if source.kind == "Pod"}

    def _take(self, news: News) -> None:
        if news.what == "LOST":
            self.trouble = news.error
            return
        self.trouble = None
        self.unsynced.discard(news.source)
        if news.what == "REFUSED":
            error = news.error
            # A kind whose definition was deleted has no objects any more; pods need not be visible to this user.
            if error is not None and getattr(error, "status", 404) != 404 and news.source.kind != "Pod":
                raise error
            self.left[news.source] = {}
            return
        left = self.left.setdefault(news.source, {})
        if news.what == "SYNC":
            left.clear()
        for obj in news.items:
            ident = (key_of(obj), obj["metadata"]["uid"])
            if news.what == "DELETED":
                left.pop(ident, None)
            elif self._is_meant(obj):
                left[ident] = obj

    def _is_meant(self, obj: Object) -> bool:
        target = self.targets.get(key_of(obj))
        if target is not None:
            uid = target["metadata"].get("uid")
            return uid is None or uid == obj["metadata"]["uid"]
        return obj["kind"] == "Pod" and any(_comes_from(obj, workload) for workload in self.workloads)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self.told_at >= _TELL_S:
            self.told_at = now
            waited = f"{now - self.begun:.0f} of at most {self.deadline_s:g} s"
            self.progress.live(f"waiting {waited} until all is gone: {self._names()}")

    def _names(self) -> str:
        found = [obj for left in self.left.values() for obj in left.values()]
        names = [str(key_of(obj)) for obj in found[:_NAMED]]
        if len(found) > _NAMED:
            names.append(f"{len(found) - _NAMED} more")
        return ", ".join(names) or "the server has not answered yet"

    def _what_hangs(self) -> str:
        found = [obj for left in self.left.values() for obj in left.values()]
        told = "; ".join(_why(obj) for obj in found[:_NAMED])
        if len(found) > _NAMED:
            told += f"; {len(found) - _NAMED} more"
        if self.trouble is not None:
            told += f"; {self.trouble.message}"
        return f"not everything is gone after {self.deadline_s:g} s: {told or 'the server has not answered'}"


def _comes_from(pod: Object, workload: Object) -> bool:
    """Tell whether *pod* belongs to *workload*, which may be gone already with the ReplicaSet between them."""
    for owner in pod["metadata"].get("ownerReferences") or ():
        if owner.get("uid") == workload["metadata"].get("uid"):
            return True
        name = str(owner.get("name", "")).rpartition("-")[0]
        if (
            workload["kind"] == "Deployment"
            and owner.get("kind") == "ReplicaSet"
            and name == workload["metadata"]["name"]
        ):
            return bool(pod["metadata"].get("namespace") == workload["metadata"].get("namespace"))
    return False


def _why(obj: Object) -> str:
    """Say why *obj* is still there, as far as it says itself."""
    key, metadata = key_of(obj), obj["metadata"]
    if not metadata.get("deletionTimestamp"):
        return f"{key} is not being deleted: was it made anew?"
    finalizers = [*(metadata.get("finalizers") or ()), *((obj.get("spec") or {}).get("finalizers") or ())]
    said = [
        str(found.get("message"))
        for found in (obj.get("status") or {}).get("conditions") or ()
        if found.get("status") == "True" and str(found.get("type", "")).startswith("Namespace")
    ]
    if said:
        return f"{key}: {' '.join(said)}"
    if finalizers:
        return f"{key} waits for its finalizers {', '.join(finalizers)}: see who should remove them"
    if key.kind == "Pod" and node_of(obj):
        return f"{named(obj)} in {key.namespace} has not ended: does that node answer? (kubectl get nodes)"
    return f"{key} is being deleted"
