# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Challenges of ``WWW-Authenticate``: the ways of authentication that a server offers (RFC 9110 section 11.6.1)."""

from __future__ import annotations

import re
import typing as t

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's name
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,)|$)")
_TOKEN68 = re.compile(r"[0-9A-Za-z._~+/-]+=*(?=[ \t]*(?:,|$))")


class Challenge(t.NamedTuple):
    """One way of authentication.

    :param scheme: lower case, as ``basic`` or ``bearer``.
    :param parameters: names in lower case.
    """

    scheme: str
    parameters: dict[str, str]


def parse_challenges(values: t.Iterable[str]) -> list[Challenge]:
    """Return the challenges of the headers *values*, in their order: several in one header, and in several headers.

    What is malformed is skipped.
    """
    found: list[Challenge] = []
    for value in values:
        position = 0
        while position < len(value):
            if value[position] in " \t,":
                position += 1
                continue
            # "realm=" begins a parameter of the challenge before it, a name without "=" begins a challenge
            parameter = _PARAMETER.match(value, position)
            if parameter and found:
                name, quoted, plain = parameter.groups()
                text = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                found[-1].parameters.setdefault(name.lower(), text)
                position = parameter.end()
                continue
            scheme = _SCHEME.match(value, position)
            if not scheme:
                position = (value.find(",", position) + 1) or len(value)
                continue
            found.append(Challenge(scheme.group(1).lower(), {}))
            position = scheme.end()
            token = _TOKEN68.match(value, position)
            if token:
                position = token.end()
    return found
