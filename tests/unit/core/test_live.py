"""Live progress of long modules, and what is shown of their failures."""

from __future__ import annotations

import json
import types
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.diff import Difference
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.plugin_utils import live_action
from ansible_collections.modelship.core.plugins.plugin_utils.live import Follower


def _follower(path: Path, shown: list[str], *, live: bool) -> Follower:
    return Follower(lambda offset: path.read_bytes()[offset:] if path.exists() else b"", shown.append, live=live)


def test_who_watches_sees_everything_and_ci_sees_steps(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    watcher: list[str] = []
    ci: list[str] = []
    with _follower(path, watcher, live=True), _follower(path, ci, live=False):
        progress = Progress(str(path))
        progress.step("training starts")
        progress.live("epoch 1/2")
        progress.live("epoch 1/2 again", at_most_every=60)
        progress.step("training ends")
    assert watcher == ["training starts", "epoch 1/2", "training ends"]
    assert ci == ["training starts", "training ends"]


def test_half_a_line_and_rubbish_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "progress"
    whole = json.dumps({"text": "one", "live": False}).encode()
    path.write_bytes(b"rubbish\n[1]\n" + whole[:10])
    shown: list[str] = []
    follower = _follower(path, shown, live=True)
    follower.poll()
    assert shown == []
    path.write_bytes(b"rubbish\n[1]\n" + whole + b"\n")
    follower.poll()
    assert shown == ["one"]


def test_a_progress_file_that_cannot_be_opened_does_not_fail_the_task(tmp_path: Path) -> None:
    Progress(str(tmp_path / "no" / "folder")).step("on we go")


def test_difference_leaves_out_what_is_equal() -> None:
    difference = Difference("deployment digits")
    difference.add("image", "a", "b")
    difference.add("port", 5000, 5000)
    difference.add("replicas", None, 2)
    assert difference.names == ["image", "replicas"]
    assert difference.as_result() == {
        "before_header": "deployment digits",
        "after_header": "deployment digits",
        "before": '{\n  "image": "a"\n}\n',
        "after": '{\n  "image": "b",\n  "replicas": 2\n}\n',
    }
    assert not Difference("x")


def _shortened(result: dict[str, t.Any], **task: t.Any) -> set[str]:
    """Return the keys of what is left of a *result* of a task without conditions, or with those given."""
    action = live_action.ActionModule.__new__(live_action.ActionModule)
    conditions = {"ignore_errors": False, "failed_when": [], "until": [], "_parent": None}
    action._task = types.SimpleNamespace(**{**conditions, **task})
    action._shorten(result)
    return set(result)


WRONG_ANSWERS = {"failed": True, "error_kind": "golden", "msg": "x\ny", "changed": True, "verdict": {}, "log": []}
FAILED_GATE = {
    "failed": True,
    "error_kind": "gate",
    "msg": "x",
    "gates": [],
    "table": [],
    "evaluation": {},
    "report": "",
}


def test_a_failure_is_shown_without_what_its_table_says_already() -> None:
    assert _shortened(dict(WRONG_ANSWERS)) == {"failed", "error_kind", "msg", "changed", "log"}
    assert _shortened(dict(FAILED_GATE)) == {"failed", "error_kind", "msg"}


def test_other_results_are_left_as_they_are() -> None:
    for result in ({**FAILED_GATE, "failed": False}, {**FAILED_GATE, "error_kind": "project"}, {"changed": True}):
        assert _shortened(dict(result)) == set(result)


@pytest.mark.parametrize(
    "task",
    [
        {"ignore_errors": True},
        {"failed_when": ["x"]},
        {"until": ["x"]},
        {"_parent": types.SimpleNamespace(rescue=["x"], always=[])},
        {"_parent": types.SimpleNamespace(_parent=types.SimpleNamespace(rescue=[], always=["x"]))},
    ],
)
def test_a_failure_that_can_be_read_is_whole(task: dict[str, t.Any]) -> None:
    assert _shortened(dict(FAILED_GATE), **task) == set(FAILED_GATE)
