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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the cluster comes last, so that the cluster does not run beside the rest."""
    items.sort(key=lambda item: "cluster" in getattr(item, "fixturenames", ()))
