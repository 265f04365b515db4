# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Masking of known secrets wherever they stand in texts: as they are, percent-encoded, or within base64."""

from __future__ import annotations

import base64
import json
import re
import string
import typing as t
import urllib.parse

from .redaction import fingerprint, maskable

#: A text that is nothing but a secret is masked from so many characters on.
_LEAST_WHOLE = 4
_BASE64 = frozenset(string.ascii_letters + string.digits + "+/_-")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
#: Two values of a shell or of YAML are no secret, whatever variable has them.
_COMMON = frozenset(("true", "false", "none", "null"))


class Mask:
    """Stand-ins for *values* in texts.

    :param told: texts that are shown anyway: what is a part of them is masked only where it is the whole text.
    :param hide: returns the stand-in of a secret.
    """

    def __init__(
        self, values: t.Iterable[t.Any], told: t.Iterable[t.Any] = (), hide: t.Callable[[str], str] = fingerprint
    ) -> None:
        texts = {str(value) for value in values if value is not None and not isinstance(value, bool)}
        self._hide = hide
        self._whole = {text for text in texts if len(text) >= _LEAST_WHOLE and text.lower() not in _COMMON}
        self._whole -= {str(item) for item in told}
        inside = sorted(maskable(texts, told), key=len, reverse=True)
        #: a secret and the ways to write it, the longest first
        self._spellings = [(text, sorted(spellings(text), key=len, reverse=True)) for text in inside]
        self._fragments = [
            (text, fragment) for text, written in self._spellings for each in written for fragment in _fragments(each)
        ]

    def __bool__(self) -> bool:
        return bool(self._whole or self._spellings)

    def text(self, text: str) -> str:
        """Return *text* with stand-ins for the secrets in it."""
        if text in self._whole:
            return self._hide(text)
        for secret, written in self._spellings:
            for each in written:
                if each in text:
                    text = text.replace(each, self._hide(secret))
        for secret, fragment in self._fragments:
            if fragment in text:
                text = _without_base64(text, fragment, self._hide(secret))
        return self._hide(text) if self._is_left(text) else text

    def apply(self, value: t.Any) -> t.Any:
        """Return a copy of *value* (texts, lists, dicts and their names) with stand-ins for the secrets in it."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.apply(name): self.apply(item) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.apply(item) for item in value]
        return value

    def _is_left(self, text: str) -> bool:
        """Tell whether a secret is still to be read: percent-encoded otherwise than usual, or in base64 of several lines."""
        if "%" in text:
            decoded = urllib.parse.unquote_plus(text)
            if any(secret in decoded for secret, _written in self._spellings):
                return True
        if "\n" in text:
            joined = "".join(text.split())
            return any(fragment in joined for _secret, fragment in self._fragments)
        return False


def spellings(secret: str) -> set[str]:
    """Return *secret* as it is, percent-encoded as URLs and forms have it, and escaped as in JSON."""
    quoted = {urllib.parse.quote(secret, safe=safe) for safe in ("", "/", "/:@!$&'()*+,;=~")}
    quoted.add(urllib.parse.quote_plus(secret))
    lower = {_ESCAPE.sub(lambda match: match[0].lower(), text) for text in quoted}
    return {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], *quoted, *lower}


def encodings(secret: str) -> set[str]:
    """Return :func:`spellings` of *secret*, and itself alone in base64, with and without padding."""
    data = secret.encode("utf-8", "surrogateescape")
    encoded = {base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()}
    return spellings(secret) | encoded | {text.rstrip("=") for text in encoded}


def _without_base64(text: str, fragment: str, instead: str) -> str:
    """Return *text* with *instead* for every base64 text in it that contains *fragment*."""
    parts, rest = [], 0
    while (found := text.find(fragment, rest)) >= 0:
        begin, end = found, found + len(fragment)
        while begin > rest and text[begin - 1] in _BASE64:
            begin -= 1
        while end < len(text) and text[end] in _BASE64:
            end += 1
        while end < len(text) and text[end] == "=":
            end += 1
        parts += [text[rest:begin], instead]
        rest = end
    return "".join([*parts, text[rest:]])


def _fragments(text: str) -> set[str]:
    """Return what base64 of anything that contains *text* contains: one of three pieces, by where *text* begins."""
    data, found = text.encode("utf-8", "surrogateescape"), set()
    for before, skipped in ((0, 0), (1, 2), (2, 3)):
        end = (before + len(data)) * 8 // 6  # the bits of what follows are in the character after
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(bytes(before) + data).decode()[skipped:end])
    return found
