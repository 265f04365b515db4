"""Examples use modules, options and results as these are documented."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PREFIX = "modelship.core."
MODULES = sorted(path.stem for path in (ROOT / "plugins" / "modules").glob("[!_]*.py"))
#: Where users look first; the others are modules' own examples.
README = "README.md"
#: What every result has beside what its module returns.
COMMON = {"changed", "failed", "skipped", "msg", "diff"}
Text = dict[str, t.Any]


@functools.cache
def documented() -> dict[str, Text]:
    """What ansible-doc tells of all modules, fragments included."""
    command = [
        str(Path(sys.executable).parent / "ansible-doc"),
        "-j",
        "-t",
        "module",
        *(PREFIX + name for name in MODULES),
    ]
    env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build")}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    return {name.removeprefix(PREFIX): found for name, found in json.loads(done.stdout).items()}


def texts() -> dict[str, str]:
    """The examples by where they are."""
    blocks = re.findall(r"^```yaml\n(- .*?)^```", (ROOT / README).read_text(), re.MULTILINE | re.DOTALL)
    return {**{name: found["examples"] for name, found in documented().items()}, README: "\n".join(blocks)}


@functools.cache
def tasks(where: str) -> list[Text]:
    return [task for task in yaml.safe_load(texts()[where]) or () if isinstance(task, dict)]


def module_of(task: Text) -> str | None:
    return next((key.removeprefix(PREFIX) for key in task if key.startswith(PREFIX)), None)


def registered(where: str) -> dict[str, str]:
    """The modules by the names under which examples register their results; other files' first, so that its own count."""
    files = [*(name for name in texts() if name != where), where]
    found = {task["register"]: module_of(task) for file in files for task in tasks(file) if "register" in task}
    return {name: module for name, module in found.items() if module}


def unknown_options(given: t.Any, options: Text, path: str) -> list[str]:
    """Names in *given* that *options*, as documented, do not have."""
    if isinstance(given, list):
        return [name for item in given for name in unknown_options(item, options, path)]
    wrong = []
    for name, value in given.items() if isinstance(given, dict) else ():
        option = options.get(name) or next((each for each in options.values() if name in each.get("aliases", ())), None)
        if option is None:
            wrong.append(f"{path}{name}")
        elif option.get("suboptions"):
            wrong += unknown_options(value, option["suboptions"], f"{path}{name}.")
    return wrong


def unknown_result(path: list[str], returned: Text) -> bool:
    """Tell whether *returned*, as documented, has no *path*; what is not documented further may hold anything."""
    if path[0] in COMMON:
        return False
    level = returned
    for name in path:
        if name not in level:
            return True
        level = level[name].get("contains") or {}
        if not level:
            return False
    return False


@pytest.mark.parametrize("where", [*MODULES, README])
def test_options_are_documented(where: str) -> None:
    seen = 0
    for task in tasks(where):
        module = module_of(task)
        if module is None:
            assert any(key.startswith("ansible.") for key in task), f"{task} names no module in full"
            continue
        seen += 1
        found = documented()[module]["doc"]["options"]
        given = task[PREFIX + module]
        assert unknown_options(given, found, f"{module}: ") == []
        missing = [name for name, option in found.items() if option.get("required") and name not in given]
        assert missing == [], f"{module}: {task.get('name')}"
    assert seen or where == README


@pytest.mark.parametrize("where", [*MODULES, README])
def test_results_are_documented(where: str) -> None:
    modules = registered(where)
    text = texts()[where]
    # proxy_pushed is another result of what registers pushed
    pattern = rf"\b(?:[a-z]+_)?(?P<name>{'|'.join(modules)})(?P<path>(?:\.[a-z_0-9]+)+)"
    wrong = []
    for match in re.finditer(pattern, text):
        path = match["path"].strip(".").split(".")
        if unknown_result(path, documented()[modules[match["name"]]]["return"] or {}):
            wrong.append(match[0])
    assert wrong == []


def test_wrong_examples_would_be_found() -> None:
    options = documented()["deployment"]["doc"]["options"]
    given = {"name": "x", "kubernetes": {"gpus": {"number": 1}, "storage": [{"name": "d", "path": "/"}]}, "verfy": {}}
    assert unknown_options(given, options, "") == ["kubernetes.gpus.number", "kubernetes.storage.path", "verfy"]
    returned = documented()["image_push"]["return"]
    assert unknown_result(["image", "reference"], returned)
    assert not unknown_result(["push", "reference"], returned)
    assert registered("deployment")["pushed"] == "image_push"
