# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences in the shape that ``ansible-playbook --diff`` prints."""

from __future__ import annotations

import json
import typing as t

from .redaction import numbered


class Difference:
    """Collects named before/after pairs; what is equal on both sides is left out of the printed diff."""

    def __init__(self, header: str) -> None:
        self._header = header
        self._before: dict[str, t.Any] = {}
        self._after: dict[str, t.Any] = {}
        self._later: dict[str, t.Callable[[], t.Any]] = {}
        self._secrets: list[t.Callable[[], t.Iterable[t.Any]]] = []
        self._told: list[str] = []

    def add(self, name: str, before: t.Any, after: t.Any) -> None:
        """Record that *name* goes from *before* to *after*; ``None`` means absent."""
        if before != after:
            if before is not None:
                self._before[name] = before
            if after is not None:
                self._after[name] = after

    def add_new(self, name: str, after: t.Callable[[], t.Any]) -> None:
        """Record that *name* is new; what *after* returns is asked for only if the diff is printed."""
        self._later[name] = after

    def conceal(self, secrets: t.Callable[[], t.Iterable[t.Any]], told: t.Iterable[str] = ()) -> None:
        """Mask what *secrets* returns wherever it stands in the printed diff; it is called only if that is printed.

        :param told: texts that are shown anyway; see :class:`.masking.Mask`.
        """
        self._secrets.append(secrets)
        self._told += told

    def drop(self, name: str) -> None:
        """Forget *name*, which does not change after all."""
        for part in (self._before, self._after, self._later):
            part.pop(name, None)

    def __bool__(self) -> bool:
        return bool(self._before or self._after or self._later)

    @property
    def names(self) -> list[str]:
        """The names that differ, sorted."""
        return sorted(self._before.keys() | self._after.keys() | self._later.keys())

    def as_result(self) -> dict[str, str]:
        """Return the dict that a module returns as ``diff``; secrets that are equal have the same number."""
        from .masking import Mask  # most diffs are never printed, and a module is compiled anew in every task

        old, new = self._before, {**self._after, **{name: after() for name, after in self._later.items()}}
        if mask := Mask([value for secrets in self._secrets for value in secrets()], self._told):
            old, new = mask.apply(old), mask.apply(new)
        before, after = numbered(_text(old), _text(new))
        return {"before_header": self._header, "after_header": self._header, "before": before, "after": after}


def _text(values: dict[str, t.Any]) -> str:
    if not values:
        return ""
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
