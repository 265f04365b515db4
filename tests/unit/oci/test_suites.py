"""Which suite is the default, and when its support has ended."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._oci.suites import (
    default_suite,
    known_suites,
    stable_suites,
    support_warning,
)

BUILT_IN = known_suites("/nonexistent")


def day(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


@pytest.mark.parametrize(
    ("today", "stable"),
    [("2025-08-08", ["bookworm", "bullseye"]), ("2025-08-09", ["trixie", "bookworm", "bullseye"])],
)
def test_the_newest_released_suite_is_the_current_stable(today: str, stable: list[str]) -> None:
    assert stable_suites(BUILT_IN, day(today)) == stable


@pytest.mark.parametrize(
    ("named", "offered", "host", "chosen"),
    [
        (["bookworm", "trixie"], [], "bookworm", "trixie"),
        (["bookworm"], ["trixie"], "bookworm", "trixie"),
        (["bookworm"], [], "bookworm", "bookworm"),
        (["bullseye", "bookworm"], [], "bullseye", "bookworm"),
        (["noble"], ["trixie"], "noble", "noble"),
    ],
)
def test_the_default_is_the_newest_that_the_sources_offer(
    named: list[str], offered: list[str], host: str, chosen: str
) -> None:
    assert default_suite(["trixie", "bookworm", "bullseye"], named, offered.__contains__, host) == chosen


def test_sources_without_a_stable_suite_are_named() -> None:
    with pytest.raises(ModelshipError, match=r"\(they name sid\): set base\.bootstrap\.suite"):
        default_suite(["trixie", "bookworm"], ["sid"], lambda _name: True, "sid-host")


@pytest.mark.parametrize(
    ("suite", "today", "said"),
    [
        ("bookworm", "2026-07-11", ""),
        (
            "bookworm",
            "2026-07-12",
            r"Debian 12 \(bookworm\) has been out of .* since 2026-07-11 \(long-term support .* 2028-06-30\)",
        ),
        ("bookworm", "2028-07-01", r"Debian 12 \(bookworm\) gets no security updates since 2028-06-30"),
        ("trixie", "2026-11-29", ""),
        ("sid", "2026-11-29", ""),
    ],
)
def test_the_end_of_support_is_warned_of(suite: str, today: str, said: str) -> None:
    warning = support_warning(suite, BUILT_IN, day(today))
    assert bool(warning) == bool(said)
    if said:
        assert re.search(said, warning), warning


def test_distro_info_adds_suites_and_corrects_dates(tmp_path: Path) -> None:
    (tmp_path / "debian.csv").write_text(
        "version,codename,series,created,release,eol,eol-lts,eol-elts\n"
        "13,Trixie,trixie,2023-06-10,2025-08-09,2028-08-30,2030-06-30,2035-06-30\n"
        "14,Forky,forky,2025-08-09,2027-07-01,2030-07-01,2032-07-01\n"
        "15,Duke,duke,2027-08-01\n"
    )
    (tmp_path / "ubuntu.csv").write_text(
        "version,codename,series,created,release,eol,eol-server\n"
        "24.10,Oracular Oriole,oracular,2024-04-25,2024-10-10,2025-07-10\n"
    )
    suites = known_suites(str(tmp_path))
    assert suites["trixie"].support_ends == day("2028-08-30")
    assert suites["bookworm"] == BUILT_IN["bookworm"]
    assert stable_suites(suites, day("2027-07-01"))[0] == "forky"
    assert "duke" not in suites
    assert "Ubuntu 24.10 (oracular) gets no security updates since 2025-07-10" in support_warning(
        "oracular", suites, day("2026-11-29")
    )
