# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a diff shows of Kubernetes objects, and what it must not."""

from __future__ import annotations

import base64
import copy
import json

from ansible_collections.modelship.core.plugins.module_utils._kubernetes.difference import (
    changed_paths,
    shown,
    told,
)
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import APPLIED
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.secrets import redacted

SECRET = "hunter22"
ENCODED = base64.b64encode(SECRET.encode()).decode()


def deployment(image: str = "a", **container: object) -> dict:
    template = {"spec": {"containers": [{"name": "web", "image": image, **container}]}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": template}}


def live_deployment(image: str = "a", **container: object) -> dict:
    """As a server returns it: with its defaults and its bookkeeping."""
    live = deployment(image, terminationMessagePath="/dev/termination-log", imagePullPolicy="IfNotPresent", **container)
    live["metadata"] |= {"uid": "1", "generation": 4, "managedFields": [{"manager": "modelship"}]}
    live["spec"] |= {"progressDeadlineSeconds": 600, "replicas": 3}
    live["status"] = {"replicas": 3}
    return live


def test_only_what_is_declared_or_changes_is_shown() -> None:
    before, after = shown(deployment("b"), live_deployment("a"), live_deployment("b"))
    assert before == deployment("a")
    assert after == deployment("b")
    assert changed_paths(before, after) == ["spec.template.spec.containers[web].image"]


def test_a_default_that_comes_with_a_new_field_is_not_shown_but_one_that_is_lost_is() -> None:
    probe = {"httpGet": {"path": "/", "port": 80}}
    served = {**probe, "periodSeconds": 10, "failureThreshold": 3}
    declared = deployment(livenessProbe=probe)
    before, after = shown(declared, live_deployment(), live_deployment(livenessProbe=served))
    assert after == declared
    assert before == deployment()
    # taken out again: the server drops the field with its defaults
    before, after = shown(deployment(), live_deployment(livenessProbe=served), live_deployment())
    assert before == deployment(livenessProbe=served)
    assert after == deployment()


def test_a_field_that_falls_back_to_its_default_is_shown_although_not_declared() -> None:
    becomes = live_deployment()
    becomes["spec"]["replicas"] = 1
    before, after = shown(deployment(), live_deployment(), becomes)
    assert (before["spec"]["replicas"], after["spec"]["replicas"]) == (3, 1)


def test_a_new_container_is_shown_as_declared_and_told_apart_by_its_name() -> None:
    sidecar = {"name": "log", "image": "l"}
    declared = deployment()
    declared["spec"]["template"]["spec"]["containers"].insert(0, sidecar)
    becomes = live_deployment()
    becomes["spec"]["template"]["spec"]["containers"].insert(0, {**sidecar, "terminationMessagePath": "/dev/t"})
    before, after = shown(declared, live_deployment(), becomes)
    assert after["spec"]["template"]["spec"]["containers"] == [{"name": "web", "image": "a"}, sidecar]
    assert changed_paths(before, after) == ["spec.template.spec.containers[log]"]


def test_a_new_and_a_removed_object_are_shown_on_one_side() -> None:
    assert shown(deployment(), None, live_deployment()) == (None, deployment())
    assert shown(deployment(), live_deployment(), None) == (deployment(), None)


def test_the_digest_is_shown_only_where_nothing_else_differs() -> None:
    def marked(obj: dict, digest: str) -> dict:
        obj = copy.deepcopy(obj)
        obj["metadata"]["annotations"] = {APPLIED: digest}
        return obj

    old, new = live_deployment("a"), live_deployment("b")
    before, after = shown(marked(deployment("b"), "2"), marked(old, "1"), marked(new, "2"))
    assert "annotations" not in before["metadata"]
    assert "annotations" not in after["metadata"]
    before, after = shown(marked(deployment("a"), "2"), marked(old, "1"), marked(old, "2"))
    assert before["metadata"]["annotations"] == {APPLIED: "1"}
    assert after["metadata"]["annotations"] == {APPLIED: "2"}


def test_secrets_are_shown_as_fingerprints_that_tell_whether_they_change() -> None:
    def secret(value: str) -> dict:
        encoded = base64.b64encode(value.encode()).decode()
        copied = json.dumps({"kind": "Secret", "data": {"p": encoded}, "stringData": {"q": value}})
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s", "annotations": {"kubectl.kubernetes.io/last-applied-configuration": copied}},
            "data": {"p": encoded, "same": ENCODED},
        }

    other = "correct horse"
    before, after = shown(secret(other), secret(SECRET), secret(other))
    text = json.dumps([before, after])
    for value in (SECRET, ENCODED, other, base64.b64encode(other.encode()).decode()):
        assert value not in text
    assert before["data"]["p"] != after["data"]["p"]
    assert before["data"]["same"] == after["data"]["same"]
    assert changed_paths(before, after) == ["data.p"]


def test_string_data_and_kubectls_copy_never_show() -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": SECRET, "a": "b"}},
        "stringData": {"p": SECRET},
    }
    assert SECRET not in json.dumps(redacted(secret))
    assert redacted(secret)["metadata"]["annotations"] == {"a": "b"}


def test_values_whose_names_say_secret_do_not_show_anywhere() -> None:
    obj = deployment(env=[{"name": "API_TOKEN", "value": SECRET}, {"name": "MODE", "value": "fast"}])
    obj["spec"]["auth"] = {"password": SECRET, "secretName": "s", "tokenPath": "/t"}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"db.password": SECRET, "mode": "fast"}}
    result = redacted(obj)
    assert SECRET not in json.dumps([result, redacted(config)])
    assert result["spec"]["auth"] | {"password": ""} == {"password": "", "secretName": "s", "tokenPath": "/t"}
    assert result["spec"]["template"]["spec"]["containers"][0]["env"][1] == {"name": "MODE", "value": "fast"}
    assert redacted(config)["data"]["mode"] == "fast"


def test_variables_that_come_from_another_configuration_are_told_as_one_and_our_marks_not_at_all() -> None:
    env = "spec.template.spec.containers[web].env"
    paths = [
        "metadata.annotations.modelship.io/adopted",
        f"{env}[A].valueFrom.configMapKeyRef.name",
        f"{env}[B].valueFrom.secretKeyRef.name",
        f"{env}[C]",
        "spec.template.spec.containers[web].image",
    ]
    assert told(paths) == [env, f"{env}[C]", "spec.template.spec.containers[web].image"]
