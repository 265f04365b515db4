# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several watches in one queue: which are needed for which objects, and the threads that follow them."""

from __future__ import annotations

import queue
import threading
import time
import typing as t

from .._core.errors import ModelshipError
from .objects import DEPLOYMENT, Key, Object, key_of, labels_of

if t.TYPE_CHECKING:
    from .client import Api

#: With more selectors than this in one namespace, one stream of the whole namespace is cheaper.
_MAX_SELECTORS = 4
_AGAIN_S = 1.0
#: Answers after which asking again is of no use.
_FINAL = frozenset((400, 401, 403, 404, 405, 422))


class Source(t.NamedTuple):
    """What one stream follows; an empty *namespace* is for what is cluster-scoped."""

    api_version: str
    kind: str
    namespace: str
    labels: str = ""
    fields: str = ""


class News(t.NamedTuple):
    """What a stream said.

    :param what: ``SYNC`` (*items* is all there is now), ``ADDED``, ``MODIFIED``, ``DELETED`` (*items* is the one object),
        ``LOST`` (*error*; the stream tries again), ``REFUSED`` (*error*; it has ended).
    """

    source: Source
    what: str
    items: t.Sequence[Object] = ()
    error: ModelshipError | None = None


class Feed:
    """Follows sources, each in a thread of its own, until it is closed."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._queue: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._go = threading.Event()
        self.sources: set[Source] = set()

    def open(self, sources: t.Iterable[Source]) -> None:
        """Begin to list, and after :meth:`go` to watch, what is not followed yet."""
        for source in sources:
            if source not in self.sources:
                self.sources.add(source)
                threading.Thread(target=self._follow, args=(source,), daemon=True).start()

    def go(self) -> None:
        """Let the streams watch; without it they only list, because that may be all that is needed."""
        self._go.set()

    def close(self) -> None:
        """End all streams; they end by themselves within a moment, nothing waits for them."""
        self._stop.set()
        self._go.set()

    def get(self, timeout: float) -> list[News]:
        """Return what was said since the last call; wait up to *timeout* seconds if it is nothing."""
        found: list[News] = []
        try:
            found.append(self._queue.get(timeout=max(0.0, timeout)))
            while True:
                found.append(self._queue.get_nowait())
        except queue.Empty:
            return found

    def _follow(self, source: Source) -> None:
        while not self._stop.is_set():
            try:
                self._stream(source)
            except ModelshipError as exc:
                final = getattr(exc, "status", 400) in _FINAL  # what is no answer of the server is not repaired by time
                self._queue.put(News(source, "REFUSED" if final else "LOST", error=exc))
                if final:
                    return
                self._stop.wait(_AGAIN_S)

    def _stream(self, source: Source) -> None:
        api_version, kind, namespace, labels, fields = source
        items, version = self._api.list(api_version, kind, namespace or None, labels=labels, fields=fields)
        self._queue.put(News(source, "SYNC", items))
        self._go.wait()
        if self._stop.is_set():
            return
        stream = self._api.watch(
            api_version,
            kind,
            namespace or None,
            labels=labels,
            fields=fields,
            resource_version=version,
            stop=self._stop,
        )
        for what, obj in stream:
            self._queue.put(News(source, what, obj.get("items") or [] if what == "SYNC" else [obj]))


def sources_of(objects: t.Iterable[Object]) -> dict[Source, list[Key]]:
    """Return the streams that tell of *objects* themselves: one for all objects of a kind in a namespace."""
    groups: dict[tuple[str, str, str], list[Object]] = {}
    for obj in objects:
        key = key_of(obj)
        groups.setdefault((obj["apiVersion"], key.kind, key.namespace), []).append(obj)
    result: dict[Source, list[Key]] = {}
    for group, members in groups.items():
        keys = [key_of(obj) for obj in members]
        names = {labels_of(obj).get(DEPLOYMENT) for obj in members}
        if len(members) == 1:
            source = Source(*group, fields=f"metadata.name={keys[0].name}")
        elif len(names) == 1 and None not in names:
            source = Source(*group, labels=f"{DEPLOYMENT}={names.pop()}")
        else:
            source = Source(*group)
        result[source] = keys
    return result


def pod_sources_of(workloads: t.Iterable[Object]) -> set[Source]:
    """Return the streams of the pods, and of the ReplicaSets between, of *workloads*."""
    selectors: dict[tuple[str, str], set[str]] = {}
    for obj in workloads:
        text = _pod_selector(obj)
        selectors.setdefault((key_of(obj).namespace, "Pod"), set()).add(text)
        if obj["kind"] == "Deployment":
            selectors.setdefault((key_of(obj).namespace, "ReplicaSet"), set()).add(text)
    result: set[Source] = set()
    for (namespace, kind), texts in selectors.items():
        api_version = "apps/v1" if kind == "ReplicaSet" else "v1"
        for text in texts if len(texts) <= _MAX_SELECTORS else {""}:
            result.add(Source(api_version, kind, namespace, labels=text))
    return result


def _pod_selector(obj: Object) -> str:
    """Return a label selector that finds *obj*'s pods: the deployment's label where they have it, else its own."""
    ours = labels_of(obj).get(DEPLOYMENT)
    template = ((obj["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
    if ours and template.get(DEPLOYMENT) == ours:
        return f"{DEPLOYMENT}={ours}"
    return selector_text(obj["spec"].get("selector") or {})


def selector_text(selector: t.Mapping[str, t.Any]) -> str:
    """Return a LabelSelector as the text that queries take.

    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api
    """
    if "matchLabels" not in selector and "matchExpressions" not in selector:
        return ",".join(f"{name}={value}" for name, value in sorted(selector.items()))  # a ReplicationController's
    parts = [f"{name}={value}" for name, value in sorted((selector.get("matchLabels") or {}).items())]
    for each in selector.get("matchExpressions") or ():
        values = ",".join(each.get("values") or ())
        operator = each["operator"]
        if operator == "Exists":
            parts.append(each["key"])
        elif operator == "DoesNotExist":
            parts.append(f"!{each['key']}")
        else:
            parts.append(f"{each['key']} {'in' if operator == 'In' else 'notin'} ({values})")
    return ",".join(parts)


def bounded(call: t.Callable[[], t.Any], seconds: float) -> bool:
    """Run *call* in a thread, wait at most *seconds* for it, and tell whether it has ended; else it goes on by itself."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    return not thread.is_alive()


def remaining(deadline: float) -> float:
    """Return the seconds until *deadline* of ``time.monotonic``, at least 0."""
    return max(0.0, deadline - time.monotonic())
