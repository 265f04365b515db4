"""What ``deployment_info`` tells of deployments on a real Docker Engine."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.modules.deployment_info import examine

pytestmark = pytest.mark.integration


def told(deployment: t.Any, *, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
    """What the module returns for a deployment under test."""
    outcome = examine(deployment.options(**options), Context(check=check))
    assert not outcome.changed
    return t.cast("dict[str, t.Any]", outcome.result["deployment"])


def test_the_same_words_as_the_module_that_deployed(deployment: t.Any, release: Path) -> None:
    assert not told(deployment)["exists"]
    made = deployment.run(replicas=2).result["deployment"]
    for check in (False, True):
        found = told(deployment, check=check, replicas=2, verify={"release": str(release)})
        assert found["exists"]
        for word in ("name", "target", "state", "image", "digest", "release", "url", "strategy", "proxy"):
            assert found[word] == made[word], word
        assert [item["container"] for item in found["replicas"]] == [item["container"] for item in made["replicas"]]
        assert {item["health"] for item in found["replicas"]} == {"ready"}
        assert found["health"] == {"state": "ready", "reason": "2 of 2 replicas are ready"}
        assert found["golden"]["ok"]
        assert [item["samples"]["checked"] for item in found["golden"]["verdicts"]] == [3, 3]
        assert found["drift"] == {"drifted": False, "reasons": [], "difference": found["drift"]["difference"]}
    assert told(deployment, image="", proxy=None)["drift"] is None


def test_drift_tells_what_the_deployment_then_changes(deployment: t.Any) -> None:
    deployment.run(environment={"VERSION": "1"})
    found = told(deployment, environment={"VERSION": "2", "API_TOKEN": "hush-hush"})
    planned = deployment.run(environment={"VERSION": "2", "API_TOKEN": "hush-hush"})
    assert found["drift"]["drifted"]
    assert found["drift"]["reasons"] == planned.result["deployment"]["reasons"]
    assert found["drift"]["difference"] == planned.difference.as_result()
    assert "hush" not in str(found)
    assert not told(deployment, environment={"VERSION": "2", "API_TOKEN": "hush-hush"})["drift"]["drifted"]


def test_a_replica_that_was_changed_by_hand_is_seen(deployment: t.Any, release: Path) -> None:
    deployment.run(replicas=2)
    deployment.lab.api.stop(f"{deployment.name}-g1-2", timeout=1)
    found = told(deployment, replicas=2, verify={"release": str(release)})
    assert found["health"]["state"] == "failed"
    assert f"1 of 2 replicas are ready; {deployment.name}-g1-2 ended with exit code" in found["health"]["reason"]
    assert [item["health"] for item in found["replicas"]] == ["ready", "failed"]
    assert [item["ok"] for item in found["golden"]["verdicts"]] == [True, False]
    assert found["drift"]["drifted"]
    deployment.lab.api.stop(f"{deployment.name}-proxy", timeout=1)
    assert f"{deployment.name}-proxy is exited" in told(deployment, replicas=2)["health"]["reason"]


def test_other_answers_than_the_releases_are_a_fact(plain: t.Any, release: Path) -> None:
    plain.run(environment={"SHIFT": "1"})
    found = told(plain, image="", verify={"release": str(release)})
    assert found["health"]["state"] == "ready"
    assert not found["golden"]["ok"]
    assert found["golden"]["verdicts"][0]["samples"]["failed"] == 3
    assert found["strategy"] == "recreate"
    assert found["url"] == f"http://127.0.0.1:{plain.port}"


def test_one_that_stopped_being_ready_is_seen(plain: t.Any) -> None:
    plain.run(environment={"MODE": "fading"}, health={"start_deadline": 1})
    assert told(plain)["health"]["state"] == "ready"
    created = plain.lab.api.exec_create(f"{plain.name}-g1-1", ["python3", "-c", "open('/tmp/fade', 'w')"])
    plain.lab.api.exec_start(created["Id"])
    found = told(plain, environment={"MODE": "fading"}, health={"start_deadline": 0.1})
    assert found["health"]["state"] == "failed"
    assert "answered 503" in found["replicas"][0]["reason"]
    assert found["drift"]["drifted"]
