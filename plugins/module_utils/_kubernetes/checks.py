# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judging names, paths and numbers before the API server has to; every error names the option."""

from __future__ import annotations

import re
import typing as t

from .._core.errors import ModelshipError
from .._core.values import texts

_QUALIFIED = re.compile(r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_INTERVAL = re.compile(r"(\d+(ms|s|m|h|d|w|y))+")
_PERCENT = re.compile(r"100%|\d{1,2}%")
#: Set by the module itself.
_RESERVED = re.compile(r"modelship\.io/.*|app\.kubernetes\.io/(name|instance|managed-by|component)")


def label_texts(given: t.Mapping[str, t.Any], option: str, *, own: bool = False) -> dict[str, str]:
    """Return labels as text.

    :param own: they go where the module sets labels itself, which they may not replace.
    :raises ModelshipError: one of them can be no label.
    """
    found = texts(given, option)
    for name, value in found.items():
        if not _QUALIFIED.fullmatch(name):
            raise ModelshipError(
                f"{option}: '{name}' can be no label's name: write [domain/]name, the name 63 letters at most"
            )
        if not _LABEL_VALUE.fullmatch(value):
            raise ModelshipError(
                f"{option}: '{value}' can be no value of label {name}: letters, digits, '-', '_' and '.', 63 at most"
            )
        if own:
            _unreserved(name, option)
    return found


def annotation_texts(given: t.Mapping[str, t.Any], option: str) -> dict[str, str]:
    """Return annotations as text.

    :raises ModelshipError: one of them can be no annotation, or is the module's.
    """
    found = texts(given, option)
    for name in found:
        if not _QUALIFIED.fullmatch(name):
            raise ModelshipError(f"{option}: '{name}' can be no annotation's name: write [domain/]name")
        _unreserved(name, option)
    return found


def dns_label(name: str, option: str, longest: int = 63) -> str:
    """Return *name* if it is a DNS label of at most *longest* characters.

    :raises ModelshipError: it is not.
    """
    if not _DNS_LABEL.fullmatch(name) or len(name) > longest:
        raise ModelshipError(
            f"{option} '{name}' is refused: lower-case letters, digits and '-' inside, {longest} characters at most"
        )
    return name


def mount_path(path: str, option: str) -> str:
    """Return *path*, without a last slash, if something can be mounted there.

    :raises ModelshipError: it is not absolute, is ``/``, or has ``..`` or a colon, which the kubelet refuses.
    """
    if not path.startswith("/") or not path.strip("/") or ":" in path or ".." in path.split("/"):
        raise ModelshipError(f"{option}: '{path}' can be no mount: give an absolute path without '..' and ':'")
    return path.rstrip("/")


def url_path(path: str, option: str) -> str:
    """Return *path* if it begins with a slash.

    :raises ModelshipError: it does not.
    """
    if not path.startswith("/"):
        raise ModelshipError(f"{option} '{path}' must begin with /")
    return path


def interval(text: str | None, option: str) -> str | None:
    """Return Prometheus' duration *text*.

    :raises ModelshipError: it is none.
    """
    if text is not None and not _INTERVAL.fullmatch(text):
        raise ModelshipError(f"{option} '{text}' is no duration: write 30s or 1m")
    return text


def within(value: int, option: str, least: int, most: int | None = None) -> int:
    """Return *value* if it is from *least* to *most*.

    :raises ModelshipError: it is not.
    """
    if value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"{least} to {most}"
        raise ModelshipError(f"{option} {value} is refused: it must be {bounds}")
    return value


def number(value: str | int, option: str) -> int | str:
    """Return a whole number, or a percentage as text, as the API's IntOrString wants them.

    :raises ModelshipError: it is neither.
    """
    text = str(value)
    if text.isascii() and text.isdecimal():
        return int(text)
    if _PERCENT.fullmatch(text):
        return f"{int(text[:-1])}%"
    raise ModelshipError(f"{option} '{value}' is neither a whole number nor a percentage such as 25%")


def cores(cpus: float | None, option: str) -> float | None:
    """Return *cpus*.

    :raises ModelshipError: it is less than the thousandth of a core that the API server can tell.
    """
    if cpus is not None and round(cpus * 1000) < 1:
        raise ModelshipError(f"{option} {cpus} is refused: it must be at least 0.001")
    return cpus


def _unreserved(name: str, option: str) -> None:
    if _RESERVED.fullmatch(name):
        raise ModelshipError(f"{option}: '{name}' is set by the module itself: leave it out")
