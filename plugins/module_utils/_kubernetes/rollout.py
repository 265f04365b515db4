# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One rollout: apply, wait, ask for golden answers, remember; or back to the last good revision, all of it."""

from __future__ import annotations

import datetime
import time
import typing as t

from .._core.errors import ModelshipError
from .._core.progress import Progress
from .._deployment.declaration import Declaration
from .apply import Plan, carry_out, plan, prune
from .client import Api
from .errors import ApiError
from .lease import Lease
from .objects import Key, Object, key_of
from .record import Record, Revision, load_record, save_record
from .refusal import is_refusal

if t.TYPE_CHECKING:
    from .serving import Replicas

# what waiting and its verdicts need is imported there: a module is compiled anew in every task

#: The server's own verdict (ProgressDeadlineExceeded) names the reason better than ours, and comes this much earlier.
_GRACE_S = 3.0
#: How long golden answers wait for a pod to ask.
_ASK_S = 10.0
_PAUSE_S = 0.2


class Settings(t.NamedTuple):
    """How a rollout is done.

    :param deadline_s: seconds for everything to become ready, and as many again for the way back.
    :param force: take fields over from other managers.
    :param waits: wait until everything is ready; without it nothing is verified, remembered as good, or gone back from.
    """

    deadline_s: float
    force: bool
    waits: bool


class Rollout:
    """What is done about one declaration.

    :param namespace: of the deployment.
    :param desired: what the declaration renders to.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        declaration: Declaration,
        desired: list[Object],
        settings: Settings,
        progress: Progress,
    ) -> None:
        self.api = api
        self.namespace = namespace
        self.name = declaration.name
        self.declaration = declaration
        self.desired = desired
        self.settings = settings
        self.progress = progress
        #: a first deployment was refused while it was applied, so nothing of it serves, and it can be removed again
        self.refused_first = False
        #: the last good revision before and after the rollout
        self.previous: Revision | None = None
        self.current: Revision | None = None

    def plan(self, record: Record, *, check: bool = False, previous: Plan | None = None) -> Plan:
        """Return what is to be done; see :func:`.plan.plan`."""
        return plan(
            self.api,
            self.name,
            self.desired,
            record,
            namespace=self.namespace,
            force=self.settings.force,
            check=check,
            previous=previous,
            waits=self.settings.waits,
        )

    def perform(self, found: Plan, seen: Record, lease: Lease) -> tuple[Plan, list[Object]]:
        """Plan again, now that no other run is at work, and carry that out; return it and the live objects.

        A plan that found nothing there holds still if there still is no record: every run writes one before anything else.

        :param found: the plan made before.
        :param seen: the record that it was made with.
        :raises ModelshipError: it failed; the message says what was put back.
        """
        if self.settings.waits and self.declaration.verification is not None:
            from .._endpoint.golden import load_release

            load_release(self.declaration.verification.release)  # a golden set that cannot be read costs nothing here
        record = load_record(self.api, self.namespace, self.name)
        self.previous = self.current = record.good
        first = found.is_first and not seen.stored and not record.stored
        if not first:
            found = self.plan(record, previous=found)
        # what this run is about to make is remembered first, so that a killed run's objects are found again
        record = save_record(self.api, self.namespace, self.name, record.with_plan(found))
        live: list[Object] | None = None
        try:
            live = self._carry_out(found, lease, force=self.settings.force)
            self.trust(live)
        except ModelshipError as exc:
            if live is None and first and is_refusal(exc):
                self.refused_first = True
            else:
                self._go_back(exc, record, lease)
            raise
        try:
            self._prune(found, lease)
            lease.check()
            if self.settings.waits:
                self._remember(record, found)
        except ModelshipError as exc:
            add(exc, f"what is declared is {'ready' if self.settings.waits else 'applied'}: run again for the rest")
            raise
        return found, live

    def settle(self, found: Plan, record: Record, *, check: bool = False) -> tuple[list[Object], list[str]]:
        """Nothing is to be changed: see that it is ready; finish what a killed run left.

        Return the live objects and what was done to have the cluster try again what it had put off.

        :param check: do nothing, only return what would be done.
        :raises ModelshipError: it is not ready; the message says what was put back.
        """
        live = [change.live for change in found.unchanged if change.live is not None]
        self.previous = self.current = record.good
        if not self.settings.waits:
            return live, []
        from .wait import health

        watched = self._watched(live)
        good = record.good is not None and record.good.objects == found.desired
        if good and all(entry["state"] == "ready" for entry in health(self.api, watched, pods=False)):
            return live, []
        from .nudge import nudge

        if check:
            return live, nudge(self.api, watched, check=True)
        with Lease(self.api, self.namespace, self.name) as lease:
            retried = nudge(self.api, watched)
            try:
                self.trust(live, verified=good)
            except ModelshipError as exc:
                if not good:
                    self._go_back(exc, record, lease)
                raise
            if not good:
                self._remember(load_record(self.api, self.namespace, self.name), found)
        return live, retried

    def trust(self, live: list[Object], *, verified: bool = False) -> None:
        """Wait until *live* is ready and, unless it was *verified* before, every new pod gives the golden answers.

        :raises ModelshipError: it does not get ready, or answers otherwise.
        """
        if not self.settings.waits:
            return
        self._wait(live)
        wanted = self.declaration.verification
        if wanted is not None and not verified:
            from .golden import demand  # and with it an HTTP client

            demand(self.api, self._replicas_to_ask(), self.declaration, wanted, self.progress)

    def _replicas_to_ask(self) -> Replicas:
        """Return the replicas once any serves: those that were ready may have been moved just now.

        :raises ModelshipError: there are none, and not because none is wanted.
        """
        from .serving import replicas_of

        deadline = time.monotonic() + _ASK_S
        while not (replicas := replicas_of(self.api, self.namespace, self.name)).serving:
            workload = self.api.get("apps/v1", "Deployment", self.namespace, self.name)
            if workload is not None and workload["spec"].get("replicas") == 0:
                break
            if time.monotonic() > deadline:
                raise ModelshipError(
                    f"Deployment {self.namespace}/{self.name} has no ready pod to ask for golden answers: run again when it has",
                    kind="unhealthy",
                )
            time.sleep(_PAUSE_S)
        return replicas

    def _carry_out(self, found: Plan, lease: Lease, *, force: bool) -> list[Object]:
        return carry_out(
            self.api,
            found,
            force=force,
            progress=self.progress,
            guard=lease.check,
            deadline_s=self.settings.deadline_s,
        )

    def _wait(self, live: list[Object]) -> None:
        from .wait import wait

        deadline_s = self.settings.deadline_s + _GRACE_S
        wait(self.api, self._watched(live), deadline_s=deadline_s, progress=self.progress)

    def _watched(self, live: list[Object]) -> list[Object]:
        """Return of *live* what is waited for: not the deployment's own namespace.

        That is active for as long as it is there, and many who deploy into it may not list namespaces.
        """
        own = Key("", "Namespace", "", self.namespace)
        return [obj for obj in live if key_of(obj) != own]

    def _prune(self, found: Plan, lease: Lease) -> None:
        prune(self.api, found, self.progress, deadline_s=self.settings.deadline_s, guard=lease.check)

    def _remember(self, record: Record, found: Plan) -> None:
        from .serving import replicas_of, served_release

        good = record.good
        same = good is not None and good.objects == found.desired
        revision = Revision(
            objects=found.desired,
            image=self.declaration.image,
            digest=self.declaration.digest,
            release=served_release(self.api, replicas_of(self.api, self.namespace, self.name)),
            number=(good.number if same else good.number + 1) if good else 1,
            when=good.when if same and good else datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        save_record(self.api, self.namespace, self.name, record.with_good(revision, found))
        self.current = revision

    def _go_back(self, exc: ModelshipError, record: Record, lease: Lease) -> None:
        """Put the last good revision back, and say so in *exc*; an error on the way is told in it as well.

        One object that cannot be as it was (a claim that has grown) must not keep the others from it.
        """
        good = record.good
        if exc.kind == "locked" or (isinstance(exc, ApiError) and exc.unreachable):
            add(exc, "what was applied so far stays: run again")
            return
        if good is None:
            add(
                exc,
                "there is no earlier good revision to go back to, so what was applied stays: mend the declaration and run "
                "again, or remove it with state: absent",
            )
            return
        named = f"revision {good.number} ({good.image})"
        self.progress.step(f"{exc.message.splitlines()[0]}; going back to {named}")
        refused: dict[Key, str] = {}
        try:
            back = plan(self.api, self.name, good.objects, record, namespace=self.namespace, force=True, lenient=True)
            refused = back.refused
            live = self._carry_out(back, lease, force=True)
            self._demand_workload(refused)
            self._wait(live)
            self._prune(back, lease)
        except ModelshipError as second:
            told = "; ".join([second.message, *refused.values()])
            add(exc, f"and going back to {named} failed too: {told}; run again")
            return
        exc.details["restored"] = {"revision": good.number, "image": good.image, "release": good.release}
        if back.changed:
            add(exc, f"went back to {named}, which is ready again")
        else:
            add(exc, f"{named} is what is there")
        if refused:
            add(exc, f"what of it cannot be put back stays as it was applied: {'; '.join(refused.values())}")

    def _demand_workload(self, refused: dict[Key, str]) -> None:
        """What serves must be back, whatever else is not.

        :raises ModelshipError: it is among *refused*, and taken out of it.
        """
        if why := refused.pop(Key("apps", "Deployment", self.namespace, self.name), ""):
            raise ModelshipError(why, kind="kubernetes")


def add(exc: ModelshipError, text: str) -> None:
    """Add the clause *text* to the message of *exc*."""
    exc.message += f"; {text}"
    exc.args = (exc.message,)
