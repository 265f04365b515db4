"""The cluster that the tests of target kubernetes stand on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cluster.fixture import RunningCluster

from . import serving as images


@pytest.fixture(scope="session")
def serving(
    cluster: RunningCluster, installed: Path, trainer_python: str, tmp_path_factory: pytest.TempPathFactory
) -> images.Serving:
    """Two images that the cluster can pull, each with a release of its own."""
    registry = cluster.require_registry()
    folder = tmp_path_factory.mktemp("serving")
    releases = images.write_releases(folder, trainer_python)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "modelship" / "cluster" / "oci"
    references = images.publish(folder, [path for path, _answers in releases], registry, installed, cache)
    return images.Serving(
        *(
            images.Built(reference, f"sha256:{path.name}", str(path), answers)
            for reference, (path, answers) in zip(references, releases, strict=True)
        )
    )
