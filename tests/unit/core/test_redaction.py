"""What stands for secrets, and what may be masked wherever it stands."""

from __future__ import annotations

from ansible_collections.modelship.core.plugins.module_utils._core.diff import Difference
from ansible_collections.modelship.core.plugins.module_utils._core.redaction import (
    fingerprint,
    maskable,
    redact_mapping,
)


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
