# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything is tried by dry runs before the first write; what cannot be tried leaves nothing behind either."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import declare
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import apply, lease, remove, rollout
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.backend import KubernetesBackend
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.declared import KubernetesOptions
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.errors import ApiError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import Object

from .manifest_cases import parameters
from .memory import Memory, config, definition, namespace, refused, widget
from .test_rollout import NoLease

BAD = config("extra", a="not allowed")
Refuse = t.Callable[[str, str, Object], ApiError | None]


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lease, remove, rollout):
        monkeypatch.setattr(module, "Lease", NoLease)
    monkeypatch.setattr(apply, "_SETTLE_S", 0.1)


def deploy(api: Memory, *extras: Object, check: bool = False, **kubernetes: t.Any) -> Outcome:
    given = parameters({"replicas": 1}, extra_resources=list(extras), **kubernetes)
    target = KubernetesBackend.__new__(KubernetesBackend)
    target.options, target.namespace = KubernetesOptions.from_parameters(given), "shop"
    target.api = t.cast("t.Any", api)
    return target.apply(declare(given), Context(check=check))


def refusing(*whats: str, name: str = "extra", status: int = 422, where: str | None = None) -> Refuse:
    """Refuse the object *name* when it is tried or applied, in the namespace *where* alone, if that is given."""

    def refuse(what: str, _kind: str, obj: Object) -> ApiError | None:
        metadata = obj.get("metadata") or {}
        if what not in whats or metadata.get("name") != name or where not in (None, metadata.get("namespace")):
            return None
        return refused(status, "Invalid value: it is not allowed", "data.a" if status == 422 else "")

    return refuse


@pytest.mark.parametrize("status", [422, 403])
def test_an_extra_resource_that_the_server_refuses_stops_the_first_deployment_before_the_first_write(
    status: int,
) -> None:
    api = Memory(refusing("try", "apply", status=status))
    api.add(namespace())
    there = dict(api.objects)
    with pytest.raises(ModelshipError) as caught:
        deploy(api, BAD)
    assert "it is not allowed" in caught.value.message
    assert caught.value.message.endswith("; nothing was changed")
    assert api.written() == []
    assert api.objects == there


def test_what_is_new_in_a_later_deployment_is_tried_before_the_first_write_too() -> None:
    api = Memory()
    api.add(namespace())
    deploy(api)
    before, there = api.written(), dict(api.objects)
    api.refuse = refusing("try", "apply")
    with pytest.raises(ModelshipError, match=r"nothing was changed$"):
        deploy(api, BAD, config_files={"/etc/a": "other"})
    assert api.written() == before
    assert api.objects == there


def test_what_is_no_longer_declared_but_may_not_be_deleted_stops_the_deployment_before_the_first_write() -> None:
    api = Memory()
    api.add(namespace())
    deploy(api, BAD)
    before = api.written()
    real = api.delete

    def delete(obj: Object, *, propagation: str = "", dry_run: bool = False) -> bool:
        if obj["metadata"]["name"] == "extra":
            raise ApiError("configmaps extra is protected", status=403)
        return real(obj, propagation=propagation, dry_run=dry_run)

    api.delete = delete  # type: ignore[method-assign]
    with pytest.raises(ModelshipError, match=r"extra is protected; nothing was changed$"):
        deploy(api)
    assert api.written() == before


@pytest.mark.parametrize("check", [True, False])
def test_what_is_wrong_with_an_object_is_found_before_its_namespace_is_made(check: bool) -> None:
    api = Memory(refusing("try"))
    with pytest.raises(ModelshipError) as caught:
        deploy(api, BAD, check=check)
    assert caught.value.message.startswith("ConfigMap shop/extra is refused: data.a: ")
    assert api.written() == []
    assert api.objects == {}


def test_what_a_new_namespace_refuses_is_found_there_and_the_namespace_deleted_again() -> None:
    api = Memory(refusing("try", "apply", status=403, where="shop"))
    with pytest.raises(ModelshipError) as caught:
        deploy(api, BAD)
    assert "it is not allowed" in caught.value.message
    assert caught.value.message.endswith(
        "; namespace shop, which was made for it, was deleted again; nothing is left of it"
    )
    assert api.written() == ["Namespace shop", "Namespace shop"]
    assert api.objects == {}


def test_a_new_namespace_in_which_others_have_put_something_meanwhile_stays() -> None:
    def refuse(what: str, _kind: str, obj: Object) -> ApiError | None:
        if what == "try" and obj["metadata"].get("namespace") == "shop" and obj["metadata"]["name"] == "extra":
            api.add(config("theirs", a="1"), namespace="shop")
            return refused(403, "no")
        return None

    api = Memory(refuse)
    with pytest.raises(
        ModelshipError, match=r"namespace shop, .* stays because of ConfigMap shop/theirs; nothing else"
    ):
        deploy(api, BAD)
    assert api.written() == ["Namespace shop"]
    assert sorted(key.kind for key in api.objects) == ["ConfigMap", "Namespace"]


def test_rights_and_policies_of_another_namespace_decide_nothing() -> None:
    api = Memory(refusing("try", status=403, where="default"))
    assert deploy(api, BAD).changed
    api = Memory()
    api.add(config("extra", a="of somebody else"), namespace="default")
    api.refuse = refusing("try", where="default")
    assert deploy(api, BAD).changed


@pytest.mark.parametrize("made", [True, False])
def test_what_could_not_be_tried_leaves_nothing_of_a_first_deployment(made: bool) -> None:
    api = Memory(refusing("apply", name="w"))
    if not made:
        api.add(namespace())
    there = dict(api.objects)
    with pytest.raises(ModelshipError) as caught:
        deploy(api, definition("size"), widget(size="1"))
    assert "it is not allowed" in caught.value.message
    assert caught.value.message.endswith("; what had been applied of it before is removed again")
    assert api.written("apply") != []
    assert api.objects == there


def test_claims_that_are_to_be_kept_are_kept_and_named_when_a_first_deployment_is_removed_again() -> None:
    api = Memory(refusing("apply", name="w"))
    api.add(namespace())
    storage = [{"name": "data", "size": "1g", "mount_path": "/data", "keep": True}]
    with pytest.raises(ModelshipError) as caught:
        deploy(api, definition("size"), widget(size="1"), storage=storage)
    assert "PersistentVolumeClaim shop/digits-data is kept as declared" in caught.value.message
    assert sorted(key.kind for key in api.objects) == ["Namespace", "PersistentVolumeClaim"]


def test_a_webhook_that_no_dry_run_may_call_stops_nothing() -> None:
    message = 'admission webhook "w.example" does not support dry run'
    api = Memory(lambda what, kind, _obj: refused(400, message) if (what, kind) == ("try", "Service") else None)
    api.add(namespace())
    assert any(message in warning for warning in deploy(api, check=True).warnings)
    assert deploy(api).warnings == []
    assert not deploy(api).changed
    assert deploy(api, service={"port": 8000}).changed


def test_check_mode_tells_what_a_namespace_that_does_not_exist_yet_may_still_say() -> None:
    api = Memory()
    (warning,) = deploy(api, check=True).warnings
    assert "could only be validated in namespace default" in warning
    assert "what quotas and policies of namespace shop say is not known before that exists" in warning
    assert deploy(api).warnings == []


@pytest.mark.parametrize("there", [True, False])
def test_a_pod_is_validated_before_the_first_write_too_without_its_service_account(there: bool) -> None:
    asked: list[Object] = []

    def refuse(what: str, _kind: str, obj: Object) -> ApiError | None:
        if obj.get("kind") != "Pod" or what not in ("try", "apply"):
            return None
        asked.append(obj)
        return refused(422, "Invalid value: it is not allowed", "spec.containers[0].name")

    api = Memory(refuse)
    if there:
        api.add(namespace())
    pod: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "extra"}}
    pod["spec"] = {"serviceAccountName": "extra", "containers": [{"name": "A_"}]}
    with pytest.raises(ModelshipError, match=r"it is not allowed.*; nothing was changed$"):
        deploy(api, pod)
    assert api.written() == []
    (tried,) = asked
    assert tried["spec"] == {"containers": [{"name": "A_"}]}
    assert tried["metadata"]["namespace"] == ("shop" if there else "default")
