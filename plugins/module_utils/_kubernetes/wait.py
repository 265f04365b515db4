# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for objects by watch: until all are ready, or one never will be, or the time is over."""

from __future__ import annotations

import time
import typing as t

from .._core.errors import ModelshipError
from .._core.progress import Progress
from .discovery import built_in
from .failure import unhealthy
from .gone import wait_gone
from .judge import has_pods
from .managed import applied_at
from .objects import Key, Object, key_of
from .pods import current_of, is_doubtful, is_evicted, is_ready, node_of, row
from .state import State, classes_source, look, node_source
from .verdict import Verdict
from .watching import Feed, News, Source

if t.TYPE_CHECKING:
    from .client import Api

__all__ = ["health", "wait", "wait_gone"]

_TELL_S = 1.0
#: So many objects are told one by one.
_FEW = 10
_NAMED = 3
#: Nodes that are asked after, before their pods' failures count.
_MAX_NODES = 8
#: Seconds within which the controller of a custom resource is expected to say something of it.
FRESH_S = 5.0


def wait(api: Api, objects: t.Sequence[Object], *, deadline_s: float, progress: Progress) -> None:
    """Wait until all *objects* are ready.

    :param objects: as the server returned them when they were applied or listed.
    :param deadline_s: seconds from now.
    :raises ModelshipError: of kind ``unhealthy``, as soon as one of them cannot become ready, or when the time is over;
        with ``log``, ``events`` and ``pods`` (see :func:`.failure.unhealthy`).
    :raises ApiError: the server does not let this user see them.
    """
    waiter = _Wait(api, objects, time.monotonic() + deadline_s, deadline_s, progress)
    try:
        waiter.run()
    finally:
        waiter.feed.close()


def health(api: Api, objects: t.Sequence[Object], *, pods: bool = True) -> list[dict[str, t.Any]]:
    """Look once at *objects* and return one dict for each, in their order.

    ``kind``, ``namespace``, ``name``, ``state`` (``ready``, ``progressing``, ``failed``, ``absent``), ``reason`` and, for
    what has pods, ``pods`` (see :func:`.pods.row`).

    :param pods: look at the pods also of what is ready.
    :raises ApiError: the server cannot be asked.
    """
    state = State(objects)
    look(api, state, state.target_sources(state.live))
    verdicts = {key: state.judge(key) for key in state.live}
    keys = [key for key in state.live if pods or verdicts[key].state != "ready"]
    look(api, state, state.pod_sources(keys))
    nodes = {node_of(pod) for key in keys for pod in state.related(key).pods if is_doubtful(pod)}
    look(api, state, {node_source(name) for name in nodes}, courtesy=True)
    result = []
    for key, obj in state.live.items():
        verdict = state.judge(key)
        entry: dict[str, t.Any] = {
            "kind": key.kind,
            "namespace": key.namespace,
            "name": key.name,
            "state": verdict.state if obj is not None else "absent",
            "reason": verdict.reason if obj is not None else "is not there",
        }
        if obj is not None and has_pods(obj):
            entry["pods"] = [row(pod, state.lost) for pod in state.related(key).pods]
        result.append(entry)
    return result


def _fresh(api: Api, objects: t.Sequence[Object]) -> set[Key]:
    """Return those of custom kinds with a status that were applied last, by the server's own clock."""
    times = {key_of(obj): when for obj in objects if (when := applied_at(obj))}
    newest = max(times.values(), default=None)
    fresh = set()
    for obj in objects:
        kind, when = (obj["apiVersion"], obj["kind"]), times.get(key_of(obj))
        if newest is None or when is None or (newest - when).total_seconds() > FRESH_S or built_in(*kind):
            continue
        if api.resource(*kind).has_status:
            fresh.add(key_of(obj))
    return fresh


class _Wait:
    def __init__(
        self, api: Api, objects: t.Sequence[Object], deadline: float, deadline_s: float, progress: Progress
    ) -> None:
        self.api = api
        self.feed = Feed(api)
        self.state = State(objects)
        self.state.fresh = _fresh(api, objects)
        self.deadline = deadline
        self.deadline_s = deadline_s
        self.progress = progress
        #: what is not ready, in the order given
        self.pending: dict[Key, Verdict] = {}
        self.failing_since: dict[Key, float] = {}
        self.unsynced: set[Source] = set()
        self.followed: set[Key] = set()
        #: streams that are broken off now
        self.trouble: dict[Source, ModelshipError] = {}
        self.told_at = 0.0
        self.begun = time.monotonic()

    def run(self) -> None:
        state = self.state
        self._judge()
        if not self.pending:
            return
        self._open(state.target_sources(self.pending) | classes_source(o for k in self.pending if (o := state.live[k])))
        while True:
            over = time.monotonic() >= self.deadline
            if not self.unsynced:
                judged = self._judge()
                if not self.pending:
                    return
                self.feed.go()
                self._open_pods(judged)
                self._fail_at_once()
            if over:
                self._time_is_over()
            self._tell()
            for news in self.feed.get(self._nap()):
                self._take(news)

    def _open(self, sources: t.Iterable[Source]) -> None:
        new = set(sources) - self.feed.sources
        self.unsynced |= new
        self.feed.open(new)

    def _open_pods(self, judged: t.Collection[Key]) -> None:
        """Follow the pods of what was judged not to be ready, and the nodes of pods that look lost."""
        new = [key for key in judged if key in self.pending and key not in self.followed]
        self._open(self.state.pod_sources(new))
        self.followed.update(key for key in new if self.state.wants_pods(key))
        for key in judged:
            if key in self.pending:
                self._ask_nodes(key, self.pending[key])

    def _take(self, news: News) -> None:
        if news.what == "LOST" and news.error is not None:
            self.trouble[news.source] = news.error
            return
        self.trouble.pop(news.source, None)
        self.unsynced.discard(news.source)
        # Not to be allowed to see nodes, events, or even pods makes the verdict less telling, not wrong.
        if news.what == "REFUSED" and news.source in self.state.sources and news.error is not None:
            raise news.error
        self.state.take(news)

    def _judge(self) -> set[Key]:
        """Judge what has changed, and return it."""
        now = time.monotonic()
        if now >= self.begun + FRESH_S:
            self.state.age()
        judged, self.state.dirty = self.state.dirty, set()
        for key in sorted(judged):
            verdict = self.state.judge(key)
            if verdict.state == "ready":
                was = self.pending.pop(key, None)
                if was is not None and len(self.state.live) <= _FEW:
                    self.progress.step(f"{key} is ready after {now - self.begun:.1f} s: {verdict.reason}")
            else:
                self.pending[key] = verdict
            if verdict.state == "failed":
                self.failing_since.setdefault(key, now)
            else:
                self.failing_since.pop(key, None)
        return judged

    def _fail_at_once(self) -> None:
        """Raise the first failure that is one; not before everything about it is known, its nodes too."""
        now = time.monotonic()
        for key in self.failing_since:
            verdict = self.pending[key]
            if now - self.failing_since[key] < verdict.grace_s:
                continue
            if self.unsynced:
                return
            raise self._unhealthy(key, verdict, f"{key} failed: {verdict.reason}")

    def _ask_nodes(self, key: Key, verdict: Verdict) -> None:
        """Follow the nodes of pods that look as if it were their node's fault; of a failure, those of all that are not ready."""
        obj = self.state.live[key]
        if obj is None:
            return
        related = self.state.related(key)
        if verdict.state != "failed":
            pods = [pod for pod in related.pods if is_doubtful(pod) or is_evicted(pod)]
        else:
            pods = [pod for pod in current_of(obj, related.replica_sets, related.pods) or () if not is_ready(pod)]
            pods += [verdict.pod] if verdict.pod is not None else []
        names = {node_of(pod) for pod in pods} - {""} - self.state.nodes
        self._open(node_source(name) for name in sorted(names)[:_MAX_NODES])

    def _nap(self) -> float:
        now = time.monotonic()
        moments = [now + _TELL_S, self.deadline]
        graces = [self.begun + FRESH_S] if self.state.fresh else []
        graces += [since + self.pending[key].grace_s for key, since in self.failing_since.items()]
        return max(0.0, min(moments + [moment for moment in graces if moment > now]) - now)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self.told_at < _TELL_S / 2:
            return
        self.told_at = now
        text = f"waiting {now - self.begun:.0f} of at most {self.deadline_s:g} s: {self._what_is_missing()}"
        for error in list(self.trouble.values())[:1]:
            text += f" ({error.message})"
        self.progress.live(text)

    def _what_is_missing(self) -> str:
        parts = [f"{key}: {verdict.reason}" for key, verdict in list(self.pending.items())[:_NAMED]]
        if len(self.pending) > _NAMED:
            total = len(self.state.live)
            parts = [f"{total - len(self.pending)} of {total} objects ready", parts[0], "…"]
        return "; ".join(parts)

    def _time_is_over(self) -> t.NoReturn:
        keys = list(self.pending)
        key = next((each for each in keys if self.pending[each].state == "failed"), keys[0])
        message = f"{key} is not ready after {self.deadline_s:g} s: {self.pending[key].reason}"
        for error in list(self.trouble.values())[:1]:
            message += f"; the state is not known for sure, because {error.message}"
        raise self._unhealthy(key, self.pending[key], message)

    def _unhealthy(self, key: Key, verdict: Verdict, message: str) -> ModelshipError:
        others = [str(each) for each in self.pending if each != key]
        if others:
            more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
            message += f"; not ready either: {', '.join(others[:_NAMED])}{more}"
        obj = self.state.live[key]
        if obj is None:
            hint = f". What to do: {verdict.hint}" if verdict.hint else ""
            return ModelshipError(message + hint, kind="unhealthy", log=[], events=[], pods=[])
        return unhealthy(self.api, obj, verdict, self.state.related(key), message)
