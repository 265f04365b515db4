"""What deployment_info makes of a declaration that the cluster would refuse: a fact, and no failure of the task."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import Declaration
from ansible_collections.modelship.core.plugins.module_utils._deployment.info import Info, Inquiry
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import info
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.errors import ApiError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.observe import Observed
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.record import Record

CANNOT = 'deployments.apps "digits" is forbidden: User "audit" cannot patch resource "deployments"'
REFUSED = [
    ApiError(
        "PersistentVolumeClaim shop/digits-data is refused: field can not be less than status.capacity", status=422
    ),
    ApiError('admission webhook "policy" denied the request', status=403),
    ApiError("digits is forbidden: exceeded quota", status=403),
    ModelshipError("Deployment shop/digits: spec.replicas is managed by kubectl", kind="conflict"),
    ModelshipError("Service shop/digits belongs to the deployment other in namespace shop", kind="foreign"),
    ModelshipError("namespace shop does not exist: create it"),
    ModelshipError("namespace shop is being deleted: wait until it is gone", kind="kubernetes"),
]
OPEN = [
    ApiError("cannot read it: connection refused"),
    ApiError("does not accept the credentials", status=401),
    ApiError(CANNOT, status=403),
    ApiError("failed calling webhook", status=500),
]


class _Api:
    """An API server that has nothing."""

    def list(self, *_where: t.Any, **_selectors: t.Any) -> tuple[list[t.Any], str]:
        return [], "1"

    def get(self, *_where: t.Any) -> None:
        return None


@pytest.fixture(autouse=True)
def _nothing_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "load_record", lambda *_where: Record())
    monkeypatch.setattr(info, "observe", lambda *_what: Observed({}, {}, []))


def look(render: t.Callable[[], t.Any]) -> Info:
    inquiry = Inquiry("digits", Declaration(name="digits", image="i@sha256:0"))
    return info.look(t.cast("t.Any", _Api()), "shop", inquiry, render, Progress())


def raising(error: ModelshipError) -> t.Callable[..., t.Any]:
    def function(*_arguments: t.Any, **_options: t.Any) -> t.Any:
        raise error

    return function


@pytest.mark.parametrize("error", REFUSED, ids=lambda error: error.message[:30])
def test_what_would_be_refused_is_drift(error: ModelshipError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "plan", raising(error))
    found = look(list)
    assert found.drift is not None
    assert found.drift.drifted
    assert found.drift.reasons == [error.message]
    (what,) = json.loads(found.drift.difference.as_result()["before"]).items()
    assert what == (error.kind if error.kind in ("conflict", "foreign") else "refused", error.message)


def test_a_kind_that_is_not_served_any_more_is_drift() -> None:
    gone = "kubernetes.http_route is declared, but the cluster does not serve HTTPRoute"
    found = look(raising(ModelshipError(gone, kind="kubernetes")))
    assert found.drift is not None
    assert found.drift.reasons == [gone]


@pytest.mark.parametrize("error", OPEN, ids=lambda error: error.message[:30])
def test_what_cannot_be_found_out_fails(error: ModelshipError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(info, "plan", raising(error))
    with pytest.raises(ModelshipError) as caught:
        look(list)
    assert caught.value is error


def test_an_option_that_cannot_be_right_fails() -> None:
    wrong = ModelshipError("kubernetes.autoscaling.min 4 is more than max 3")
    with pytest.raises(ModelshipError, match="more than max"):
        look(raising(wrong))
