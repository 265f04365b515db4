# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be done to make a cluster what is declared: read and tried by the server, nothing written."""

from __future__ import annotations

import copy
import dataclasses
import typing as t

from .._core.diff import Difference
from .._core.errors import ModelshipError
from .autoscaled import begun, bounded
from .managed import comparable, is_adopted, is_kept, is_provably_equal, our_fields, owner_of, replicas_to_hold
from .objects import (
    ADOPTED,
    APPLIED,
    DEPLOYMENT,
    Key,
    Object,
    annotations_of,
    custom_kinds,
    is_going,
    key_of,
    labels_of,
    prepared,
    version_of,
)
from .observe import Observed, fetch, is_namespace_ours, observe
from .record import Record
from .refusal import explained, is_about_object, some
from .secrets import secrets_in
from .trial import try_out
from .vacancy import is_container, is_made_by_server, why_left

if t.TYPE_CHECKING:
    from .blocking_fields import Blocking
    from .client import Api


#: Without these a container cannot be started again.
_USED_BY_PODS = frozenset(("ConfigMap", "PersistentVolumeClaim", "Secret", "ServiceAccount"))


@dataclasses.dataclass
class Change:
    """One declared object.

    :param desired: what is applied, with the deployment's marks.
    :param live: what is there; ``None`` where nothing is.
    :param result: what the server said that it becomes (dry run); ``None`` where it was not asked.
    :param force: take fields over from other managers, for this object alone.
    :param blocking: fields of other managers that are taken over first, see :mod:`.blocking_fields`.
    """

    key: Key
    desired: Object
    live: Object | None = None
    result: Object | None = None
    force: bool = False
    blocking: list[Blocking] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Plan:
    """What is to be done.

    :param namespace: the deployment's.
    :param desired: all declared objects with their marks, in the order of the declaration.
    :param prunes: live objects to delete, once what replaces them is healthy.
    :param releases: live objects that existed before: they are given up, not deleted.
    :param stuck: live namespaces and kinds that are no longer declared but hold what is not ours, or might.
    :param going: live objects that are being deleted, and must be gone before they are made again.
    :param reasons: why, one clause an object; empty where there is nothing to do.
    :param lenient: an object that the server refuses is left as it is, and noted in *refused*; else that is an error.
    """

    name: str
    namespace: str
    desired: list[Object]
    difference: Difference
    creates: list[Change] = dataclasses.field(default_factory=list)
    updates: list[Change] = dataclasses.field(default_factory=list)
    unchanged: list[Change] = dataclasses.field(default_factory=list)
    prunes: list[Object] = dataclasses.field(default_factory=list)
    releases: list[Object] = dataclasses.field(default_factory=list)
    stuck: list[Object] = dataclasses.field(default_factory=list)
    going: list[Object] = dataclasses.field(default_factory=list)
    reasons: list[str] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)
    lenient: bool = False
    refused: dict[Key, str] = dataclasses.field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.creates or self.updates or self.prunes or self.releases)

    @property
    def is_first(self) -> bool:
        """Whether nothing is there yet, but for namespaces: neither of the deployment nor of what it declares.

        What a new namespace gets by itself may come a moment later, so whether that is there is not known.
        """
        there = self.updates or self.prunes or self.releases or self.stuck or self.going
        return (
            not there
            and all(change.key.kind == "Namespace" for change in self.unchanged)
            and not any(is_made_by_server(change.desired) for change in self.creates)
        )

    @property
    def left(self) -> list[Key]:
        """What is given up rather than deleted."""
        return [key_of(obj) for obj in self.releases]

    def bears(self, obj: Object, error: ModelshipError) -> bool:
        """Note that the server refuses *obj*, if that is all that *error* says and the plan is lenient; tell whether it is."""
        if not self.lenient or not is_about_object(error):
            return False
        self.refused[key_of(obj)] = explained(error, obj).message
        return True

    def leave(self, obj: Object, why: str) -> None:
        """Let *obj*, which is no longer declared, be stuck instead of pruned."""
        told = _no_longer(obj)
        self.prunes = [each for each in self.prunes if each is not obj]
        self.reasons = [reason for reason in self.reasons if reason != told]
        self.difference.drop(str(key_of(obj)))
        self.stuck.append(obj)
        self.warnings.append(f"{told}, but left {why}")


def plan(
    api: Api,
    name: str,
    desired: t.Sequence[Object],
    record: Record | None,
    *,
    namespace: str = "",
    force: bool = False,
    check: bool = False,
    previous: Plan | None = None,
    lenient: bool = False,
    waits: bool = True,
) -> Plan:
    """Compare *desired* with what is there; what is to be written is tried by server-side dry runs, as far as it can be.

    :param namespace: of the deployment; by default the context's.
    :param force: fields that other managers own are to be taken over.
    :param check: nothing will be written: warn of what cannot be tried.
    :param previous: a plan made shortly before, whose tries hold for objects that did not change since.
    :param lenient: one object that the server refuses does not stop the others; see :class:`Plan`.
    :param waits: the run waits until new pods have replaced the old ones; without it, what pods use is not pruned.
    :raises ModelshipError: kind C(conflict), C(foreign), C(input), C(paused) or C(kubernetes); all objects concerned are
        named.
    """
    namespace = namespace or api.access.namespace
    customs = custom_kinds(desired)

    def namespaced(version: str, kind: str) -> bool:
        return customs[version, kind] if (version, kind) in customs else api.resource(version, kind).namespaced

    wanted = prepared(desired, name, namespace, namespaced)
    not_served = {item for item in customs if not api.serves(*item)}
    declared = [(obj["apiVersion"], key_of(obj)) for obj in wanted]
    observed = observe(api, name, namespace, declared, record, not_served)
    difference, warnings = Difference(f"deployment {name}"), list(observed.warnings)
    result = Plan(name, namespace, wanted, difference, warnings=warnings, lenient=lenient)
    difference.conceal(lambda: _secrets(wanted, live.values(), record), [name, namespace])
    _check_namespaces(result, observed)
    missing = [
        (version, key)
        for version, key in declared
        if key not in observed.ours
        and not (key.kind == "Namespace" and key.name in observed.namespaces)
        and (version, key.kind) not in not_served
        and observed.namespaces.get(key.namespace, True) is not None
    ]
    live = {**observed.ours, **fetch(api, missing)}
    _find_prunes(api, result, observed, {key for _version, key in declared}, waits=waits)
    doubtful = _classify(result, live, observed, previous)
    try_out(api, result, doubtful, not_served, observed, force=force, check=check)
    if not lenient:
        _check_paused(result)
    _describe(result, record)
    return result


def _secrets(wanted: t.Iterable[Object], live: t.Iterable[Object], record: Record | None) -> set[str]:
    """Return the secrets that are declared, those that are there, and those of the revision before."""
    good = record.good.objects if record and record.good else []
    return {secret for obj in [*wanted, *live, *good] for secret in secrets_in(obj)}


def _check_namespaces(plan: Plan, observed: Observed) -> None:
    declared = {obj["metadata"]["name"] for obj in plan.desired if obj["kind"] == "Namespace"}
    used = {obj["metadata"]["namespace"] for obj in plan.desired if obj["metadata"].get("namespace")}
    for name, live in observed.namespaces.items():
        if live is not None and is_going(live) and name in {plan.namespace, *used}:
            raise ModelshipError(
                f"namespace {name} is being deleted: wait until it is gone, then run again", kind="kubernetes"
            )
        if live is None and name in used and name not in declared:
            raise ModelshipError(
                f"namespace {name} does not exist: create it, or set kubernetes.create_namespace for the deployment's own"
            )


def _check_paused(plan: Plan) -> None:
    """Refuse to change the pods of a Deployment that somebody has paused, which would wait for the whole deadline."""
    for change in plan.updates:
        live = change.live or {}
        spec = live.get("spec") or {}
        if change.key[:2] != ("apps", "Deployment") or not spec.get("paused"):
            continue
        from .difference import overlaid
        from .workloads import paused

        becomes = change.result or overlaid(live, change.desired)
        if becomes["spec"].get("paused") and becomes["spec"]["template"] != spec["template"]:
            why, hint = paused(live)
            raise ModelshipError(f"{change.key}: {why}. What to do: {hint}; nothing was changed", kind="paused")


def _find_prunes(api: Api, plan: Plan, observed: Observed, declared: set[Key], *, waits: bool) -> None:
    containers = []
    for key, obj in observed.ours.items():
        if key in declared or is_going(obj) or owner_of(obj) is None or is_kept(obj):
            continue
        if not waits and key.kind in _USED_BY_PODS:
            continue  # pods of the revision before may still be there, and be started again; a run that waits prunes it
        if is_adopted(obj):
            plan.releases.append(obj)
        elif not is_container(obj):
            plan.prunes.append(obj)
        elif key != Key("", "Namespace", "", plan.namespace):
            containers.append(obj)
    ours = list(plan.prunes)
    for obj in containers:
        if why := why_left(api, obj, plan.name, ours):
            plan.leave(obj, why)
        else:
            plan.prunes.append(obj)


def _classify(plan: Plan, live: dict[Key, Object], observed: Observed, previous: Plan | None) -> list[Change]:
    """Sort what needs no question into *plan*; return the existing objects that the server has to be asked about."""
    changes = [*previous.creates, *previous.updates, *previous.unchanged] if previous else []
    tried = {change.key: change for change in changes}
    doubtful = []
    for obj in plan.desired:
        change = Change(key_of(obj), obj)
        if obj["kind"] == "Namespace" and _keep_namespace(plan, change, observed):
            continue
        change.live = found = change.live or live.get(change.key)
        if found is not None and is_going(found):
            plan.going.append(found)
            change.live = found = None
        if found is None:
            change.desired = begun(obj, plan.desired)
            before = tried.get(change.key)
            if before and before.live is None and before.desired == change.desired:
                change.result = before.result
            plan.creates.append(change)
            continue
        _check_owner(plan, change.key, found)
        if is_provably_equal(obj, found):
            plan.unchanged.append(change)
            continue
        change.desired = _adapted(obj, found, plan.desired)
        before = tried.get(change.key)
        if before and before.live and before.desired == change.desired and version_of(before.live) == version_of(found):
            change.result, change.force, change.blocking = before.result, before.force, before.blocking
        doubtful.append(change)
    return doubtful


def _keep_namespace(plan: Plan, change: Change, observed: Observed) -> bool:
    """A namespace that existed is used as it is; tell whether that was decided here."""
    name = change.key.name
    if name not in observed.namespaces:
        return False
    change.live = observed.namespaces[name]
    if change.live is None:
        plan.creates.append(change)
        return True
    if name != plan.namespace or is_namespace_ours(change.live, plan.name, plan.namespace):
        return False
    plan.unchanged.append(change)
    return True


def _check_owner(plan: Plan, key: Key, live: Object) -> None:
    owner = owner_of(live)
    if owner not in (None, (plan.name, plan.namespace)):
        other = f"{owner[0]} in namespace {owner[1]}" if owner else ""
        raise ModelshipError(
            f"{key} belongs to the deployment {other}: declare it only there, or rename it", kind="foreign"
        )


def _adapted(obj: Object, live: Object, desired: t.Iterable[Object]) -> Object:
    """Return *obj* with what depends on the live object: the mark of adoption, and replicas that are handed over."""
    # without our label it may be one of which fields were taken over by a run that was killed then
    adopting = our_fields(live) is None or DEPLOYMENT not in labels_of(live)
    replicas = replicas_to_hold(obj, live)
    if not adopting and not is_adopted(live) and replicas is None:
        return obj
    obj = copy.deepcopy(obj)
    if adopting or is_adopted(live):
        obj["metadata"]["annotations"][ADOPTED] = "true"
    if replicas is not None:
        obj["spec"]["replicas"] = bounded(replicas, obj, desired)
    return obj


def _describe(plan: Plan, record: Record | None) -> None:
    good = {(obj["kind"], obj["metadata"]["name"]) for obj in record.good.objects} if record and record.good else set()
    for change in plan.creates:
        key = change.key
        plan.difference.add_new(str(key), _creation(change))
        why = "was deleted" if (key.kind, key.name) in good else "does not exist yet"
        plan.reasons.append(f"{key} {why}")
    if not (plan.updates or plan.prunes or plan.releases):
        return
    from .difference import changed_paths, overlaid, shown, told  # a module is compiled anew in every task

    for change in plan.updates:
        expected = change.result or overlaid(change.live, change.desired)
        old, new = shown(change.desired, change.live, expected)
        plan.difference.add(str(change.key), old, new)
        plan.reasons.append(f"{change.key} {_why(change, told(changed_paths(old, new)))}")
    for obj in plan.prunes:
        plan.difference.add(str(key_of(obj)), shown(comparable(obj), obj, None)[0], None)
        plan.reasons.append(_no_longer(obj))
    for obj in plan.releases:
        plan.difference.add(f"{key_of(obj)} (labels)", labels_of(obj), {})
        plan.reasons.append(f"{_no_longer(obj)}; it existed before, so it is only given up")


def _no_longer(obj: Object) -> str:
    return f"{key_of(obj)} is no longer declared"


def _creation(change: Change) -> t.Callable[[], t.Any]:
    def show() -> t.Any:
        from .difference import shown

        return shown(change.desired, None, change.result or change.desired)[1]

    return show


def _why(change: Change, paths: list[str]) -> str:
    where = f" ({some(paths)})" if paths else ""
    live = t.cast(Object, change.live)
    if our_fields(live) is None:
        return f"exists and is taken over{where}"
    if annotations_of(live).get(APPLIED) == annotations_of(change.desired).get(APPLIED):
        return f"was changed by others{where}"
    return f"is declared otherwise{where}"
