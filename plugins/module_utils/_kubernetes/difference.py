# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Before and after of an object for people: no secret, no server's default, nothing that is neither declared nor changed."""

from __future__ import annotations

import re
import typing as t

from .managed import comparable
from .objects import APPLIED, Object
from .secrets import redacted

#: Fields that tell elements of a list apart, the first that all elements have.
_ELEMENT_KEYS = ("name", "mountPath", "containerPort", "port", "key", "ip", "host", "path", "topologyKey", "type")
#: A variable's value that comes from another ConfigMap or Secret than before.
_REFERENCE = re.compile(r"(\.env)\[[^]]*\]\.valueFrom\.\w+KeyRef\.name$")


class _Absent:
    """Stands for a value that is not there, as ``None`` is one."""


_ABSENT = _Absent()


def shown(declared: Object, before: Object | None, after: Object | None) -> tuple[Object | None, Object | None]:
    """Return *before* and *after* as they are shown: redacted, and only what is declared or differs.

    What the server adds to *after* by itself (a default that was not there and is not declared) is left out.

    :param before: the live object, ``None`` where there is none.
    :param after: what it becomes, ``None`` where it goes away.
    """
    wanted = _without_digest(redacted(declared))
    if before is None or after is None:
        there = before if after is None else after
        if there is None:
            return None, None
        only = _restricted(wanted, redacted(there))
        return (only, None) if after is None else (None, only)
    was, becomes = redacted(comparable(before)), redacted(comparable(after))
    old, new = _pair(wanted, _without_digest(was), _without_digest(becomes))
    if old == new:  # applied anew, with the same effect: the digest is all that changes
        old, new = _pair(wanted, was, becomes)
    return old, new


def changed_paths(before: t.Any, after: t.Any, path: str = "") -> list[str]:
    """Return the paths at which *before* and *after* differ (``spec.template.spec.containers[web].image``)."""
    if isinstance(before, dict) and isinstance(after, dict):
        found: list[str] = []
        for name in sorted({*before, *after}):
            inner = f"{path}.{name}" if path else name
            found += changed_paths(before.get(name, _ABSENT), after.get(name, _ABSENT), inner)
        return found
    if isinstance(before, list) and isinstance(after, list) and (key := _element_key(before, after)):
        old, new = _by_key(before, key), _by_key(after, key)
        found = []
        for name in {**old, **new}:
            found += changed_paths(old.get(name, _ABSENT), new.get(name, _ABSENT), f"{path}[{name}]")
        return found
    return [] if before == after else [path]


def told(paths: t.Iterable[str]) -> list[str]:
    """Return *paths* for a message: without our own marks, and variables that only come from another object as one."""
    shorter = (_REFERENCE.sub(r"\1", path) for path in paths if ".modelship.io/" not in path)
    return list(dict.fromkeys(shorter))


def overlaid(live: t.Any, declared: t.Any) -> t.Any:
    """Return *live* with what is *declared*: what is to be expected where the server could not be asked."""
    if isinstance(live, dict) and isinstance(declared, dict):
        return {**live, **{name: overlaid(live.get(name), value) for name, value in declared.items()}}
    return declared


def _without_digest(obj: Object) -> Object:
    metadata = obj.get("metadata") or {}
    if APPLIED not in (metadata.get("annotations") or {}):
        return obj
    rest = {name: value for name, value in metadata["annotations"].items() if name != APPLIED}
    others = {name: value for name, value in metadata.items() if name != "annotations"}
    return {**obj, "metadata": {**others, "annotations": rest} if rest else others}


def _pair(declared: t.Any, before: t.Any, after: t.Any) -> tuple[t.Any, t.Any]:
    if isinstance(before, dict) and isinstance(after, dict):
        return _pair_dicts(declared if isinstance(declared, dict) else {}, before, after)
    if isinstance(before, list) and isinstance(after, list):
        return _pair_lists(declared if isinstance(declared, list) else [], before, after)
    return before, after


def _pair_dicts(declared: dict[str, t.Any], before: dict[str, t.Any], after: dict[str, t.Any]) -> tuple[t.Any, t.Any]:
    old, new = {}, {}
    for name in {**before, **after}:
        want, was, becomes = (part.get(name, _ABSENT) for part in (declared, before, after))
        if becomes is _ABSENT:
            old[name] = was
        elif was is _ABSENT:
            if want is not _ABSENT:
                new[name] = _restricted(want, becomes)
        elif was != becomes:
            old[name], new[name] = _pair(want, was, becomes)
        elif want is not _ABSENT:
            old[name] = new[name] = _restricted(want, was)
    return old, new


def _pair_lists(declared: list[t.Any], before: list[t.Any], after: list[t.Any]) -> tuple[t.Any, t.Any]:
    if key := _element_key(before, after, declared):
        want, was, becomes = (_by_key(part, key) for part in (declared, before, after))
        old, new = _pair_dicts(want, was, becomes)
        return list(old.values()), list(new.values())
    if len(before) == len(after) == len(declared):
        pairs = [_pair(*three) for three in zip(declared, before, after, strict=True)]
        return [one for one, _other in pairs], [other for _one, other in pairs]
    return before, _restricted(declared, after)


def _restricted(declared: t.Any, value: t.Any) -> t.Any:
    """Return *value* with only the paths that *declared* has too."""
    if isinstance(declared, dict) and isinstance(value, dict):
        return {name: _restricted(declared[name], item) for name, item in value.items() if name in declared}
    if isinstance(declared, list) and isinstance(value, list):
        if key := _element_key(declared, value):
            wanted = _by_key(declared, key)
            return [_restricted(wanted[item[key]], item) for item in value if item[key] in wanted]
        if len(declared) == len(value):
            return [_restricted(one, other) for one, other in zip(declared, value, strict=True)]
    return value


def _element_key(*lists: list[t.Any]) -> str | None:
    """Return the field by which the elements of all *lists* can be told apart; ``None`` where there is none."""
    elements = [item for part in lists for item in part]
    if not elements or not all(isinstance(item, dict) for item in elements):
        return None
    for key in _ELEMENT_KEYS:
        if not all(isinstance(item.get(key), str | int) for item in elements):
            continue
        if all(len({item[key] for item in part}) == len(part) for part in lists):
            return key
    return None


def _by_key(elements: list[t.Any], key: str) -> dict[t.Any, t.Any]:
    return {item[key]: item for item in elements}
