# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Duplicate keys in YAML and JSON files, of which the parsers silently take the last."""

from __future__ import annotations

import typing as t


class DuplicateKeyError(ValueError):
    """A mapping holds a key twice; the text names the key, and its lines where they are known."""


def refuse_duplicate_keys(root: t.Any) -> None:
    """Refuse a YAML mapping that holds a key twice.

    What a merge (``<<``) brings in may be overridden: only keys that stand in the same mapping count.

    :param root: root node of a document composed by PyYAML, or ``None`` of an empty one.
    :raises DuplicateKeyError: a key appears twice; the text names both lines, and no value.
    """
    nodes, seen = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in seen or not isinstance(getattr(node, "value", None), list):
            continue
        seen.add(id(node))
        lines: dict[tuple[str, str], int] = {}
        for item in node.value:
            if not isinstance(item, tuple):  # of a sequence
                nodes.append(item)
                continue
            nodes += item
            key = item[0]
            if not isinstance(key.value, str):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise DuplicateKeyError(
                    f"the key '{key.value}' appears twice, in line {lines[name]} and in line {line}"
                )
            lines[name] = line


def unique_object(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    """Return a JSON object as a dict; for ``object_pairs_hook`` of :func:`json.loads`.

    :raises DuplicateKeyError: a key appears twice.
    """
    found: dict[str, t.Any] = {}
    for name, value in pairs:
        if name in found:
            raise DuplicateKeyError(f"the key '{name}' appears twice in one object")
        found[name] = value
    return found
