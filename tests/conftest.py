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


#: The tests on the cluster mostly wait: with ``-n 2`` they run beside the rest that shares this machine's servers and ports.
_CLUSTER = (
    "tests/cluster/test_cluster.py",
    "tests/integration/kubernetes/",
    "tests/integration/test_line_kubernetes.py",
)
_GROUPS = ("machine", "cluster")


def _group(nodeid: str) -> str:
    """Tests of one group run one after the other: those on the cluster, those with servers, and each file of unit tests."""
    if nodeid.startswith(_CLUSTER):
        return "cluster"
    return nodeid.partition("::")[0] if nodeid.startswith("tests/unit/") else "machine"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The two long groups come first; the short ones fill up the end, wherever it comes sooner."""
    items.sort(key=lambda item: _GROUPS.index(group) if (group := _group(item.nodeid)) in _GROUPS else len(_GROUPS))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: t.Any) -> t.Any:
    """Deal out whole groups (``--dist loadgroup`` of pytest-xdist 3.8 does not find its marks with pytest 9)."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    return Groups(config, log)
