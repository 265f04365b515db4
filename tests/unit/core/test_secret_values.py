# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Secrets in values: every reader of values finds the same ones."""

from __future__ import annotations

import base64
import json
import time

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.secret_text import redacted_lines, without_secrets
from ansible_collections.modelship.core.plugins.module_utils._core.secret_values import (
    is_secret,
    passwords_in,
    secret_spans,
)
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.secrets import redacted, secrets_in

SECRET = "Hunter22x"

WITH_SECRET = [
    f"postgres://app:{SECRET}@db/digits",
    f"postgresql+psycopg2://app:a/{SECRET}@db/digits",
    f"postgres://app:a#{SECRET}@db/digits",
    f"app:{SECRET}@tcp(db:3306)/digits",
    f"jdbc:oracle:thin:scott/{SECRET}@//db:1521/x",
    f"jdbc:postgresql://db/digits?user=app&password={SECRET}",
    f"url: jdbc:postgresql://db/digits?user=app&password={SECRET}",
    f"hook: https://chat.example/hook?token={SECRET}",
    f"https://s3.example/x?X-Amz-Signature={SECRET}&x=1",
    f"https://hooks.slack.com/services/T0/B0/{SECRET}",
    f"app:{SECRET}@proxy.example:3128",
    f"host=db user=app password='{SECRET} and more'",
    f"api-key={SECRET},x=1",
    f"--password {SECRET}",
    f'["--api-key", "{SECRET}"]',
    json.dumps({"datasource": {"user": "app", "password": SECRET}}),
    json.dumps(json.dumps({"token": SECRET})),
    f"curl -H 'Authorization: Bearer {SECRET}' https://x",
    f"authorization=Basic {base64.b64encode(f'app:{SECRET}'.encode()).decode()}",
    f"a: 1\ndb:\n  password: correct horse {SECRET}\n",
    f"credentials:\n  - {SECRET}\nb: 2\n",
    f"- name: DB_PASSWORD\n  value: {SECRET}\n",
    f"<db><password>{SECRET}</password></db>",
    f'<add key="db.password" value="{SECRET}"/>',
    f"//registry.example.com/:_authToken={SECRET}\n",
    f"tls: |\n  -----BEGIN PRIVATE KEY-----\n  {SECRET}\n  -----END PRIVATE KEY-----\nb: 2\n",
    json.dumps({"auths": {"registry.example": {"auth": base64.b64encode(f"ci:{SECRET}".encode()).decode()}}}),
    "ghp_" + SECRET * 4,
    "glpat-" + SECRET * 3,
]


@pytest.mark.parametrize("text", WITH_SECRET)
def test_variables_options_files_and_objects_agree_on_the_secrets_in_a_value(text: str) -> None:
    assert is_secret("SETTINGS", text)
    assert any(SECRET in password for password in passwords_in(text))
    written = (SECRET, *(base64.b64encode(f"{user}:{SECRET}".encode()).decode() for user in ("app", "ci")))
    found: list[object] = []
    config_map = {"kind": "ConfigMap", "data": {"settings": text}}
    for shown in (
        str(without_secrets({"settings": text}, found)),
        "\n".join(redacted_lines(text)),
        str(redacted(config_map)),
    ):
        assert not any(each in shown for each in written)
    assert any(SECRET in str(each) for each in found)
    assert any(SECRET in each for each in secrets_in(config_map))
    assert len(redacted_lines(text)) == len(text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "token classification",
        "Token classification-model",
        "Basic authentication",
        "http://[::1]:5000/x@y",
        "https://registry.example:443/@scope/package",
        "registry.example:5000/digits@sha256:0f1e",
        "--max-tokens 500 --tokenizer /m/tokenizer",
        "--key-file /run/tls.key --token-file=/run/token.txt",
        '{"pad_token": "<pad>", "eos_token": "</s>", "max_tokens": 5}',
        "password: ${DB_PASSWORD}\ntoken: null\nallow_credentials: true\n",
        "password: '{{ vault_password }}'",
        "mailto:ann@example.com",
        "key: nvidia.com/gpu",
        "key=value",
    ],
)
def test_words_paths_and_references_are_no_secrets(text: str) -> None:
    assert secret_spans(text) == []
    assert without_secrets(text, []) == text
    assert redacted_lines(text) == text.splitlines()
    assert redacted({"x": text}) == {"x": text}


def test_what_is_around_a_secret_stays_readable() -> None:
    found: list[object] = []
    assert without_secrets("url=jdbc:postgresql://db/x?password=hunter22&ssl=true", found) == (
        "url=jdbc:postgresql://db/x?password=VALUE_SPECIFIED_IN_NO_LOG_PARAMETER&ssl=true"
    )
    assert found == ["hunter22"]


def test_arguments_after_a_secret_option_are_hidden_in_lists() -> None:
    found: list[object] = []
    shown = without_secrets({"command": ["serve", "--api-key", "hunter22", "--port", "80"]}, found)
    assert shown == {"command": ["serve", "--api-key", "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER", "--port", "80"]}
    assert found == ["hunter22"]
    assert without_secrets([{"name": "API_TOKEN", "value": "hunter22"}], []) == [
        {"name": "API_TOKEN", "value": "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"}
    ]


@pytest.mark.parametrize(
    "text",
    [
        "://a:" * 50_000,
        "://a:b " * 40_000,
        'a="' * 80_000,
        "A" * 300_000,
        "a" + " " * 300_000,
        "-----BEGIN PRIVATE KEY-----" * 9_000,
    ],
    ids=["urls", "users", "quotes", "letters", "blanks", "keys"],
)
def test_no_text_takes_long(text: str) -> None:
    begun = time.monotonic()
    secret_spans(text)
    assert time.monotonic() - begun < 5
