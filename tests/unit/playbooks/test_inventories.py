"""Environments differ in their group_vars alone, and those set only what roles and playbooks know."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
INVENTORIES = sorted(path for path in (ROOT / "inventories").iterdir() if path.is_dir())


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_only_group_vars_differ(inventory: Path) -> None:
    assert (inventory / "hosts.yml").read_bytes() == (ROOT / "inventories/local/hosts.yml").read_bytes()
    assert {path.name for path in inventory.iterdir()} == {"hosts.yml", "group_vars"}


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda path: path.name)
def test_every_variable_is_known(inventory: Path) -> None:
    known = {"modelship_provision"}
    for specs in ROOT.glob("roles/*/meta/argument_specs.yml"):
        known |= yaml.safe_load(specs.read_text())["argument_specs"]["main"]["options"].keys()
    variables = yaml.safe_load((inventory / "group_vars/all/main.yml").read_text())
    own = {"_cluster", f"{inventory.name}_address"}
    assert variables.keys() - known - own == set()
    assert variables["modelship_environment"] == inventory.name
