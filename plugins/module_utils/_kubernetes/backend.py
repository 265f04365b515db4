# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployments on a Kubernetes cluster.

What only some runs need is imported by them: a module is compiled anew in every task.
"""

from __future__ import annotations

import typing as t

from .._core.errors import ModelshipError
from .._core.runner import Context, Outcome
from .._deployment.declaration import Declaration, check_name
from .access import load_access
from .client import Api
from .declared import KubernetesOptions

if t.TYPE_CHECKING:
    from .._deployment.info import Info, Inquiry
    from .objects import Object
    from .plan import Plan
    from .rollout import Rollout


class KubernetesBackend:
    """The target ``kubernetes``; it runs anywhere that reaches the API server.

    :param parameters: the module's; of them the connection's, ``namespace`` and ``kubernetes`` are read here.
    :raises ModelshipError: an option cannot be right, or there is no usable kubeconfig.
    """

    def __init__(self, parameters: t.Mapping[str, t.Any]) -> None:
        self.options = KubernetesOptions.from_parameters(parameters)
        access = load_access(parameters)
        self.namespace = self.options.namespace or access.namespace
        self.api = Api(access, timeout=parameters["timeout"])

    def apply(self, declaration: Declaration, context: Context) -> Outcome:
        """Make the deployment what is declared; see :class:`.targets.Backend`.

        :raises ModelshipError: it cannot be done. Before the first write nothing has changed; after it the last good
            revision is restored, if there is one. Of a first deployment that the server refuses nothing is left.
        """
        from .apply import make_namespace, try_in_new_namespace
        from .lease import Lease
        from .record import load_record
        from .rollout import Rollout, Settings, add

        options = self.options
        settings = Settings(options.rollout.deadline, force=options.force, waits=options.wait)
        desired = self._render(declaration)
        rollout = Rollout(self.api, self.namespace, declaration, desired, settings, context.progress)
        record = load_record(self.api, self.namespace, declaration.name)
        try:
            found = rollout.plan(record, check=context.check)
        except ModelshipError as exc:
            if not context.check and "nothing was changed" not in exc.message:
                add(exc, "nothing was changed")
            raise
        live = [change.live for change in found.unchanged if change.live is not None]
        changed = found.changed
        if context.check and found.changed:
            rollout.previous = rollout.current = record.good
        elif found.changed:
            # the record and the Lease are kept in the namespace
            made = make_namespace(self.api, found)
            if made:
                try_in_new_namespace(self.api, found, context.progress)
            try:
                with Lease(self.api, self.namespace, declaration.name) as lease:
                    carried, live = rollout.perform(found, record, lease)
            except ModelshipError as exc:
                if rollout.refused_first:
                    self._undo(exc, declaration.name, context)
                raise
            again, found = carried is not found, carried
            changed = made or found.changed
            if made and again:  # the second plan found it there
                found.reasons.insert(0, f"Namespace {self.namespace} does not exist yet")
                found.difference.add(f"Namespace {self.namespace}", None, {"name": self.namespace})
        else:
            live, retried = rollout.settle(found, record, check=context.check)
            found.reasons += retried
            changed = bool(retried)
        return Outcome(
            changed=changed,
            result={"deployment": self._result(declaration, found, live, rollout)},
            difference=found.difference,
            message=self._message(declaration, found.reasons, context.check),
            warnings=found.warnings,
        )

    def _undo(self, refusal: ModelshipError, name: str, context: Context) -> None:
        """Remove what was applied of a first deployment before *refusal*, and say so in it."""
        from .remove import remove
        from .rollout import add

        context.progress.step(f"{refusal.message.splitlines()[0]}; removing what was applied of {name}")
        try:
            removal = remove(self.api, name, self.namespace, None, context, deadline_s=self.options.rollout.deadline)
        except ModelshipError as exc:
            add(
                refusal,
                f"removing what had been applied of it before failed too: {exc.message}; remove it with state: absent, or mend "
                "the declaration and run again",
            )
            return
        kept = f" ({'; '.join(removal.kept)})" if removal.kept else ""
        add(refusal, f"what had been applied of it before is removed again{kept}")

    def remove(self, name: str, context: Context) -> Outcome:
        """Remove the deployment *name*; see :class:`.targets.Backend`."""
        from .remove import remove

        check_name(name)
        deadline = self.options.rollout.deadline
        removal = remove(self.api, name, self.namespace, None, context, deadline_s=deadline)
        gone: dict[str, t.Any] = {
            "name": name,
            "target": "kubernetes",
            "namespace": self.namespace,
            "state": "absent",
            "replicas": [],
            "objects": [str(key) for key in removal.removed],
            "kept": removal.kept,
            "previous": None,
        }
        return Outcome(
            changed=removal.changed,
            result={"deployment": gone},
            difference=removal.difference,
            message=removal.message,
            warnings=removal.warnings,
        )

    def info(self, inquiry: Inquiry, context: Context) -> Info:
        """Tell what is served now; see :class:`.targets.Backend`."""
        from .info import look

        declaration = inquiry.declaration
        render = (lambda: self._render(declaration)) if declaration else None
        return look(self.api, self.namespace, inquiry, render, context.progress, waits=self.options.wait)

    def _render(self, declaration: Declaration) -> list[Object]:
        from .manifests import render

        return render(
            declaration,
            self.options,
            self.namespace,
            kinds=self.api.serves,
            namespaced=lambda version, kind: self.api.resource(version, kind).namespaced,
        )

    def _result(self, declaration: Declaration, found: Plan, live: list[Object], rollout: Rollout) -> dict[str, t.Any]:
        from .endpoint import inside, reachable
        from .objects import key_of
        from .serving import replica_facts, replicas_of, served_release

        name = declaration.name
        previous, current = rollout.previous, rollout.current
        replicas = replicas_of(self.api, self.namespace, name) if live else None
        replaced = previous if previous and previous.image != declaration.image else None
        return {
            "name": name,
            "target": "kubernetes",
            "state": "present",
            "namespace": self.namespace,
            "image": declaration.image,
            "digest": declaration.digest,
            "release": served_release(self.api, replicas) if replicas else None,
            "url": reachable(self.api, live, name),
            "service": inside(live, name),
            "revision": current.number if current else None,
            "replicas": [replica_facts(pod) for pod in replicas.pods] if replicas else [],
            "objects": [str(key_of(obj)) for obj in found.desired],
            "previous": {"image": replaced.image, "release": replaced.release} if replaced else None,
            "reasons": found.reasons,
        }

    def _message(self, declaration: Declaration, reasons: list[str], check: bool) -> str:
        where = f"{declaration.name} in namespace {self.namespace} of {self.api.access.server}"
        if not reasons:
            return f"{where} is as declared"
        return f"{where} {'would be' if check else 'is'} changed: {'; '.join(reasons)}"
