# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Removing a deployment: all that is its own, and its namespace where nothing else is left in it."""

from __future__ import annotations

import dataclasses
import typing as t

from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.runner import Context
from .difference import shown
from .gone import wait_gone
from .lease import Lease
from .managed import comparable, is_adopted, is_kept, owner_of
from .objects import Key, Object, is_going, key_of, labels_of
from .observe import is_namespace_ours, observe
from .prune import delete_all, no_guard, release
from .record import Record, drop_record, load_record, record_name
from .refusal import combined, some
from .secrets import secrets_in
from .vacancy import is_container, why_left

if t.TYPE_CHECKING:
    from .client import Api


@dataclasses.dataclass
class Removal:
    """What was removed, or would be.

    :param kept: what is left and why, one clause each.
    """

    changed: bool
    difference: Difference
    message: str
    removed: list[Key]
    kept: list[str]
    warnings: list[str]


@dataclasses.dataclass
class _Found:
    """What there is to remove.

    :param objects: to delete; *adopted* to give up; *containers* (namespaces, kinds) to delete if nothing else is in them.
    :param home: the deployment's namespace exists.
    :param lease: so does its Lease: another run is at work, or was killed.
    """

    objects: list[Object]
    adopted: list[Object]
    kept: list[Object]
    containers: list[Object]
    record: Record
    home: bool
    lease: bool
    warnings: list[str]

    def __bool__(self) -> bool:
        """Whether anything is there beside containers, which may have to stay."""
        return bool(self.objects or self.adopted or self.record.stored or self.lease)


def remove(
    api: Api,
    name: str,
    namespace: str,
    record: Record | None,
    context: Context,
    *,
    deadline_s: float = 300.0,
) -> Removal:
    """Remove all that belongs to the deployment *name* in *namespace*, and wait until it is gone.

    Claims with ``keep`` stay; what existed before the deployment is given up. The namespace goes only if the deployment
    made it and nothing else is in it.

    :param record: as loaded, or ``None`` to load it.
    :raises ModelshipError: the server refuses, another run is at work, or something is not gone in time.
    """
    found = _find(api, name, namespace, record)
    going = [obj for obj in found.containers if is_going(obj)]
    if going and not context.check:
        wait_gone(api, going, deadline_s=deadline_s, progress=context.progress)
        found = _find(api, name, namespace, None)
    if context.check:
        answers = api.each(lambda obj: api.delete(obj, dry_run=True), found.objects)
        if errors := [answer for answer in answers if isinstance(answer, ModelshipError)]:
            raise combined(errors)
    if context.check or not found:
        leaving, kept = _vacant(api, name, found)
        if context.check or not leaving:
            return _result(name, found, leaving, kept, check=context.check)
    if not found.home:  # no place for a Lease, but something may be left elsewhere
        return _carry_out(api, name, namespace, found, context, deadline_s, no_guard)
    with Lease(api, namespace, name) as lease:
        found = dataclasses.replace(_find(api, name, namespace, None), lease=found.lease)
        return _carry_out(api, name, namespace, found, context, deadline_s, lease.check)


def _find(api: Api, name: str, namespace: str, record: Record | None) -> _Found:
    record = record if record is not None else load_record(api, namespace, name)
    observed = observe(api, name, namespace, [], record)
    own = observed.namespaces.get(namespace)
    home = own is not None and not is_going(own)
    lease = home and Lease(api, namespace, name).exists()
    found = _Found([], [], [], [], record, home, lease, list(observed.warnings))
    if own is not None and is_namespace_ours(own, name, namespace):
        observed.ours[key_of(own)] = own
    for obj in observed.ours.values():
        if owner_of(obj) is None:
            continue
        if is_kept(obj):
            found.kept.append(obj)
        elif is_adopted(obj):
            found.adopted.append(obj)
        else:
            (found.containers if is_container(obj) else found.objects).append(obj)
    return found


def _carry_out(
    api: Api,
    name: str,
    namespace: str,
    found: _Found,
    context: Context,
    deadline_s: float,
    guard: t.Callable[[], None],
) -> Removal:
    if found.objects:
        context.progress.step(f"removing {some([key_of(obj) for obj in found.objects])}")
        delete_all(api, found.objects, context.progress, deadline_s=deadline_s, guard=guard)
    for obj in found.adopted:
        guard()
        release(api, obj)
    leaving, kept = _vacant(api, name, found)
    own = [obj for obj in leaving if key_of(obj) == Key("", "Namespace", "", namespace)]
    guard()
    delete_all(api, [obj for obj in leaving if obj not in own], context.progress, deadline_s=deadline_s, guard=guard)
    if found.record.stored:  # not before all that only it tells of is gone
        drop_record(api, namespace, name)
    if own:
        context.progress.step(f"removing {key_of(own[0])}")
        delete_all(api, own, context.progress, deadline_s=deadline_s, guard=guard)
    return _result(name, found, leaving, kept, check=False)


def _vacant(api: Api, name: str, found: _Found) -> tuple[list[Object], list[str]]:
    """Return which of the namespaces and kinds can go, and which cannot and why."""
    leaving: list[Object] = []
    kept = []
    for obj in found.containers:
        if why := why_left(api, obj, name, found.objects):
            kept.append(f"{key_of(obj)} is kept {why}")
        else:
            leaving.append(obj)
    return leaving, kept


def _result(name: str, found: _Found, leaving: list[Object], kept: list[str], *, check: bool) -> Removal:
    gone = [*found.objects, *leaving]
    difference = Difference(f"deployment {name}")
    good = found.record.good.objects if found.record.good else []
    difference.conceal(
        lambda: {secret for obj in [*found.objects, *found.kept, *good] for secret in secrets_in(obj)}, [name]
    )
    for obj in gone:
        difference.add(str(key_of(obj)), shown(comparable(obj), obj, None)[0], None)
    for obj in found.adopted:
        difference.add(f"{key_of(obj)} (labels)", labels_of(obj), {})
    kept = [
        *(f"{key_of(obj)} is kept as declared" for obj in found.kept),
        *(f"{key_of(obj)} existed before, so it is only given up" for obj in found.adopted),
        *kept,
    ]
    changed = bool(found or leaving)
    removed = [key_of(obj) for obj in gone]
    if changed:
        told = some(removed) if removed else f"what a killed run left of it ({record_name(name)})"
        message = f"{name} {'would be' if check else 'is'} removed: {told}"
    else:
        message = f"{name} is absent"
    return Removal(changed, difference, "; ".join([message, *kept]), removed, kept, found.warnings)
