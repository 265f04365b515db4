"""``requirement_info`` on this host."""

from __future__ import annotations

import pathlib
import sys

from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.module_utils._host.requirements import look


def test_tells_what_is_missing(tmp_path: pathlib.Path) -> None:
    outcome = look(
        {
            "programs": ["sh", "no-such-program"],
            "files": [str(tmp_path), str(tmp_path / "none")],
            "modules": ["json", "no_such_module", "json.no_such_part", "no_such_module.part"],
        },
        Context(),
    )
    assert not outcome.changed
    assert outcome.result == {
        "missing": {
            "programs": ["no-such-program"],
            "files": [str(tmp_path / "none")],
            "modules": ["no_such_module", "json.no_such_part", "no_such_module.part"],
        },
        "complete": False,
        "interpreter": sys.executable,
    }


def test_complete_when_all_is_there() -> None:
    assert look({"programs": ["sh"], "files": ["/"], "modules": ["json"]}, Context()).result["complete"]
