"""deployment and deployment_info behave as their documented attributes say, on a Docker Engine."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ..test_attributes import Case, behaves, documented
from ..test_model_modules import Tasks
from .conftest import Deployment


def test_the_deployment_modules_behave_as_they_document(plain: Deployment, tmp_path: Path) -> None:
    tasks, attributes = Tasks(tmp_path), documented()

    def containers() -> list[t.Any]:
        return sorted((each["Id"], each["State"]) for each in plain.lab.containers(plain.name))

    arguments = {"name": plain.name, "image": plain.lab.image, "port": plain.port, "health": {"start_deadline": 60}}
    behaves(tasks, Case("deployment", arguments, containers), attributes)
    behaves(tasks, Case("deployment_info", arguments, containers), attributes)
    behaves(tasks, Case("deployment", {"name": plain.name, "state": "absent"}, containers), attributes)


def test_a_deployment_whose_image_is_not_built_yet_shows_a_diff(plain: Deployment, tmp_path: Path) -> None:
    foreseen = Tasks(tmp_path).run("deployment", {"name": plain.name, "image": ""}, "--check", "--diff").result
    assert foreseen["changed"]
    assert "unknown until built" in foreseen["diff"]["after"]
