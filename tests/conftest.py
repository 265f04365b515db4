"""Makes the checkout importable as ``ansible_collections.modelship.core``, and the model packages importable by name."""

from __future__ import annotations

import sys
import typing as t
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


#: What runs one after the other, since it shares a cluster, or this machine's Docker Engine: two long groups side by side.
_GROUPS = {
    "machine": (
        "tests/integration/deployment/",
        "tests/integration/test_groups.py",
        "tests/integration/test_line.py",
        "tests/integration/test_roles",
    ),
    "cluster": (
        "tests/cluster/test_cluster.py",
        "tests/integration/kubernetes/",
        "tests/integration/test_line_kubernetes.py",
    ),
}


def _group(nodeid: str) -> str:
    """The group of a test: one of the long ones, else its folder's (``tests/integration/image``) or its file's."""
    for name, places in _GROUPS.items():
        if nodeid.startswith(places):
            return name
    file = nodeid.partition("::")[0]
    return file if file.startswith("tests/unit/") else "/".join(file.split("/")[:3])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The two long groups come first, then what takes minutes; unit tests fill up the end."""

    def order(item: pytest.Item) -> int:
        group = _group(item.nodeid)
        return [*_GROUPS].index(group) if group in _GROUPS else 2 + group.startswith("tests/unit/")

    items.sort(key=order)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: t.Any) -> t.Any:
    """Deal out whole groups (``--dist loadgroup`` of pytest-xdist 3.8 does not find its marks with pytest 9)."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return Groups(config, log)
