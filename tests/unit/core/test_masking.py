"""Known secrets are masked in every text, however they are written there."""

from __future__ import annotations

import base64
import json
import time
import urllib.parse

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.diff import Difference
from ansible_collections.modelship.core.plugins.module_utils._core.masking import Mask, encodings

OLD = "p@ss/w0rd?ö"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    "written",
    [
        OLD,
        f"postgres://app:{OLD}@db/digits",
        f"postgres://app:{urllib.parse.quote(OLD, safe='')}@db/digits",
        f"postgres://app:{urllib.parse.quote(OLD, safe='').lower()}@db/digits",
        f"a=1&b={urllib.parse.quote_plus(OLD)}",
        f"x={OLD.replace('p', '%70', 1).replace('ö', '%C3%B6')}",
        b64(OLD),
        f"Basic {b64(f'app:{OLD}')}",
        f"prefix/{b64(f'ab{OLD}cd')}",
        f"prefix/{b64(f'abc{OLD}')}.",
        base64.urlsafe_b64encode(f"?{OLD}?".encode()).decode(),
        b64(json.dumps({"auths": {"r": {"password": OLD}}}, ensure_ascii=False)),
        base64.encodebytes(("x" * 50 + OLD + "y" * 50).encode()).decode(),
        json.dumps({"password": OLD}),
    ],
)
def test_a_secret_is_masked_in_every_spelling(written: str) -> None:
    text = Mask([OLD], hide=lambda _secret: "<it>").text(written)
    assert "<it>" in text
    for spelling in encodings(OLD):
        assert spelling not in text
    assert OLD not in urllib.parse.unquote_plus(text)


def test_what_is_around_a_secret_stays() -> None:
    mask = Mask(["hunter22"], hide=lambda _secret: "<it>")
    assert mask.text("postgres://app:hunter22@db/digits?x=1") == "postgres://app:<it>@db/digits?x=1"
    assert mask.text(f"user: ann, auth: {b64('ann:hunter22')}, level: info") == "user: ann, auth: <it>, level: info"
    assert mask.apply({"hunter22": ["a", 5, {"b": "hunter22"}]}) == {"<it>": ["a", 5, {"b": "<it>"}]}


def test_short_secrets_are_masked_only_where_they_stand_alone() -> None:
    mask = Mask(["info", "5", "true", "digits", 80], ["digits"], hide=lambda _secret: "<it>")
    assert mask.apply(["info", "information", "5", "15", "true", "digits", "digits-1", "80"]) == [
        *("<it>", "information", "5", "15", "true", "digits", "digits-1", "80")
    ]


def test_a_diff_masks_the_secrets_that_it_is_told_only_when_it_is_printed() -> None:
    asked = []

    def secrets() -> list[str]:
        asked.append(True)
        return ["hunter22"]

    difference = Difference("it")
    difference.conceal(secrets)
    difference.add("url", "postgres://app:hunter22@db", "postgres://app@db")
    difference.add_new("file", lambda: {"text": f"auth {b64('hunter22')}"})
    assert not asked
    found = difference.as_result()
    assert '"url": "postgres://app:<redacted 1>@db"' in found["before"]
    assert '"text": "auth <redacted 1>"' in found["after"]


def test_large_texts_take_no_time() -> None:
    text = "A" * 2_000_000
    begun = time.monotonic()
    Mask(["hunter22"]).text(text + b64("hunter22"))
    assert time.monotonic() - begun < 2
