# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking the server by dry runs what becomes of objects, and what of its answers counts."""

from __future__ import annotations

import typing as t

from .._core.errors import ModelshipError
from .autoscaled import scales
from .managed import comparable
from .objects import Key, Object, custom_kinds, key_of, version_of
from .refusal import Conflict, combined, conflict_error, conflicts_of, explained, some

if t.TYPE_CHECKING:
    from .client import Api
    from .observe import Observed
    from .plan import Change, Plan

#: Field, manager and subresource by which a HorizontalPodAutoscaler sets replicas.
_AUTOSCALED = ("spec.replicas", "kube-controller-manager", "scale")
_TRIES = 5
#: What is answered of an object that its kind's definition does not allow; 500 for fields that it does not have.
_BY_DEFINITION = frozenset((400, 404, 422, 500))


def try_out(
    api: Api,
    plan: Plan,
    doubtful: list[Change],
    not_served: t.Container[tuple[str, str]],
    observed: Observed,
    *,
    force: bool,
    check: bool,
) -> None:
    """Ask the server what becomes of *doubtful* (and, in check mode, of what is made or deleted), all at once."""
    questions = [change for change in doubtful if change.result is None]
    if check:
        questions += _askable(plan, not_served, observed)
    conflicts: list[Conflict] = []
    refusals: list[tuple[Change, ModelshipError]] = []

    def ask(change: Change) -> Object:
        return _tried(api, change, force=force or change.force)

    answer: Object | ModelshipError | None
    for change, answer in zip(questions, api.each(ask, questions), strict=True):
        if isinstance(answer, ModelshipError):
            found = conflicts_of(answer, change.key)
            if found and _is_left_by_autoscaler(api, plan, change.key, found):
                change.force = True
                answer = _or_error(ask, change)
                found = conflicts_of(answer, change.key) if isinstance(answer, ModelshipError) else []
            conflicts += found
        if isinstance(answer, ModelshipError) and not conflicts_of(answer, change.key):
            answer, beside = _without_blocking(api, change, answer, force=force)
            conflicts += beside
        if not isinstance(answer, ModelshipError | None):
            change.result = answer
        elif answer is not None and not conflicts_of(answer, change.key):
            refusals.append((change, answer))
    errors = _judged(plan, doubtful, refusals)
    if check:
        answers = api.each(lambda obj: api.delete(obj, dry_run=True), plan.prunes)
        errors += [answer for answer in answers if isinstance(answer, ModelshipError)]
    if conflicts:
        errors.insert(0, conflict_error(conflicts))
    if errors:
        raise combined(errors)
    for change in doubtful:
        stays = _is_same(change) or change.key in plan.refused
        (plan.unchanged if stays else plan.updates).append(change)


def _without_blocking(
    api: Api, change: Change, error: ModelshipError, *, force: bool
) -> tuple[Object | ModelshipError | None, list[Conflict]]:
    """Look for fields of other managers that are the reason of *error*, the answer to applying *change*.

    Return what becomes of it, or what is left of the error, and the conflicts that the fields are; with *force* they are
    taken over instead.
    """
    from .blocking_fields import (  # few runs need it, and a module is compiled anew in every task
        blocking_fields,
        tried_without,
    )

    blocking, rest = blocking_fields(error, change.desired, change.live)
    if not blocking or change.live is None:
        return error, []
    if force and rest is None:
        try:
            result = tried_without(api, change.desired, change.live, blocking)
        except ModelshipError as exc:
            return exc, []
        change.blocking = blocking
        return result, []
    found = [Conflict(change.key, item.field, ", ".join(item.managers), "", item.why) for item in blocking]
    return rest, [] if force else found


def _judged(
    plan: Plan, doubtful: t.Iterable[Change], refusals: t.Iterable[tuple[Change, ModelshipError]]
) -> list[ModelshipError]:
    """Return the errors that *refusals* are, and warn of those that may be over once what they need is made or changed."""
    creates = {change.key for change in plan.creates}
    kinds = custom_kinds(change.desired for change in [*plan.creates, *doubtful] if not _is_same(change))
    errors = []
    for change, answer in refusals:
        error = explained(answer, change.desired)
        # what it refers to is to be made first, or it was held against the definition of its kind as that is now
        if change.key in creates and getattr(answer, "status", 0) == 404:
            plan.warnings.append(f"{change.key} could not be tried: {error.message}")
        elif is_by_definition(answer, change.desired, kinds):
            plan.warnings.append(f"{change.key} could not be tried before its kind is changed: {error.message}")
        elif not plan.bears(change.desired, answer):
            errors.append(error)
    return errors


def is_by_definition(error: ModelshipError, obj: Object, kinds: t.Container[tuple[str, str]]) -> bool:
    """Tell whether *error*, an answer to applying *obj*, may be over once the definitions of *kinds* count everywhere."""
    return (obj["apiVersion"], obj["kind"]) in kinds and getattr(error, "status", 0) in _BY_DEFINITION


def _is_same(change: Change) -> bool:
    return bool(change.live and change.result and comparable(change.live) == comparable(change.result))


def _tried(api: Api, change: Change, *, force: bool) -> Object:
    """Return what becomes of *change*; its live object is read again where a controller wrote to it meanwhile."""
    for _attempt in range(_TRIES):
        result = api.apply(change.desired, force=force, dry_run=True)
        if change.live is None or version_of(change.live) == version_of(result):
            break
        change.live = api.get(change.desired["apiVersion"], *change.key[1:]) or change.live
        if version_of(change.live) == version_of(result):
            break
    return result


def _or_error(function: t.Callable[[Change], Object], change: Change) -> Object | ModelshipError:
    try:
        return function(change)
    except ModelshipError as exc:
        return exc


def _askable(plan: Plan, not_served: t.Container[tuple[str, str]], observed: Observed) -> list[Change]:
    """Return the new objects that can be tried before others are made; warn of the rest."""
    going = {key_of(obj) for obj in plan.going}
    asked, untried = [], []
    for change in plan.creates:
        obj, key = change.desired, change.key
        kind = (obj["apiVersion"], obj["kind"])
        no_place = bool(key.namespace) and observed.namespaces.get(key.namespace, True) is None
        # a pod needs its service account at once
        if no_place or kind in not_served or kind == ("v1", "Pod") or key in going:
            untried.append(str(key))
        else:
            asked.append(change)
    if untried:
        plan.warnings.append(
            f"{some(untried)} could not be tried by the server: what they need (namespace, kind, service "
            "account) does not exist yet, or they are still being deleted"
        )
    return asked


def _is_left_by_autoscaler(api: Api, plan: Plan, key: Key, conflicts: list[Conflict]) -> bool:
    """Tell whether the only conflict is about replicas that an autoscaler set which is gone, or is to go."""
    if any(item[1:4] != _AUTOSCALED for item in conflicts):
        return False
    pruned = {key_of(obj) for obj in plan.prunes}
    autoscalers = api.list("autoscaling/v2", "HorizontalPodAutoscaler", key.namespace)[0]
    return not any(scales(obj, key) and key_of(obj) not in pruned for obj in autoscalers)
