"""Environments differ in their group_vars alone, and those set only what roles and playbooks know."""

from __future__ import annotations

import typing as t
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible.module_utils.parsing.convert_bool import boolean

ROOT = Path(__file__).resolve().parents[3]
INVENTORIES = sorted(path for path in (ROOT / "inventories").iterdir() if path.is_dir())


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_only_group_vars_differ(inventory: Path) -> None:
    assert (inventory / "hosts.yml").read_bytes() == (ROOT / "inventories/local/hosts.yml").read_bytes()
    assert {path.name for path in inventory.iterdir()} == {"hosts.yml", "group_vars"}


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_one_machine_is_in_both_groups(inventory: Path) -> None:
    groups = yaml.safe_load((inventory / "hosts.yml").read_text())
    assert groups["build_hosts"]["hosts"].keys() == groups["docker_hosts"]["hosts"].keys() == {"localhost"}


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_every_variable_is_known(inventory: Path) -> None:
    known = {"modelship_provision"}
    for specs in ROOT.glob("roles/*/meta/argument_specs.yml"):
        known |= yaml.safe_load(specs.read_text())["argument_specs"]["main"]["options"].keys()
    variables = yaml.safe_load((inventory / "group_vars/all/main.yml").read_text())
    own = {"_cluster", f"{inventory.name}_address"}
    assert variables.keys() - known - own == set()
    assert variables["modelship_environment"] == inventory.name


def refused(**variables: t.Any) -> str:
    """Return the message with which the role's guard refuses these variables, empty where it lets them pass."""
    defaults = yaml.safe_load((ROOT / "roles/modelship/defaults/main.yml").read_text())
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 - no HTML
    environment.filters["bool"] = boolean
    values = {**defaults, **variables}
    for task in yaml.safe_load((ROOT / "roles/modelship/tasks/guard.yml").read_text()):
        check = task["ansible.builtin.assert"]
        if not environment.compile_expression(check["that"])(values):
            return environment.from_string(check["fail_msg"]).render(values)
    return ""


KEYS = {"MODELSHIP_API_KEYS": "/etc/keys"}
TLS = {"secret": "tls"}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "must ask callers who they are"),
        ({"modelship_https": TLS}, "must ask callers who they are"),
        ({"modelship_tls_in_front": True}, "must ask callers who they are"),
        ({"modelship_container_environment": KEYS}, "keys and tokens in the clear"),
        ({"modelship_container_environment": {"MODELSHIP_JWT_JWKS": "https://x"}}, "keys and tokens in the clear"),
        ({"modelship_container_environment": KEYS, "modelship_https": TLS}, ""),
        ({"modelship_container_environment": KEYS, "modelship_tls_in_front": "true"}, ""),
        ({"modelship_https": {**TLS, "client_ca": True}}, ""),
        ({"modelship_guarded_environments": []}, ""),
        ({"modelship_environment": "local"}, ""),
    ],
)
def test_guarded_environments_ask_who_and_hide_the_answer(variables: dict[str, t.Any], message: str) -> None:
    told = refused(**{"modelship_environment": "production", **variables})
    assert (message in told) if message else not told


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_every_inventory_passes_the_guard(inventory: Path) -> None:
    assert not refused(**yaml.safe_load((inventory / "group_vars/all/main.yml").read_text()))
