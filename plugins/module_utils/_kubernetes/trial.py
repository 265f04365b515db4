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
from .refusal import Conflict, combined, conflict_error, conflicts_of, explained, is_final, some

if t.TYPE_CHECKING:
    from .client import Api
    from .observe import Observed
    from .plan import Change, Plan

#: Field, manager and subresource by which a HorizontalPodAutoscaler sets replicas.
_AUTOSCALED = ("spec.replicas", "kube-controller-manager", "scale")
_TRIES = 5
_POD = ("v1", "Pod")
#: A namespace that every cluster has, for the validation of objects whose own does not exist yet.
_ELSEWHERE = "default"
#: A webhook that writes elsewhere may not be called by a dry run.
_NO_DRY_RUN = "does not support dry run"
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
    """Ask the server what becomes of *doubtful*, and of what is made or deleted, all at once, before anything is written.

    :param check: nothing will be written: what could not be tried is worth a warning.
    """
    questions = [change for change in doubtful if change.result is None]
    elsewhere: list[Change] = []
    if not plan.lenient:
        askable, elsewhere = _askable(plan, not_served, observed, check=check)
        questions += askable
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
            if found and (final := _final_refusal(api, change)):
                answer, found = final, []
            conflicts += found
        if isinstance(answer, ModelshipError) and not conflicts_of(answer, change.key):
            answer, beside = _without_blocking(api, change, answer, force=force)
            conflicts += beside
        if not isinstance(answer, ModelshipError | None):
            change.result = answer
        elif answer is not None and not conflicts_of(answer, change.key):
            refusals.append((change, answer))
    errors = _judged(plan, doubtful, refusals, check=check)
    if not plan.lenient:
        errors += _refused_elsewhere(api, elsewhere, observed)
        answers = api.each(lambda obj: api.delete(obj, dry_run=True), plan.prunes)
        errors += [answer for answer in answers if isinstance(answer, ModelshipError)]
    if conflicts:
        errors.insert(0, conflict_error(conflicts))
    if errors:
        raise combined(errors)
    for change in doubtful:
        stays = _is_same(change) or change.key in plan.refused
        (plan.unchanged if stays else plan.updates).append(change)


def _final_refusal(api: Api, change: Change) -> ModelshipError | None:
    """Return the refusal of what cannot change at all, so that it is of no use to take fields over; else ``None``."""
    try:
        _tried(api, change, force=True)
    except ModelshipError as exc:
        return exc if is_final(exc) else None
    return None


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
        change.blocking = blocking
        for _attempt in range(_TRIES):
            try:
                return tried_without(api, change.desired, change.live, change.blocking), []
            except ModelshipError as exc:  # without them, the server may see others
                error = exc
            more, rest = blocking_fields(error, change.desired, change.live)
            new = [item for item in more if item.path not in {known.path for known in change.blocking}]
            if rest is not None or not new:
                break
            change.blocking += new
        return error, []
    found = [Conflict(change.key, item.field, ", ".join(item.managers), "", item.why) for item in blocking]
    return rest, [] if force else found


def try_creates(api: Api, plan: Plan) -> None:
    """Ask the server what becomes of those objects in the deployment's namespace, which exists now, that it was not asked of.

    :raises ModelshipError: it refuses; all objects concerned are named.
    """
    questions = [
        change
        for change in plan.creates
        if change.result is None
        and change.key.namespace == plan.namespace
        and (change.desired["apiVersion"], change.desired["kind"]) != _POD
        and api.serves(change.desired["apiVersion"], change.desired["kind"])
    ]
    refusals = []
    for change, answer in zip(questions, api.each(lambda each: _tried(api, each, force=False), questions), strict=True):
        if isinstance(answer, ModelshipError):
            refusals.append((change, answer))
        else:
            change.result = answer
    if errors := _judged(plan, [], refusals, check=False):
        raise combined(errors)


def _refused_elsewhere(api: Api, changes: list[Change], observed: Observed) -> list[ModelshipError]:
    """Return what validation says against *changes*, whose namespaces or service accounts do not exist yet.

    It is asked in a namespace that does, of pods with the namespace's own service account.

    Only what is wrong with an object itself counts, not what rights, quotas and policies of the other namespace say.
    """

    def ask(change: Change) -> None:
        obj, where = change.desired, change.key.namespace
        if observed.namespaces.get(where, True) is None:
            where = _ELSEWHERE
            obj = {**obj, "metadata": {**obj["metadata"], "namespace": where}}
        if (obj["apiVersion"], obj["kind"]) == _POD and isinstance(obj.get("spec"), dict):
            spec = {name: value for name, value in obj["spec"].items() if not name.startswith("serviceAccount")}
            obj = {**obj, "spec": spec}
        if api.get(obj["apiVersion"], obj["kind"], where, change.key.name) is None:
            api.apply(obj, dry_run=True)

    found = []
    for change, answer in zip(changes, api.each(ask, changes), strict=True):
        if isinstance(answer, ModelshipError) and _is_invalid(answer):
            told = explained(answer, change.desired)
            for place in (" {}/", "({}/", "namespace {}"):
                told.message = told.message.replace(place.format(_ELSEWHERE), place.format(change.key.namespace))
            told.args = (told.message,)
            found.append(told)
    return found


def _is_invalid(error: ModelshipError) -> bool:
    """Tell whether *error* says that an object is wrong wherever it is; 500 is for fields that its kind does not have."""
    status = getattr(error, "status", 0)
    if "webhook" in error.message:
        return False
    return status in (400, 422) or (status == 500 and "typed patch object" in error.message)


def _judged(
    plan: Plan,
    doubtful: t.Iterable[Change],
    refusals: t.Iterable[tuple[Change, ModelshipError]],
    *,
    check: bool,
) -> list[ModelshipError]:
    """Return the errors that *refusals* are, without those that may be over once what they need is made or changed.

    :param check: that is told as a warning; else the write itself will tell.
    """
    creates = {change.key for change in plan.creates}
    kinds = custom_kinds(change.desired for change in [*plan.creates, *doubtful] if not _is_same(change))
    errors = []
    for change, answer in refusals:
        error = explained(answer, change.desired)
        why = ""
        # what it refers to is to be made first, or it was held against the definition of its kind as that is now
        if change.key in creates and getattr(answer, "status", 0) == 404:
            why = "could not be tried"
        elif is_by_definition(answer, change.desired, kinds):
            why = "could not be tried before its kind is changed"
        elif _NO_DRY_RUN in error.message:
            why = "could not be tried"
        if why and (check or change.key not in creates):
            plan.warnings.append(f"{change.key} {why}: {error.message}")
        if not why and not plan.bears(change.desired, answer):
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


def _askable(
    plan: Plan, not_served: t.Container[tuple[str, str]], observed: Observed, *, check: bool
) -> tuple[list[Change], list[Change]]:
    """Return the new objects that can be tried before others are made, and those that can only be validated.

    :param check: warn of what cannot be tried, or not where it will be.
    """
    going = {key_of(obj) for obj in plan.going}
    asked, elsewhere, untried, pods = [], [], [], []
    for change in plan.creates:
        obj, key = change.desired, change.key
        kind = (obj["apiVersion"], obj["kind"])
        # a pod needs its service account at once
        if kind in not_served or kind == _POD or key in going:
            untried.append(str(key))
            if kind == _POD and key not in going:
                pods.append(change)
        elif key.namespace and observed.namespaces.get(key.namespace, True) is None:
            elsewhere.append(change)
        elif change.result is None:
            asked.append(change)
    if untried and check:
        plan.warnings.append(
            f"{some(untried)} could not be tried by the server: what they need (kind, service account) does not exist yet, or "
            "they are still being deleted"
        )
    if elsewhere and check:
        names = dict.fromkeys(change.key.namespace for change in elsewhere)
        plan.warnings.append(
            f"{some([str(change.key) for change in elsewhere])} could only be validated in namespace {_ELSEWHERE}: what "
            f"quotas and policies of namespace {', '.join(names)} say is not known before that exists"
        )
    return asked, [*elsewhere, *pods]


def _is_left_by_autoscaler(api: Api, plan: Plan, key: Key, conflicts: list[Conflict]) -> bool:
    """Tell whether the only conflict is about replicas that an autoscaler set which is gone, or is to go."""
    if any(item[1:4] != _AUTOSCALED for item in conflicts):
        return False
    pruned = {key_of(obj) for obj in plan.prunes}
    autoscalers = api.list("autoscaling/v2", "HorizontalPodAutoscaler", key.namespace)[0]
    return not any(scales(obj, key) and key_of(obj) not in pruned for obj in autoscalers)
