# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a namespace holds anything that is not the deployment's."""

from __future__ import annotations

from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import Key
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.vacancy import others_in, strangers

from .scripted_server import Pki, Scripted, answer


def thing(kind: str, name: str, *, owner: str = "", labels: dict[str, str] | None = None, going: bool = False) -> dict:
    metadata: dict = {"name": name, "namespace": "shop", "uid": f"{kind}/{name}", "labels": labels or {}}
    if owner:
        metadata["ownerReferences"] = [{"uid": owner}]
    if going:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


OURS = thing("Deployment", "digits")
#: Listed before their owners, as the kinds happen to be listed.
DESCENDANTS = [thing("Pod", "p", owner="ReplicaSet/r"), thing("ReplicaSet", "r", owner="Deployment/digits"), OURS]
BY_THEMSELVES = [
    thing("ServiceAccount", "default"),
    thing("ConfigMap", "kube-root-ca.crt"),
    thing("Secret", "digits-modelship", labels={"modelship.io/record": "digits"}),
    thing("Job", "old", going=True),
]


def names(*found: dict) -> list[str]:
    return [str(key) for key in strangers(found, "digits", [OURS["metadata"]["uid"]])]


def test_ours_and_what_it_owns_and_what_every_namespace_has_does_not_count() -> None:
    assert names(*DESCENDANTS, *BY_THEMSELVES) == []


def test_what_others_made_counts_and_is_told_by_its_owner() -> None:
    other = [thing("ReplicaSet", "s", owner="Deployment/shop"), thing("Deployment", "shop")]
    assert names(*DESCENDANTS, *other) == ["Deployment shop/shop"]


def test_the_same_name_of_another_kind_and_another_deployments_record_count() -> None:
    record = thing("Secret", "shop-modelship", labels={"modelship.io/record": "shop"})
    assert names(*BY_THEMSELVES, thing("ConfigMap", "default"), record) == [
        "ConfigMap shop/default",
        "Secret shop/shop-modelship",
    ]


def test_what_is_owned_by_something_elsewhere_counts() -> None:
    assert names(thing("Pod", "p", owner="Node/n")) == ["Pod shop/p"]


def test_a_namespace_is_looked_through_to_the_last_page(api_server: Scripted, pki: Pki) -> None:
    ours = thing("ConfigMap", "c", labels={"modelship.io/record": "digits"})
    kind = {"kind": "ConfigMap", "name": "configmaps", "namespaced": True, "verbs": ["list"]}
    api_server.script = [
        answer({"groups": []}),
        answer({"resources": [kind]}),
        answer({"items": [ours] * 100, "metadata": {"continue": "more"}}),
        answer({"items": [thing("ConfigMap", "theirs")], "metadata": {}}),
    ]
    with Api(load_access({"api_server": api_server.url, "ca_path": str(pki.ca)})) as api:
        assert others_in(api, "shop", "digits") == [Key("", "ConfigMap", "shop", "theirs")]
    assert "continue=more" in api_server.seen[-1].path
