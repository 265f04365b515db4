# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cluster serves of a deployment now; it only reads."""

from __future__ import annotations

import re
import typing as t

from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.progress import Progress
from .._deployment.info import Condition, Drift, Endpoint, Info, Inquiry, golden_verdict, worst
from .client import Api
from .endpoint import inside, reachable
from .errors import ApiError
from .golden import PodClient
from .managed import owner_of
from .objects import Object, key_of
from .observe import observe
from .plan import plan
from .pods import serving_container
from .record import Record, load_record
from .serving import ready_path_of, replica_facts, replicas_of, served_release
from .wait import health

Render = t.Callable[[], list[Object]]

#: How a server says that the user lacks the rights; quotas, policies and webhooks answer 403 too.
_NO_RIGHTS = re.compile(r'User "[^"]*" cannot ')


def look(
    api: Api, namespace: str, inquiry: Inquiry, render: Render | None, progress: Progress, *, waits: bool = True
) -> Info:
    """Return what is served.

    :param render: returns what the inquiry's declaration renders to; ``None`` judges no drift.
    :param waits: it is deployed by runs that wait; see :func:`.plan.plan`.
    :raises ModelshipError: the server cannot be asked, an option cannot be right, or the release whose golden answers are
        asked for cannot be read.
    """
    name = inquiry.name
    record = load_record(api, namespace, name)
    ours = [obj for obj in observe(api, name, namespace, [], record).ours.values() if owner_of(obj) is not None]
    workload = next((obj for obj in ours if obj["kind"] == "Deployment" and obj["metadata"]["name"] == name), None)
    replicas = replicas_of(api, namespace, name)
    verdict = None
    if inquiry.verification is not None:
        shown = inquiry.verification.credentials
        endpoints = [
            Endpoint(pod["metadata"]["name"], PodClient(api, pod, shown, replicas.spec)) for pod in replicas.serving
        ]
        path = ready_path_of(replicas.spec) if replicas.spec else ""
        verdict = golden_verdict(inquiry.verification, endpoints, path, progress)
    return Info(
        name=name,
        target="kubernetes",
        exists=bool(ours),
        health=_overall(api, ours, workload, name),
        image=serving_container(workload["spec"]["template"]["spec"]).get("image") if workload else None,
        release=served_release(api, replicas),
        url=reachable(api, ours, name),
        replicas=[replica_facts(pod) for pod in replicas.pods],
        golden=verdict,
        drift=_drift(api, namespace, name, render, record, waits=waits) if render is not None else None,
        details={
            "namespace": namespace,
            "revision": record.good.number if record.good else None,
            "service": inside(ours, name),
            "objects": sorted(str(key_of(obj)) for obj in ours),
        },
    )


def _overall(api: Api, ours: list[Object], workload: Object | None, name: str) -> Condition:
    if not ours:
        return Condition("absent", "nothing of it was found")
    if workload is None:
        return Condition("failed", f"its Deployment {name} is gone")
    entries = health(api, ours, pods=False)
    found = worst(
        Condition(entry["state"], f"{entry['kind']} {entry['name']}: {entry['reason']}" if entry["reason"] else "")
        for entry in entries
    )
    status = workload.get("status") or {}
    count = f"{status.get('readyReplicas', 0)} of {workload['spec'].get('replicas', 1)} replicas are ready"
    return Condition(found.state, f"{count}; {found.reason}" if found.state != "ready" else count)


def _drift(api: Api, namespace: str, name: str, render: Render, record: Record, *, waits: bool) -> Drift:
    """Compare with the declaration; that it cannot be applied as it is (any more) is drift too, the one most worth telling."""
    rendered = False
    try:
        desired = render()
        rendered = True
        found = plan(api, name, desired, record, namespace=namespace, check=True, waits=waits)
    except ModelshipError as exc:
        mistaken = not rendered and exc.kind == "input"  # an option that cannot be right, whatever is there
        if mistaken or _leaves_open(exc):
            raise
        difference = Difference(f"deployment {name}")
        difference.add(exc.kind if exc.kind in ("conflict", "foreign") else "refused", exc.message, "declared")
        return Drift(True, [exc.message], difference)
    return Drift(found.changed, found.reasons, found.difference)


def _leaves_open(exc: ModelshipError) -> bool:
    """Tell whether *exc* says nothing about the declaration: no answer, a failing server, or one that does not let us ask."""
    if not isinstance(exc, ApiError):
        return False
    without_rights = exc.status == 403 and bool(_NO_RIGHTS.search(exc.message))
    return exc.unreachable or exc.status in (401, 429) or exc.status >= 500 or without_rights
