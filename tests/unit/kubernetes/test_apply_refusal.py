# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user reads when the API server refuses; the causes are those of a 1.34 API server."""

from __future__ import annotations

import base64

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.errors import ApiError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.objects import Key
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.refusal import (
    combined,
    conflict_error,
    conflicts_of,
    explained,
    some,
)

DIGITS = Key("apps", "Deployment", "shop", "digits")


def obj(kind: str, version: str = "v1", **rest: object) -> dict:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "shop"}, **rest}


def invalid(field: str, message: str) -> ApiError:
    cause = {"reason": "FieldValueInvalid", "field": field, "message": message}
    return ApiError(f"refused: {field}: {message}", status=422, reason="Invalid", causes=[cause])


def conflict(*causes: tuple[str, str]) -> ApiError:
    found = [{"reason": "FieldManagerConflict", "field": field, "message": message} for field, message in causes]
    return ApiError("Apply failed", status=409, reason="Conflict", causes=found, kind="conflict")


def test_conflicts_of_all_objects_are_told_at_once_with_the_managers_by_name() -> None:
    first = conflict(
        (".spec.replicas", 'conflict with "kubectl" with subresource "scale" using apps/v1'),
        ('.spec.template.spec.containers[name="c"].image', 'conflict with "kubectl-edit" using apps/v1'),
    )
    second = conflict((".data.a", 'conflict with "argocd-controller" using v1 at 2026-01-01T00:00:00Z'))
    found = conflicts_of(first, DIGITS) + conflicts_of(second, Key("", "ConfigMap", "shop", "c"))
    error = conflict_error(found)
    assert error.kind == "conflict"
    assert error.message == (
        "Deployment shop/digits: spec.replicas is managed by kubectl (scale), "
        'spec.template.spec.containers[name="c"].image is managed by kubectl-edit; '
        "ConfigMap shop/c: data.a is managed by argocd-controller: "
        "give them up there, leave them out here, or take them over with kubernetes.force"
    )
    assert error.details["conflicts"][0] == {
        "object": "Deployment shop/digits",
        "field": "spec.replicas",
        "manager": "kubectl",
        "subresource": "scale",
    }


def test_another_conflict_is_no_conflict_of_managers() -> None:
    stale = ApiError("the object has been modified", status=409, reason="Conflict")
    assert conflicts_of(stale, DIGITS) == []
    assert conflicts_of(ModelshipError("other"), DIGITS) == []


def test_an_immutable_field_is_named_with_what_to_do() -> None:
    message = 'Invalid value: {"matchLabels":{"app":"y"}}: field is immutable'
    error = explained(invalid("spec.selector", message), obj("Deployment", "apps/v1"))
    assert error.kind == "kubernetes"
    assert error.message == (
        "Deployment shop/x is refused: spec.selector: field is immutable. This cannot change once it exists: delete it "
        "(kubectl --namespace shop delete deployment.apps x) and run again, or give it another name"
    )


def test_a_jobs_template_is_not_dumped_because_it_holds_secrets() -> None:
    dump = '{"Containers":[{"Env":[{"Name":"PASSWORD","Value":"hunter22: x"}]}],"Overhead":null}'
    error = explained(invalid("spec.template", f"Invalid value: {dump}: field is immutable"), obj("Job", "batch/v1"))
    assert error.message.startswith(
        "Job shop/x is refused: spec.template: field is immutable. What a Job runs cannot change"
    )
    assert "hunter22" not in error.message


def test_a_claims_diff_is_cut_and_its_remedy_told() -> None:
    message = (
        "Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound "
        'claims\n@@ -1,6 +1,6 @@\n {\n- "ReadWriteOnce"'
    )
    error = explained(invalid("spec", message), obj("PersistentVolumeClaim"))
    assert "ReadWriteOnce" not in error.message
    assert "only the size can change" in error.message
    assert "kubectl --namespace shop delete persistentvolumeclaim x" in error.message


def test_a_short_wrong_value_is_shown_but_never_a_secrets() -> None:
    message = 'Invalid value: "1 A": a valid name must consist of alphanumeric characters'
    assert '"1 A": a valid name' in explained(invalid("spec.a", message), obj("Deployment", "apps/v1")).message
    assert "1 A" not in explained(invalid("data[k]", message), obj("Secret")).message


def test_a_cause_about_the_whole_object_has_no_field() -> None:
    error = explained(invalid("[]", "Too long: may not be more than 1048576 bytes"), obj("ConfigMap"))
    assert error.message == "ConfigMap shop/x is refused: Too long: may not be more than 1048576 bytes"


def test_a_value_of_a_wrong_type_is_not_shown() -> None:
    message = (
        "refused: failed to create typed patch object (shop/x; /v1, Kind=Secret): errors:\n"
        "  .data.pin: expected string, got &value.valueUnstructured{Value:12345678}\n  .foo: field not declared in schema"
    )
    error = explained(ApiError(message, status=500), obj("Secret"))
    assert "12345678" not in error.message
    assert (
        ".data.pin: expected string, got a value of another type; .foo: field not declared in schema" in error.message
    )


def test_a_webhook_that_repeats_a_secret_is_scrubbed() -> None:
    encoded = base64.b64encode(b"hunter22").decode()
    secret = obj("Secret", data={"p": encoded})
    denied = ApiError(f'admission webhook denied: "hunter22" ({encoded}) is weak', status=403, reason="Forbidden")
    assert explained(denied, secret).message == 'admission webhook denied: "<redacted>" (<redacted>) is weak'
    pod = obj("Pod", spec={"containers": [{"env": [{"name": "API_TOKEN", "value": "hunter22"}]}]})
    assert "hunter22" not in explained(denied, pod).message


def test_a_lost_server_is_told_as_it_is() -> None:
    lost = ApiError("cannot reach https://x", status=0)
    assert explained(lost, obj("ConfigMap")) is lost


def test_several_errors_become_one_and_the_same_one_is_told_once() -> None:
    same = [ModelshipError("no rights", kind="kubernetes") for _number in range(3)]
    assert combined(same).message == "no rights"
    different = [ModelshipError(f"error {number}", kind="kubernetes") for number in range(8)]
    assert combined(different).message.endswith("error 4; and 3 more")


def test_long_lists_are_shortened() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(["a", "b", "c"], 2) == "a, b and 1 more"
