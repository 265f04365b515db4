# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of some objects, their pods and their nodes, kept up to date from what streams say."""

from __future__ import annotations

import typing as t

from .judge import has_pods, judge
from .objects import Key, Object, key_of
from .pods import condition, controller_of, is_lost
from .verdict import Related, Verdict
from .watching import News, Source, pod_sources_of, sources_of

if t.TYPE_CHECKING:
    from .client import Api

#: Seconds that an object may be missing: ``kubectl replace --force`` deletes and makes it anew.
MISSING_GRACE_S = 2.0
_SETS = frozenset({"StatefulSet", "DaemonSet", "Job"})


class State:
    """Targets, and what is related to them.

    :param objects: the targets as they were when last seen.
    """

    def __init__(self, objects: t.Iterable[Object]) -> None:
        self.live: dict[Key, Object | None] = {key_of(obj): obj for obj in objects}
        self.dirty: set[Key] = set(self.live)
        self.sources: dict[Source, list[Key]] = {}
        #: names of nodes asked about, and of those that do not answer
        self.nodes: set[str] = set()
        self.lost: set[str] = set()
        self.late_classes: set[str] = set()
        #: targets that were applied only just now
        self.fresh: set[Key] = set()
        self._given = {key: obj for key, obj in self.live.items() if obj is not None}
        self._keys_by_uid = {obj["metadata"].get("uid", ""): key for key, obj in self._given.items()}
        self._stale = {key for key, obj in self._given.items() if _is_late(obj)}
        self._of_source: dict[Source, dict[str, Object]] = {}
        self._children: dict[str, dict[str, Object]] = {}
        self._replica_sets: dict[str, Object] = {}
        self._refusals: dict[Key, list[Object]] = {}

    def target_sources(self, keys: t.Iterable[Key]) -> set[Source]:
        """Return the streams of the targets *keys* themselves."""
        self.sources = sources_of([obj for key in keys if (obj := self.live[key]) is not None])
        return set(self.sources)

    def take(self, news: News) -> None:
        """Take over what a stream said; afterwards ``dirty`` has the targets to judge again."""
        kind = news.source.kind
        if kind == "Event":
            if news.what in ("ADDED", "MODIFIED"):  # those of the first list may be older than the wait
                self._refused(news.items[0])
        elif kind == "Node":
            self._node(news)
        elif kind == "StorageClass":
            self._classes(news)
        else:
            if news.source in self.sources:
                self._target_news(news)
            if kind in ("Pod", "ReplicaSet"):
                self._related_news(news)

    def judge(self, key: Key) -> Verdict:
        """Judge one target."""
        obj = self.live[key]
        if obj is None:
            gone = "it is not there any more"
            if self._given[key].get("spec", {}).get("ttlSecondsAfterFinished") is not None:
                return Verdict("failed", gone, "raise its ttlSecondsAfterFinished", MISSING_GRACE_S)
            return Verdict("failed", gone, "somebody deleted it; run again", MISSING_GRACE_S)
        return judge(obj, self.related(key))

    def related(self, key: Key) -> Related:
        """Return what is known beside the target *key*."""
        obj = self.live[key] or self._given[key]
        late = key.kind == "PersistentVolumeClaim" and obj["spec"].get("storageClassName") in self.late_classes
        if not has_pods(obj):
            return Related(lost=self.lost, late_binding=late, fresh=key in self.fresh)
        replica_sets: list[Object] = []
        pods: list[Object] = []
        for child in self._children.get(obj["metadata"].get("uid", ""), {}).values():
            if child["kind"] == "ReplicaSet":
                replica_sets.append(child)
                pods += self._children.get(child["metadata"]["uid"], {}).values()
            else:
                pods.append(child)
        return Related(replica_sets, pods, self.lost, self._refusals.get(key, ()), key in self._stale)

    def age(self) -> None:
        """From now on no target counts as applied only just now."""
        self.dirty |= self.fresh
        self.fresh = set()

    def wants_pods(self, key: Key) -> bool:
        """Tell whether *key* is there and declares pods."""
        obj = self.live[key]
        return obj is not None and has_pods(obj) and obj["spec"].get("replicas", 1) != 0

    def pod_sources(self, keys: t.Iterable[Key]) -> set[Source]:
        """Return the streams to follow so that the workloads among *keys* can be judged."""
        workloads = [obj for key in keys if self.wants_pods(key) and (obj := self.live[key]) is not None]
        sources = pod_sources_of(workloads)
        for obj in workloads:
            if obj["kind"] in _SETS:
                sources.add(Source("v1", "Event", key_of(obj).namespace, fields="reason=FailedCreate"))
        return sources

    def _target_news(self, news: News) -> None:
        if news.what == "SYNC":
            found = {key_of(obj): obj for obj in news.items}
            for key in self.sources[news.source]:
                self._set(key, found.get(key))
            return
        for obj in news.items:
            key = key_of(obj)
            if key in self.live:
                self._set(key, None if news.what == "DELETED" else obj)

    def _set(self, key: Key, obj: Object | None) -> None:
        before = self.live[key]
        if obj is None and key.kind == "Job" and before and condition(before, "Complete").get("status") == "True":
            return  # finished Jobs may be cleaned away at once
        self.live[key] = obj
        self.dirty.add(key)
        if obj is not None:
            self._keys_by_uid[obj["metadata"]["uid"]] = key
            if not _is_late(obj):
                self._stale.discard(key)

    def _related_news(self, news: News) -> None:
        known = self._of_source.setdefault(news.source, {})
        if news.what == "SYNC":
            found = {obj["metadata"]["uid"]: obj for obj in news.items}
            for uid in known.keys() - found.keys():
                self._forget(known.pop(uid))
            for uid, obj in found.items():
                known[uid] = obj
                self._remember(obj)
        elif news.what == "DELETED":
            for obj in news.items:
                known.pop(obj["metadata"]["uid"], None)
                self._forget(obj)
        else:
            for obj in news.items:
                known[obj["metadata"]["uid"]] = obj
                self._remember(obj)

    def _remember(self, obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        self._children.setdefault(controller_of(obj), {})[uid] = obj
        if obj["kind"] == "ReplicaSet":
            self._replica_sets[uid] = obj
        self._touch(obj)

    def _forget(self, obj: Object) -> None:
        uid = obj["metadata"]["uid"]
        self._children.get(controller_of(obj), {}).pop(uid, None)
        self._replica_sets.pop(uid, None)
        self._touch(obj)

    def _touch(self, obj: Object) -> None:
        owner = controller_of(obj)
        if owner not in self._keys_by_uid and owner in self._replica_sets:
            owner = controller_of(self._replica_sets[owner])
        if owner in self._keys_by_uid:
            self.dirty.add(self._keys_by_uid[owner])

    def _refused(self, event: Object) -> None:
        key = self._keys_by_uid.get((event.get("involvedObject") or {}).get("uid", ""))
        if key is not None:
            self._refusals.setdefault(key, []).append(event)
            self.dirty.add(key)

    def _node(self, news: News) -> None:
        name = news.source.fields.partition("=")[2]
        self.nodes.add(name)
        gone = not news.items or news.what == "DELETED"
        lost = news.what not in ("REFUSED", "LOST") and (gone or is_lost(news.items[0]))
        if lost != (name in self.lost):
            (self.lost.add if lost else self.lost.discard)(name)
            self.dirty.update(self.live)

    def _classes(self, news: News) -> None:
        for each in news.items:
            if each.get("volumeBindingMode") == "WaitForFirstConsumer":
                name = each["metadata"]["name"]
                self.late_classes.add(name)
                self.dirty.update(key for key in self.live if key.kind == "PersistentVolumeClaim")


def _is_late(obj: Object) -> bool:
    return condition(obj, "Progressing").get("reason") == "ProgressDeadlineExceeded"


def node_source(name: str) -> Source:
    """Return the stream of one node."""
    return Source("v1", "Node", "", fields=f"metadata.name={name}")


def classes_source(objects: t.Iterable[Object]) -> set[Source]:
    """Return the stream of storage classes if a claim among *objects* waits for one."""
    if any(obj["kind"] == "PersistentVolumeClaim" and obj["spec"].get("storageClassName") for obj in objects):
        return {Source("storage.k8s.io/v1", "StorageClass", "")}
    return set()


def look(api: Api, state: State, sources: t.Collection[Source], *, courtesy: bool = False) -> None:
    """List *sources* once and have *state* take it.

    :param courtesy: go without what the server does not show.
    :raises ApiError: it cannot be asked.
    """

    def one(source: Source) -> News:
        found = api.list(
            source.api_version, source.kind, source.namespace or None, labels=source.labels, fields=source.fields
        )
        return News(source, "SYNC", found[0])

    for news in api.each(one, list(sources)):
        if isinstance(news, News):
            state.take(news)
        elif not courtesy:
            raise news
