"""Options that hold secrets beside what is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.discretion import conceal
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.redaction import HIDDEN
from ansible_collections.modelship.core.plugins.module_utils._core.secret_names import is_secret_name
from ansible_collections.modelship.core.plugins.module_utils._core.values import variables


def test_only_secret_names_are_hidden_and_only_what_is_long_is_masked_everywhere() -> None:
    options = {"url": "http://x", "headers": {"X-Api-Key": "hunter22", "Token": 7, "Accept": "json", "Password": ""}}
    shown, values = conceal(options, "headers", lambda name: is_secret_name(name.replace("-", "_")))
    assert shown["headers"] == {"X-Api-Key": HIDDEN, "Token": HIDDEN, "Accept": "json", "Password": ""}
    assert shown["url"] == "http://x"
    assert values == {"hunter22"}
    assert options["headers"]["Token"] == 7


def test_options_not_yet_validated_are_no_trouble() -> None:
    assert conceal({"headers": "X-Api-Key: a"}, "headers", is_secret_name) == ({"headers": HIDDEN}, set())
    assert conceal({"headers": None}, "headers", is_secret_name) == ({"headers": None}, set())
    assert conceal({}, "headers", is_secret_name) == ({}, set())


#: Runs a module as Ansible does, and writes what it logs to the file that is its second argument.
RUN_MODULE = """
import importlib, sys
from ansible.module_utils import basic
module = importlib.import_module("ansible_collections.modelship.core.plugins.modules." + sys.argv[1])
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = sys.stdin.buffer.read(), "legacy"
def log(self, message, log_args=None):
    with open(sys.argv[2], "a") as stream:
        print(message, log_args, file=stream)
basic.AnsibleModule.log = log
module.main()
"""
_NOWHERE = "/no/such/path"


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (
            "image_build",
            {
                "name": "x",
                "dest": _NOWHERE,
                "cache": _NOWHERE,
                "builder": "docker",
                "docker": {"context": _NOWHERE, "build_args": {"NPM_TOKEN": "hunter22"}},
                "base": {"bootstrap": {"mirror": "http://ci:hunter22@mirror/debian"}},
                "config": {"env": {"DB_PASSWORD": "hunter22"}},
            },
        ),
        ("image_push", {"layout": _NOWHERE, "repository": "h/x", "username": "ci", "password": "hunter22"}),
        (
            "python_environment",
            {"path": _NOWHERE, "requirements": "--extra-index-url https://ci:hunter22@index/\nnumpy==1\n"},
        ),
        (
            "model_train",
            {
                "project": _NOWHERE,
                "releases": _NOWHERE,
                "trainer_python": _NOWHERE,
                "parameters": {"hub": {"token": "hunter22"}},
                "data": {"source": "npz", "path": "https://ci:hunter22@data/x.npz"},
                "trainer_environment": {"HF_TOKEN": "hunter22"},
            },
        ),
        (
            "endpoint_verify",
            {"url": "http://ci:hunter22@127.0.0.1:1", "headers": {"X-Api-Key": "hunter22"}, "wait": 0, "timeout": 1},
        ),
        ("deployment", {"name": "x", "image": "x:latest", "environment": {"DB_PASSWORD": "hunter22"}}),
        ("deployment", {"name": "x", "image": "x:latest", "environment": "DB_PASSWORD=hunter22", "port": "none"}),
    ],
)
def test_no_module_shows_or_logs_the_secrets_among_its_options(
    tmp_path: Path, module: str, arguments: dict[str, t.Any]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN_MODULE, module, str(tmp_path / "log")],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_verbosity": 3}}),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    result = json.loads(done.stdout)
    assert result["failed"]
    shown = result["invocation"]["module_args"]
    assert shown.keys() >= arguments.keys()
    assert HIDDEN in done.stdout or "********" in done.stdout
    assert "hunter22" not in done.stdout
    log = tmp_path / "log"
    assert not log.exists() or "hunter22" not in log.read_text()


def test_a_variable_mistaken_for_a_name_does_not_show_its_value() -> None:
    found = conceal({"environment": {"DB_PASSWORD=hunter22": "x", "A": "b"}}, "environment", is_secret_name)
    assert found.shown == {"environment": {f"DB_PASSWORD={HIDDEN}": HIDDEN, "A": "b"}}
    assert found.values == {"hunter22"}
    with pytest.raises(ModelshipError) as caught:
        variables({"DB_PASSWORD=hunter22": "x"}, "environment")
    assert "'DB_PASSWORD=…' cannot be the name of a variable" in caught.value.message
