"""Makes the checkout importable as ``ansible_collections.modelship.core``, and the model packages importable by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / ".build"


def _link_collection() -> None:
    link = TREE / "ansible_collections" / "modelship" / "core"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        link.symlink_to(ROOT, target_is_directory=True)
    for path in (TREE, ROOT / "model" / "src", ROOT):
        if str(path) not in sys.path:
            sys.path.insert(0, str(path))


_link_collection()


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With ``-n 2 --dist loadgroup``: what waits for the cluster runs beside all the rest, each in its own order."""
    for item in items:
        group = "cluster" if "cluster" in getattr(item, "fixturenames", ()) else "machine"
        item.add_marker(pytest.mark.xdist_group(group))
