"""Requests of roles and playbooks to this host's own services: no proxy has a part in them, nor sees what they send."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]


def requests_of(value: t.Any) -> t.Iterator[dict[str, t.Any]]:
    """Yield the options of all tasks of C(ansible.builtin.uri) in *value*."""
    if isinstance(value, dict):
        if isinstance(value.get("ansible.builtin.uri"), dict):
            yield value["ansible.builtin.uri"]
        for each in value.values():
            yield from requests_of(each)
    elif isinstance(value, list):
        for each in value:
            yield from requests_of(each)


FILES = [path for folder in ("roles", "playbooks") for path in sorted((ROOT / folder).rglob("*.yml"))]
OVER_SOCKETS = [
    (path.relative_to(ROOT), options)
    for path in FILES
    for options in requests_of(yaml.safe_load(path.read_text()))
    if "unix_socket" in options
]


@pytest.mark.parametrize(
    ("path", "options"), OVER_SOCKETS, ids=lambda value: str(value) if isinstance(value, Path) else ""
)
def test_requests_over_a_unix_socket_do_not_carry_a_proxys_password(path: Path, options: dict[str, t.Any]) -> None:
    """C(uri) sends the URL and the password that are meant for the proxy over the socket otherwise."""
    assert options.get("use_proxy") is False


def test_there_are_such_requests() -> None:
    assert OVER_SOCKETS
