# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is served now, in the same words for every target."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.progress import Progress
from .._core.runner import Outcome
from .._endpoint.golden import load_release
from .._endpoint.http import Client
from .._endpoint.verify import Request, verify
from .declaration import Declaration, Health, Verification

State = t.Literal["ready", "progressing", "failed", "absent"]
#: From bad to good: a whole is as its worst part is.
_WORST_FIRST: tuple[State, ...] = ("failed", "absent", "progressing", "ready")


class Condition(t.NamedTuple):
    """How a deployment or a replica is, and why, in words."""

    state: State
    reason: str


@dataclasses.dataclass(frozen=True)
class Inquiry:
    """What is asked about the deployment *name*.

    :param declaration: what it is compared with; ``None`` judges no drift.
    :param health: how replicas tell that they are ready; ``None``: as the target has it, else the default.
    :param verification: golden answers that replicas are asked for; ``None`` asks none.
    """

    name: str
    declaration: Declaration | None = None
    health: Health | None = None
    verification: Verification | None = None


@dataclasses.dataclass(frozen=True)
class Drift:
    """How far what is there differs from what is declared: what the module C(deployment) would change, and why."""

    drifted: bool
    reasons: list[str]
    difference: Difference


class Endpoint(t.NamedTuple):
    """A replica to ask for golden answers; without a ``client`` it cannot be asked, and ``reason`` says why."""

    name: str
    client: Client | None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Info:
    """What a target tells of a deployment.

    :param exists: anything of it was found, be it only a left-over network.
    :param image: the image that is served, by digest.
    :param release: digest of the release in it.
    :param url: base URL; ``None`` where nothing is published.
    :param replicas: one dict each, at least ``name``, ``address``, ``state``, ``health``, ``reason`` and ``image``.
    :param golden: as :func:`golden_verdict` returns it; ``None`` where it was not asked for.
    :param drift: ``None`` where nothing was declared.
    :param details: what only this target has; its keys are documented by the module.
    """

    name: str
    target: str
    exists: bool
    health: Condition
    image: str | None = None
    release: str | None = None
    url: str | None = None
    replicas: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    golden: dict[str, t.Any] | None = None
    drift: Drift | None = None
    details: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    def outcome(self) -> Outcome:
        """Return what the module C(deployment_info) returns."""
        deployment: dict[str, t.Any] = {
            "name": self.name,
            "target": self.target,
            "exists": self.exists,
            "state": "present" if self.exists else "absent",
            "image": self.image,
            "digest": self.image.rpartition("@")[2] if self.image and "@" in self.image else None,
            "release": self.release,
            "url": self.url,
            "replicas": self.replicas,
            "health": self.health._asdict(),
            "golden": self.golden,
            "drift": self.drift
            and {
                "drifted": self.drift.drifted,
                "reasons": self.drift.reasons,
                "difference": self.drift.difference.as_result(),
            },
            **self.details,
        }
        return Outcome(changed=False, result={"deployment": deployment}, message=self._message())

    def _message(self) -> str:
        parts = [f"{self.name} is {self.health.state}" + (f" at {self.url}" if self.url else "")]
        parts[0] += f": {self.health.reason}" if self.health.reason else ""
        if self.golden is not None:
            parts.append("; ".join(self.golden["failures"]) or "the golden answers agree")
        if self.drift is not None:
            drifted = f"it differs from its declaration: {'; '.join(self.drift.reasons) or 'it does not exist'}"
            parts.append(drifted if self.drift.drifted else "it is as declared")
        return "; ".join(parts)


def worst(conditions: t.Iterable[Condition]) -> Condition:
    """Return the condition of a whole: the worst state there is, with the reasons of all that are in it.

    :raises ValueError: there is none.
    """
    found = list(conditions)
    state = min((item.state for item in found), key=_WORST_FIRST.index)
    return Condition(state, "; ".join(item.reason for item in found if item.state == state and item.reason))


def golden_verdict(
    verification: Verification, endpoints: t.Iterable[Endpoint], ready_path: str, progress: Progress
) -> dict[str, t.Any]:
    """Ask every replica for the golden answers, without waiting for any.

    Returns ``ok`` (all of at least one replica agree), ``release`` (digest that was expected), ``protocol``, ``failures``
    (one line each), and ``verdicts``: for each replica ``name``, ``ok``, ``release`` (what it serves, or ``None``),
    ``samples`` (see :func:`.verify.verify`; ``None`` where it could not be asked), ``differences`` and ``failures``.

    :raises ModelshipError: the release cannot be read.
    """
    golden = load_release(verification.release)
    request = Request(golden=golden, protocol=verification.protocol, requests=0, ready_path=ready_path, wait_s=0.0)
    verdicts = [{"name": endpoint.name, **_ask(endpoint, request, progress)} for endpoint in endpoints]
    failures = [f"{item['name']}: {failure}" for item in verdicts for failure in item["failures"]]
    if not verdicts:
        failures = ["there is no replica that could be asked for golden answers"]
    return {
        "ok": not failures,
        "release": golden.release,
        "protocol": verification.protocol,
        "failures": failures,
        "verdicts": verdicts,
    }


def _ask(endpoint: Endpoint, request: Request, progress: Progress) -> dict[str, t.Any]:
    unknown: dict[str, t.Any] = {"ok": False, "release": None, "samples": None, "differences": []}
    if endpoint.client is None:
        return {**unknown, "failures": [endpoint.reason]}
    with contextlib.closing(endpoint.client) as client:
        try:
            verdict = verify(client, request, progress)
        except ModelshipError as exc:  # an endpoint that fails is a fact here, not a failure of the task
            return {**unknown, "release": exc.details.get("served"), "failures": [exc.message]}
    return {key: verdict[key] for key in ("ok", "release", "samples", "differences", "failures")}
