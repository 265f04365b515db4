"""Images built by a Docker Engine, as far as no Engine is needed."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.module_utils._oci.docker_build import build_image


@pytest.mark.parametrize(
    ("options", "refused"),
    [
        ({"docker_host": "moon"}, "docker_host 'moon' is not the address of a Docker Engine"),
        ({"ca_path": "/missing/ca.pem"}, "ca_path /missing/ca.pem cannot be read"),
        ({"docker_host": "tcp://127.0.0.1:9"}, None),
    ],
)
def test_check_mode_expects_an_engine_that_an_earlier_task_starts_but_no_right_options(
    options: dict[str, t.Any], refused: str | None, tmp_path: Path
) -> None:
    pytest.importorskip("docker")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    parameters = {"name": "x", "dest": str(tmp_path / "images"), "docker": {"context": str(tmp_path), **options}}
    if refused is None:
        assert build_image(parameters, Context(check=True)).changed
        return
    with pytest.raises(ModelshipError, match=refused):
        build_image(parameters, Context(check=True))
