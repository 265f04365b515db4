# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of an object, and what it is known from."""

from __future__ import annotations

import typing as t

from .objects import Object


class Verdict(t.NamedTuple):
    """What is known of an object.

    :param state: ``failed`` means that waiting cannot help.
    :param reason: one line, without the object's name.
    :param hint: what to do about a failure.
    :param grace_s: a failure only if it still is one after so many seconds.
    :param pod: the pod that failed.
    :param container: the container of it whose log tells more.
    :param previous: that is the log of its run before.
    """

    state: t.Literal["ready", "progressing", "failed"]
    reason: str
    hint: str = ""
    grace_s: float = 0.0
    pod: Object | None = None
    container: str = ""
    previous: bool = False


class Related(t.NamedTuple):
    """What is known beside the object itself.

    :param replica_sets: those that a Deployment controls.
    :param pods: those that the object controls, directly or through a ReplicaSet.
    :param lost: names of nodes that do not answer.
    :param refusals: events of a workload whose pods were refused, newer than the wait.
    :param stale: a deadline was exceeded before the wait began.
    :param late_binding: a PersistentVolumeClaim's storage class binds at the first pod.
    :param fresh: it was applied only just now, so its controller may not have said anything of it yet.
    """

    replica_sets: t.Sequence[Object] = ()
    pods: t.Sequence[Object] = ()
    lost: t.Collection[str] = frozenset()
    refusals: t.Sequence[Object] = ()
    stale: bool = False
    late_binding: bool = False
    fresh: bool = False


def is_observed(obj: Object) -> bool:
    """Tell whether *obj*'s controller has seen its latest generation."""
    observed = (obj.get("status") or {}).get("observedGeneration")
    return observed is not None and observed >= obj["metadata"].get("generation", 0)


UNSEEN = Verdict("progressing", "its controller has not looked at it yet")
UNTOLD = Verdict("progressing", "its controller has not said anything of it yet")
