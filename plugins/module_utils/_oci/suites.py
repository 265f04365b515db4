# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Suites of Debian and Ubuntu: which one is the current stable, and until when it gets security updates."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import datetime
import os
import typing as t

from .._core.errors import ModelshipError


@dataclasses.dataclass(frozen=True)
class Suite:
    """One suite of a distribution.

    :param title: as ``Debian 13 (trixie)``.
    :param support_ends: last day of the distribution's own security support.
    :param lts_ends: last day of long-term support; equal to *support_ends* where there is none.
    """

    name: str
    title: str
    released: datetime.date
    support_ends: datetime.date
    lts_ends: datetime.date


def _debian(name: str, version: int, released: str, support_ends: str, lts_ends: str) -> Suite:
    days = [datetime.date.fromisoformat(day) for day in (released, support_ends, lts_ends)]
    return Suite(name, f"Debian {version} ({name})", *days)


#: Used where the host does not have the package distro-info-data, from which these dates are.
_KNOWN = (
    _debian("bullseye", 11, "2021-08-14", "2024-08-14", "2026-08-31"),
    _debian("bookworm", 12, "2023-06-10", "2026-07-11", "2028-06-30"),
    _debian("trixie", 13, "2025-08-09", "2028-08-09", "2030-06-30"),
)
#: Where the package distro-info-data has the dates of all suites.
DISTRO_INFO = "/usr/share/distro-info"


def known_suites(distro_info: str = DISTRO_INFO) -> dict[str, Suite]:
    """Return the released suites by name: the built-in ones, and what the host's distro-info-data knows beside and better."""
    suites = {suite.name: suite for suite in _KNOWN}
    for distribution in ("Debian", "Ubuntu"):
        path = os.path.join(distro_info, distribution.lower() + ".csv")
        with contextlib.suppress(OSError, csv.Error), open(path, encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                with contextlib.suppress(KeyError, TypeError, ValueError):
                    released, ends = (datetime.date.fromisoformat(row[column]) for column in ("release", "eol"))
                    lts = datetime.date.fromisoformat(row["eol-lts"]) if row.get("eol-lts") else ends
                    title = f"{distribution} {row['version']} ({row['series']})"
                    suites[row["series"]] = Suite(row["series"], title, released, ends, max(ends, lts))
    return suites


def stable_suites(suites: t.Mapping[str, Suite], today: datetime.date) -> list[str]:
    """Return the names of Debian's stable suites on the day *today*, the current one first."""
    released = [suite for suite in suites.values() if suite.title.startswith("Debian ") and suite.released <= today]
    return [suite.name for suite in sorted(released, key=lambda suite: suite.released, reverse=True)]


def default_suite(
    stable: t.Sequence[str], named: t.Sequence[str], offers: t.Callable[[str], bool], host: str = ""
) -> str:
    """Return the newest of the suites *stable* that the apt sources have.

    :param stable: as :func:`stable_suites` returns them.
    :param named: the suites that the sources name. A mirror that they name may offer a newer one too.
    :param offers: tells whether the mirror of the sources offers a suite that they do not name.
    :param host: the host's own suite, used where the sources name none of Debian's, as on Ubuntu.
    :raises ModelshipError: there is none.
    """
    if not set(stable) & set(named):
        if host and host in named:
            return host
        raise ModelshipError(
            f"the apt sources name no stable suite of Debian (they name {', '.join(sorted(named)) or 'none'}): set "
            "base.bootstrap.suite, and base.bootstrap.mirror where the sources do not have it",
            kind="package",
        )
    for suite in stable:
        if suite in named or offers(suite):
            return suite
    raise AssertionError


def support_warning(suite: str, suites: t.Mapping[str, Suite], today: datetime.date) -> str:
    """Return a warning about *suite* where its security support has ended on the day *today*, else nothing."""
    known = suites.get(suite)
    if known is None or today <= known.support_ends:
        return ""
    if today <= known.lts_ends:
        return (
            f"{known.title} has been out of Debian's regular security support since {known.support_ends} (long-term support "
            f"covers a part of its packages until {known.lts_ends}): set base.bootstrap.suite to a newer one"
        )
    return f"{known.title} gets no security updates since {known.lts_ends}: set base.bootstrap.suite to a newer one"
