"""Secrets in options, command lines and configuration files."""

from __future__ import annotations

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.redaction import HIDDEN
from ansible_collections.modelship.core.plugins.module_utils._core.secret_text import redacted_lines, without_secrets


def test_named_secrets_are_hidden_at_any_depth_and_the_rest_is_shown() -> None:
    found: list[object] = []
    options = {
        "docker": {"build_args": {"NPM_TOKEN": "npm_12345", "VERSION": "1.2"}, "context": "/src"},
        "headers": [{"X-Api-Key": "hunter22"}],
        "parameters": {"epochs": 2, "password": None},
    }
    shown = without_secrets(options, found)
    assert shown == {
        "docker": {"build_args": {"NPM_TOKEN": HIDDEN, "VERSION": "1.2"}, "context": "/src"},
        "headers": [{"X-Api-Key": HIDDEN}],
        "parameters": {"epochs": 2, "password": None},
    }
    assert found == ["npm_12345", "hunter22"]
    assert options["docker"]["build_args"]["NPM_TOKEN"] == "npm_12345"


def test_everything_below_a_secret_name_is_hidden() -> None:
    shown = without_secrets({"credentials": {"a": "one", "b": ["two", 3]}}, [])
    assert shown == {"credentials": {"a": HIDDEN, "b": [HIDDEN, HIDDEN]}}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ci:hunter22@index/simple", f"https://ci:{HIDDEN}@index/simple"),
        ("--index-url https://ci:hunter22@index\nnumpy==1", f"--index-url https://ci:{HIDDEN}@index\nnumpy==1"),
        ("--password=hunter22", f"--password={HIDDEN}"),
        ("X-Api-Key: hunter22", f"X-Api-Key: {HIDDEN}"),
        ("A=1,DB_PASSWORD=hunter22", f"A=1,DB_PASSWORD={HIDDEN}"),
        ("http://127.0.0.1:5000/v2", "http://127.0.0.1:5000/v2"),
        ("ssh://git@host:22/x", "ssh://git@host:22/x"),
        ("MAX_TOKENS=5", "MAX_TOKENS=5"),
    ],
)
def test_texts_are_shown_without_secrets(text: str, shown: str) -> None:
    found: list[object] = []
    assert without_secrets({"x": text}, found) == {"x": shown}
    assert set(found) == ({"hunter22"} if "hunter22" in text else set())


def test_a_private_key_is_hidden_whatever_it_is_called() -> None:
    found: list[object] = []
    key = "-----BEGIN PRIVATE KEY-----\nhunter22\n-----END PRIVATE KEY-----\n"
    assert without_secrets({"x": key, "y": "-----BEGIN CERTIFICATE-----\nQQ==\n"}, found) == {
        "x": HIDDEN,
        "y": "-----BEGIN CERTIFICATE-----\nQQ==\n",
    }
    assert key in found
    assert "hunter22" in found
    assert not any(text.startswith("-----END") for text in found if isinstance(text, str))


CONFIG = """\
log: {level: warn}
http:
  addr: 127.0.0.1:5001
  secret: hunter22
storage: {s3: {region: eu, secretkey: "hunter22"}}
remote: http://ci:hunter22@host/x
client:
  username: ci
  password: correct horse hunter22
tls_key_password: |
  hunter22
  hunter22
delete: {enabled: true}
password = hunter22
"""


def test_a_configuration_file_is_shown_without_its_secrets() -> None:
    lines = redacted_lines(CONFIG)
    text = "\n".join(lines)
    assert "hunter22" not in text
    assert "horse" not in text
    for kept in ("log: {level: warn}", "  addr: 127.0.0.1:5001", "  username: ci", "delete: {enabled: true}"):
        assert kept in lines
    assert 'storage: {s3: {region: eu, secretkey: "<redacted ' in text
    assert len(lines) == len(CONFIG.splitlines())


def test_a_changed_secret_shows_only_that_it_changed() -> None:
    first, again, other = (redacted_lines(f"password: {value}") for value in ("hunter22", "hunter22", "hunter23"))
    assert first == again
    assert first != other
