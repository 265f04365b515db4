"""Groups of ``meta/runtime.yml``: each module of a group accepts the options that the group's documentation fragment names."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

ROOT = Path(__file__).resolve().parents[3]
GROUPS: dict[str, list[str]] = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]
MEMBERS = [(group, module) for group, modules in GROUPS.items() for module in modules]
#: A value that each type of option accepts.
SAMPLES: dict[str, t.Any] = {"str": "x", "path": "/x", "bool": True, "int": 7, "dict": {"NAME": "x"}, "raw": "/x"}


class _Caught(Exception):  # noqa: N818 - it ends a module's main() before it acts
    def __init__(self, spec: dict[str, t.Any]) -> None:
        self.spec = spec


def argument_spec(module: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, t.Any]:
    """Return the argument spec with which the module's own ``main()`` starts."""

    def caught(_self: AnsibleModule, argument_spec: dict[str, t.Any], **_options: t.Any) -> None:
        raise _Caught(argument_spec)

    monkeypatch.setattr(AnsibleModule, "__init__", caught)
    with pytest.raises(_Caught) as found:
        importlib.import_module(f"ansible_collections.modelship.core.plugins.modules.{module}").main()
    return found.value.spec


def shared(group: str) -> dict[str, t.Any]:
    """Return the options of the group, as documented, with a value each."""
    fragment = importlib.import_module(f"ansible_collections.modelship.core.plugins.doc_fragments.{group}")
    options = yaml.safe_load(fragment.ModuleDocFragment.DOCUMENTATION)["options"]
    return {name: SAMPLES[option["type"]] for name, option in options.items()}


def test_there_are_groups_of_docker_kubernetes_registry_and_trainer() -> None:
    assert GROUPS.keys() == {"docker", "kubernetes", "registry", "trainer"}


@pytest.mark.parametrize(("group", "module"), MEMBERS)
def test_every_module_of_a_group_accepts_the_options_that_it_shares(
    group: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = argument_spec(module, monkeypatch)
    optional = {name: {**option, "required": False} for name, option in spec.items()}
    given = shared(group)
    assert given
    result = ArgumentSpecValidator(optional).validate(given)
    assert result.error_messages == []
    assert {name: result.validated_parameters[name] for name in given} == given


@pytest.mark.parametrize("group", GROUPS)
def test_every_module_that_accepts_a_groups_options_is_in_the_group(
    group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = [path.stem for path in (ROOT / "plugins/modules").glob("*.py") if "def main" in path.read_text()]
    accepting = [name for name in modules if shared(group).keys() <= argument_spec(name, monkeypatch).keys()]
    assert sorted(accepting) == sorted(GROUPS[group])


@pytest.mark.parametrize(("group", "module"), MEMBERS)
def test_modules_document_the_groups_that_they_are_in(group: str, module: str) -> None:
    found = importlib.import_module(f"ansible_collections.modelship.core.plugins.modules.{module}")
    attribute = yaml.safe_load(found.DOCUMENTATION)["attributes"]["action_group"]
    assert f"modelship.core.{group}" in attribute["membership"]


def test_module_defaults_reach_the_modules_of_a_group_and_no_other(tmp_path: Path) -> None:
    socket, kubeconfig, python = (str(tmp_path / name) for name in ("docker.sock", "kubeconfig", "python"))
    tasks: dict[str, dict[str, t.Any]] = {
        "docker": {"modelship.core.deployment_info": {"name": "x"}},
        "kubernetes": {"modelship.core.deployment_info": {"name": "x", "target": "kubernetes"}},
        "registry": {"modelship.core.image_push": {"layout": str(tmp_path / "layout"), "repository": "127.0.0.1:1/x"}},
        "trainer": {"modelship.core.model_train": {"project": str(tmp_path), "releases": str(tmp_path / "releases")}},
        "none": {"modelship.core.endpoint_verify": {"url": "http://127.0.0.1:1", "wait": 0}},
    }
    answers = ", ".join(f"'answer_{name}': answer_{name}" for name in tasks)
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "module_defaults": {
            "group/modelship.core.docker": {"docker_host": f"unix://{socket}"},
            "group/modelship.core.kubernetes": {"kubeconfig": kubeconfig},
            "group/modelship.core.registry": {"username": "somebody", "password": "hunter22", "validate_certs": False},
            "group/modelship.core.trainer": {"trainer_python": python},
        },
        "tasks": [
            *({**task, "register": f"answer_{name}", "ignore_errors": True} for name, task in tasks.items()),
            {
                "ansible.builtin.copy": {
                    "content": f"{{{{ {{{answers}}} | to_json }}}}",
                    "dest": f"{tmp_path}/answers.json",
                }
            },
        ],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-c", "local", "-vvv"]
    command += ["-e", f"ansible_python_interpreter={sys.executable}", str(tmp_path / "play.yml")]
    done = subprocess.run(
        command,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build"), "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"},
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert "Unsupported parameters" not in output
    found = json.loads((tmp_path / "answers.json").read_text())
    assert socket in found["answer_docker"]["msg"]
    assert kubeconfig in found["answer_kubernetes"]["msg"]
    assert "username: somebody" in output
    assert "hunter22" not in output
    assert python in found["answer_trainer"]["msg"]
    assert "http://127.0.0.1:1" in found["answer_none"]["msg"]
