"""Which names are secrets', what stands for them, and what may be masked wherever it stands."""

from __future__ import annotations

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.diff import Difference
from ansible_collections.modelship.core.plugins.module_utils._core.redaction import (
    fingerprint,
    is_secret_name,
    maskable,
    redact_mapping,
)


@pytest.mark.parametrize(
    "name",
    [
        *("TOKEN", "api_token", "accessToken", "HF_TOKEN", "token_file", "tokenSource", "API_TOKENS", "access-tokens"),
        *("DB_PASSWORD", "passphrase", "client-secret", "apiKey", "API_KEYS", "private_key", "Authorization"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "MAX_TOKENS",
        "max_new_tokens",
        "TOKENIZERS_PARALLELISM",
        "tokenizer",
        "TOKENISER",
        "tokens",
        "PASSENGERS",
        "MODE",
    ],
)
def test_names_of_what_is_none(name: str) -> None:
    assert not is_secret_name(name)


def test_what_is_short_a_number_or_told_anyway_is_not_masked_everywhere() -> None:
    values = [1, "true", True, None, "abcde", "80808080", "-3.1415926", "digits", "hunter2", 123456789012]
    assert maskable(values, ["registry/digits@sha256:0f", None]) == {"hunter2", "123456789012"}


def test_secrets_show_only_whether_they_changed() -> None:
    first = redact_mapping({"API_KEY": "s3cret", "LEVEL": "info"})
    assert first["LEVEL"] == "info"
    assert "s3cret" not in first["API_KEY"]
    assert first["API_KEY"] != redact_mapping({"API_KEY": "other"})["API_KEY"]


def test_a_diff_numbers_secrets_so_that_it_is_the_same_on_every_run() -> None:
    difference = Difference("it")
    difference.add(
        "a", {"K": fingerprint("one"), "S": fingerprint("same")}, {"K": fingerprint("two"), "S": fingerprint("same")}
    )
    difference.add_new("b", lambda: fingerprint("three"))
    found = difference.as_result()
    assert found["before"] == '{\n  "a": {\n    "K": "<redacted 1>",\n    "S": "<redacted 2>"\n  }\n}\n'
    assert '"K": "<redacted 3>",\n    "S": "<redacted 2>"' in found["after"]
    assert '"b": "<redacted 4>"' in found["after"]
