# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carrying a plan out: everything by server-side apply, what is independent at once."""

from __future__ import annotations

import time
import typing as t

from .._core.errors import ModelshipError
from .._core.progress import Progress
from .autoscaled import scales
from .errors import ApiError
from .objects import Key, Object, custom_kinds, key_of, waves
from .plan import Change, Plan, plan
from .prune import delete_all, no_guard, prune
from .refusal import combined, explained, some
from .trial import is_by_definition, try_creates

if t.TYPE_CHECKING:
    from .client import Api

__all__ = ["Change", "Plan", "carry_out", "make_namespace", "plan", "prune", "try_in_new_namespace"]

#: How long what has just been made may take until the server knows it everywhere.
_SETTLE_S = 15.0
_PAUSE_S = 0.1
#: Seconds that deleting an empty namespace may take.
_NAMESPACE_S = 60.0
#: Tries to take fields over while others write to the same object.
_TRIES = 5


def make_namespace(api: Api, plan: Plan) -> bool:
    """Create the deployment's own namespace if *plan* does, where it counts as unchanged then; tell whether it did.

    The record and the Lease are kept in it.

    :raises ModelshipError: the server refuses.
    """
    for change in plan.creates:
        if change.key == Key("", "Namespace", "", plan.namespace):
            change.live = _applied(api, change, force=False)
            plan.creates.remove(change)
            plan.unchanged.append(change)
            return True
    return False


def try_in_new_namespace(api: Api, plan: Plan, progress: Progress) -> None:
    """Try by dry runs what is to be made in the namespace that :func:`make_namespace` has just made.

    Quotas, policies and webhooks of a namespace cannot be asked before it exists.

    :raises ModelshipError: the server refuses; the namespace is deleted again, unless others have put something there.
    """
    try:
        try_creates(api, plan)
    except ModelshipError as exc:
        exc.message += f"; {_without_namespace(api, plan, progress)}"
        exc.args = (exc.message,)
        raise


def _without_namespace(api: Api, plan: Plan, progress: Progress) -> str:
    """Delete the namespace that was made for *plan* again; return what became of it, in words."""
    from .vacancy import why_left

    told = f"namespace {plan.namespace}, which was made for it,"
    for change in plan.unchanged:
        if change.live is None or change.key != Key("", "Namespace", "", plan.namespace):
            continue
        try:
            if why := why_left(api, change.live, plan.name):
                return f"{told} stays {why}; nothing else was written"
            delete_all(api, [change.live], progress, deadline_s=_NAMESPACE_S)
        except ModelshipError as exc:
            return f"{told} could not be deleted again ({exc.message}); nothing else was written"
    return f"{told} was deleted again; nothing is left of it"


def carry_out(
    api: Api,
    plan: Plan,
    *,
    progress: Progress,
    force: bool = False,
    guard: t.Callable[[], None] = no_guard,
    deadline_s: float = 120.0,
) -> list[Object]:
    """Apply what *plan* says and return the live objects of all that is declared, in its order.

    Of a lenient plan, what the server refuses stays as it is, and is left out where it is not there at all.

    What is no longer declared is left to :func:`.prune.prune`, because pods of the old revision still need it; only an
    autoscaler goes at once, which would set other replicas than are declared.

    :param guard: called before each write; raises if this run must not write any more.
    :param deadline_s: seconds to wait for what has to be gone first.
    :raises ModelshipError: the server refuses; what was written before stays.
    """
    changes = {change.key: change for change in [*plan.creates, *plan.updates]}
    live = {change.key: change.live for change in plan.unchanged}
    if plan.going:
        progress.step(f"waiting until {some([key_of(obj) for obj in plan.going])} is gone")
        from .gone import wait_gone

        wait_gone(api, plan.going, deadline_s=deadline_s, progress=progress)
    fighting = [
        obj
        for obj in plan.prunes
        if obj["kind"] == "HorizontalPodAutoscaler" and any(scales(obj, key) for key in changes)
    ]
    if fighting:
        delete_all(api, fighting, progress, deadline_s=deadline_s, guard=guard)
    if changes:
        progress.step(f"applying {len(changes)} object{'s' if len(changes) > 1 else ''}")

    kinds = custom_kinds(change.desired for change in changes.values())

    def write(obj: Object) -> Object:
        guard()
        return _applied(api, changes[key_of(obj)], force=force, kinds=kinds)

    for wave in waves(change.desired for change in changes.values()):
        errors = []
        for obj, result in zip(wave, api.each(write, wave), strict=True):
            if not isinstance(result, ModelshipError):
                live[key_of(obj)] = result
            elif plan.bears(obj, result):
                live[key_of(obj)] = changes[key_of(obj)].live
            else:
                errors.append(explained(result, obj))
        if errors:
            raise combined(errors)
        for obj in wave:
            if obj["kind"] == "CustomResourceDefinition" and key_of(obj) not in plan.refused:
                _await_kind(api, obj)
    return [found for obj in plan.desired if (found := live[key_of(obj)]) is not None]


def _applied(api: Api, change: Change, *, force: bool, kinds: t.Container[tuple[str, str]] = ()) -> Object:
    """Apply one object, again for a while where what it needs has been made only just now.

    :param kinds: those whose definitions have been.
    """
    deadline = time.monotonic() + _SETTLE_S
    while True:
        try:
            if change.blocking:
                _take_over(api, change)
            return api.apply(change.desired, force=force or change.force)
        except ApiError as exc:
            if not _is_too_early(exc, change, kinds) or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_S)


def _take_over(api: Api, change: Change) -> None:
    """Become the only manager of what blocks *change*, as the object is now: others may have written to it since."""
    from .blocking_fields import take_over

    for attempt in range(_TRIES):
        live = api.get(change.desired["apiVersion"], *change.key[1:])
        if live is None:
            return
        try:
            take_over(api, live, change.blocking)
        except ApiError as exc:
            if exc.status != 409 or attempt == _TRIES - 1:
                raise
        else:
            return


def _is_too_early(error: ApiError, change: Change, kinds: t.Container[tuple[str, str]]) -> bool:
    if error.status == 403 and change.desired["kind"] == "Pod":
        return "serviceaccount" in error.message and "not found" in error.message  # made by a controller a moment later
    if is_by_definition(error, change.desired, kinds):
        return True  # the server goes by a new definition a moment after it has taken it
    # so a new kind is served; a missing namespace stays missing
    return error.status == 404 and "." in change.key.group and "could not find the requested resource" in error.message


def _await_kind(api: Api, definition: Object) -> None:
    """Wait until the kind of *definition* is served.

    :raises ModelshipError: the server does not accept its names.
    """
    from .pods import condition

    deadline = time.monotonic() + _SETTLE_S
    name = definition["metadata"]["name"]
    version, reason = definition["apiVersion"], "the server does not say why"
    while True:
        found = api.get(version, definition["kind"], "", name) or {}
        if condition(found, "Established").get("status") == "True":
            return
        if (names := condition(found, "NamesAccepted")).get("status") == "False":
            reason = str(names.get("message"))
        if time.monotonic() > deadline:
            raise ModelshipError(f"CustomResourceDefinition {name} is not established: {reason}", kind="kubernetes")
        time.sleep(_PAUSE_S)
