"""Options that hold secrets beside what is none."""

from __future__ import annotations

from ansible_collections.modelship.core.plugins.module_utils._core.discretion import conceal
from ansible_collections.modelship.core.plugins.module_utils._core.redaction import HIDDEN
from ansible_collections.modelship.core.plugins.module_utils._core.secret_names import is_secret_name


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
