# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fields of other managers that make a declared object invalid, though it does not declare them.

Server-side apply merges lists by keys and structures field by field: a Service that others gave a port C(http) with another
number has two ports of that name once ours is applied, a volume of another type has two types. The server then reports a wrong
value, not a conflict of managers. Taking such a field over makes us its only manager, so that the next apply removes it.
"""

from __future__ import annotations

import copy
import json
import re
import typing as t

from .._core.errors import ModelshipError
from .errors import ApiError
from .managed import comparable
from .objects import MANAGER, Object
from .refusal import short_reason

if t.TYPE_CHECKING:
    from .client import Api

Fields = dict[str, t.Any]
#: Names and keys in the notation FieldsV1, from the object's root: C(("f:spec", "f:ports", 'k:{"port":80}')).
Path = tuple[str, ...]

_STEP = re.compile(r"([^.\[\]]+)|\[([^\]]*)\]")
#: Two things that a structure cannot have together.
_EXCLUSIVE = re.compile(
    r"more than (1|one) |may not be (specified|set|used) (when|with|together)|cannot (both )?be (both )?set|mutually exclusive|"
    r"only one of|exactly one of|must not be (specified|set) when|cannot set both|duplicate of key present in|"
    r"less than or equal to \S+ limit",
    re.I,
)
#: A field in a message.
_NAMED = re.compile(r"`(\w+)`")
_HANDLERS = frozenset(("exec", "grpc", "httpGet", "sleep", "tcpSocket"))
_FINAL = re.compile(r"immutable|may not change|updates to .* forbidden", re.I)
_DUPLICATE = "FieldValueDuplicate"


class Blocking(t.NamedTuple):
    """A field that *managers* own, which cannot stand beside what is declared.

    :param path: where it is.
    :param why: what the server says, with the field that it names.
    """

    path: Path
    managers: tuple[str, ...]
    why: str

    @property
    def field(self) -> str:
        """The path as the server writes it: C(spec.ports[port=8080,protocol="TCP"])."""
        text = ""
        for step in self.path:
            if step.startswith("k:"):
                text += f"[{','.join(f'{name}={json.dumps(value)}' for name, value in json.loads(step[2:]).items())}]"
            else:
                text += f".{step[2:]}"
        return text.lstrip(".")


def blocking_fields(
    error: ModelshipError, declared: Object, live: Object | None
) -> tuple[list[Blocking], ModelshipError | None]:
    """Return the fields of other managers of *live* because of which the server refused to apply *declared*.

    :param error: the server's refusal.
    :returns: the fields, and the error without the causes that they explain; ``None`` where they explain all.
    """
    if not isinstance(error, ApiError) or error.status != 422 or live is None:
        return [], error
    found: dict[Path, Blocking] = {}
    rest = []
    for cause in error.causes:
        field, message = str(cause.get("field") or ""), str(cause.get("message") or "").split("\n", 1)[0]
        paths: list[Path] = []
        if not _FINAL.search(message):
            paths = _culprits(field, message, cause.get("reason") == _DUPLICATE, declared, live)
        if not paths:
            rest.append(cause)
        said = short_reason(message, declared["kind"] == "Secret")
        for path in paths:
            found.setdefault(path, Blocking(path, _managers_at(live, path), f"{field}: {said}"))
    if not found or not rest:
        return list(found.values()), error if rest or not found else None
    return list(found.values()), ApiError(error.message, status=error.status, reason=error.reason, causes=rest)


def take_over(api: Api, live: Object, blocking: t.Iterable[Blocking]) -> None:
    """Make us the only manager of the fields *blocking* of *live*; nothing else of the object changes.

    :raises ModelshipError: the server refuses, or the object has changed since.
    """
    metadata = live["metadata"]
    entries = copy.deepcopy(metadata.get("managedFields") or [])
    ours = next((entry for entry in entries if _is_ours(entry)), None)
    for item in blocking:
        for entry in entries:
            if not _counts(entry) or (taken := _cut(entry["fieldsV1"], item.path)) is None:
                continue
            if ours is None:
                ours = {**entry, "manager": MANAGER, "operation": "Apply", "fieldsV1": {}}
                entries.append(ours)
            _put(ours["fieldsV1"], item.path, taken)
    patch = {"resourceVersion": metadata["resourceVersion"], "managedFields": [e for e in entries if e["fieldsV1"]]}
    _merge_patch(api, live, {"metadata": patch})


def tried_without(api: Api, declared: Object, live: Object, blocking: t.Iterable[Blocking]) -> Object:
    """Return what *live* becomes without the fields *blocking* and with *declared* (dry run).

    :raises ModelshipError: the server refuses.
    """
    fields = _all_fields(live)
    becomes = copy.deepcopy(comparable(live))
    removed: Object = {}
    for item in blocking:
        _remove(becomes, removed, item.path)
    body = _merged(becomes, declared, fields)
    body = _with_nulls(body, removed)
    body["metadata"] = {**body["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}
    return _merge_patch(api, live, body, dryRun="All", fieldValidation="Strict")


def _merge_patch(api: Api, live: Object, body: Object, **query: str) -> Object:
    metadata = live["metadata"]
    path = api.path(live["apiVersion"], live["kind"], metadata.get("namespace"), metadata["name"])
    found = api.request(
        "PATCH",
        path,
        query={"fieldManager": f"{MANAGER}-takeover", **query},
        body=body,
        content_type="application/merge-patch+json",
    )
    return t.cast(Object, found)


def _counts(entry: Object) -> bool:
    return not entry.get("subresource") and not _is_ours(entry) and isinstance(entry.get("fieldsV1"), dict)


def _is_ours(entry: Object) -> bool:
    return (entry.get("manager"), entry.get("operation"), entry.get("subresource") or "") == (MANAGER, "Apply", "")


def _foreign(live: Object) -> Fields:
    """Return the fields of all other managers in one tree."""
    merged: Fields = {}
    for entry in live["metadata"].get("managedFields") or []:
        if _counts(entry):
            _unite(merged, entry["fieldsV1"])
    return merged


def _all_fields(live: Object) -> Fields:
    merged: Fields = {}
    for entry in live["metadata"].get("managedFields") or []:
        _unite(merged, entry.get("fieldsV1") or {})
    return merged


def _unite(one: Fields, other: Fields) -> None:
    for name, node in other.items():
        _unite(one.setdefault(name, {}), node)


def _managers_at(live: Object, path: Path) -> tuple[str, ...]:
    names = []
    for entry in live["metadata"].get("managedFields") or []:
        node: t.Any = entry.get("fieldsV1") if _counts(entry) else None
        for step in path:
            node = node.get(step) if isinstance(node, dict) else None
        if node is not None:
            names.append(str(entry.get("manager") or "another manager"))
    return tuple(sorted(set(names)))


class _Place(t.NamedTuple):
    """A node of others' fields, with what is declared and what is live there."""

    path: Path
    fields: Fields
    declared: t.Any
    live: t.Any


def _culprits(field: str, message: str, duplicate: bool, declared: Object, live: Object) -> list[Path]:
    """Return the paths of others' fields that are to blame for what the server says of *field*."""
    steps = [match[1] for match in _STEP.finditer(field)]  # an index is None: of the merged list, which nobody returns
    places = [_Place((), _foreign(live), declared, live)]
    ancestors: list[list[_Place]] = []
    lists: list[_Place] = []
    strange: list[_Place] = []
    for step, following in zip(steps, [*steps[1:], ""], strict=True):
        if step is None:
            lists, elements = places, [element for place in places for element in _elements(place)]
            here = [element for element in elements if element.declared is not None]
            strange = [] if here else elements
        else:
            here = [child for place in places for child in _child(place, step)]
            blamed = [child.path for child in here if child.declared is None]
            if blamed and following is not None:  # of a list that is not declared, only the element
                return blamed
        ancestors.append(places)
        places = here
        if not here:
            break
    name = steps[-1] if steps else None
    if duplicate and name:
        return [
            element.path for place in lists for element in _elements(place) if _repeats(element, place, name, message)
        ]
    if strange and name:  # elements that are not declared: is it the value of one of them that is refused?
        missing = message.startswith("Required value")
        return [
            each.path
            for each in strange
            if isinstance(each.live, dict)
            and (name not in each.live if missing else _has(message, each.live.get(name)))
        ]
    exclusive = bool(_EXCLUSIVE.search(message))
    if not exclusive:  # another field, which the message names, may have to do with it
        message = " ".join(_NAMED.findall(message))
    for around in [places, *reversed(ancestors)]:
        if found := [path for place in around for path in _undeclared(place, message, named=True)]:
            return [(*path, *_entry(path, field, live)) for path in found]
    if not exclusive or not ancestors:
        return []
    return [path for place in ancestors[-1] for path in _undeclared(place, message, named=False)]


def _entry(path: Path, field: str, live: Object) -> Path:
    """Return the step to the entry of the map at *path* that has the name of the entry that *field* is (C(data[name]))."""
    if not (match := re.search(r"\[([^\]]+)\]$", field)) or len(path) != 1:
        return ()
    there = live.get(path[0][2:])
    return (f"f:{match[1]}",) if isinstance(there, dict) and match[1] in there else ()


def _child(place: _Place, name: str) -> list[_Place]:
    if f"f:{name}" not in place.fields:
        return []
    inner = place.declared.get(name) if isinstance(place.declared, dict) else None
    there = place.live.get(name) if isinstance(place.live, dict) else None
    return [_Place((*place.path, f"f:{name}"), place.fields[f"f:{name}"], inner, there)]


def _elements(place: _Place) -> list[_Place]:
    """Return the elements of a list that others manage, each with the declared one of the same key, or ``None``."""
    found = []
    for name, node in place.fields.items():
        if name.startswith("k:"):
            keys = json.loads(name[2:])
            found.append(_Place((*place.path, name), node, _by_keys(place.declared, keys), _by_keys(place.live, keys)))
    return found


def _by_keys(elements: t.Any, keys: dict[str, t.Any]) -> t.Any:
    for item in elements if isinstance(elements, list) else ():
        # a key that is not declared has the server's default (protocol: TCP)
        if isinstance(item, dict) and all(item.get(key, value) == value for key, value in keys.items()):
            return item
    return None


def _repeats(element: _Place, place: _Place, name: str, message: str) -> bool:
    """Tell whether others' *element* is not declared and has the same *name* as a declared one."""
    if element.declared is not None or not isinstance(element.live, dict):
        return False
    if not place.declared:  # of a list that is not declared at all: the other is in another list
        return _has(message, element.live.get(name))
    return any(isinstance(item, dict) and item.get(name) == element.live.get(name) for item in place.declared or ())


def _undeclared(place: _Place, message: str, *, named: bool) -> list[Path]:
    """Return the fields of a structure that others have and that are not declared; those that *message* names, if it does."""
    if not isinstance(place.declared, dict):
        return []
    names = [
        name[2:] for name in place.fields if name.startswith("f:") and name != "f:." and name[2:] not in place.declared
    ]
    told = [name for name in names if re.search(rf"\b{re.escape(name.removesuffix('s'))}s?\b", message, re.I)]
    if "handler type" in message:
        names = [name for name in names if name in _HANDLERS]
    return [(*place.path, f"f:{name}") for name in (told if named or told else names)]


def _has(message: str, value: t.Any) -> bool:
    """Tell whether *message* names *value* as a whole word."""
    return value is not None and bool(re.search(rf"(?<!\w){re.escape(str(value))}(?!\w)", message))


def _cut(fields: Fields, path: Path) -> Fields | None:
    """Take *path* out of *fields* and return what was there."""
    nodes = [fields]
    for step in path[:-1]:
        if step not in nodes[-1]:
            return None
        nodes.append(nodes[-1][step])
    taken: Fields | None = nodes[-1].pop(path[-1], None)
    for node, step in zip(reversed(nodes[:-1]), reversed(path[:-1]), strict=True):
        if node[step] in ({}, {".": {}}):
            del node[step]
    return taken


def _put(fields: Fields, path: Path, node: Fields) -> None:
    for step in path[:-1]:
        fields = fields.setdefault(step, {})
    _unite(fields.setdefault(path[-1], {}), node)


def _remove(obj: t.Any, removed: Object, path: Path) -> None:
    """Take the field *path* out of *obj*, and note it in *removed* where a merge patch has to name it."""
    for index, step in enumerate(path):
        last = index == len(path) - 1
        if step.startswith("k:"):
            element = _by_keys(obj, json.loads(step[2:]))
            if last and element is not None:
                obj.remove(element)
            obj, removed = element, {}  # lists are replaced as a whole
        elif isinstance(obj, dict):
            if last:
                obj.pop(step[2:], None)
                removed[step[2:]] = None
                return
            obj, removed = obj.get(step[2:]), removed.setdefault(step[2:], {})
        if obj is None:
            return


def _merged(live: t.Any, declared: t.Any, fields: Fields) -> t.Any:
    """Return *live* with *declared* as the server merges them; *fields* tell which lists are merged by keys."""
    if isinstance(live, dict) and isinstance(declared, dict):
        merged = dict(live)
        for name, value in declared.items():
            merged[name] = _merged(live.get(name), value, fields.get(f"f:{name}") or {})
        return merged
    keyed = [(json.loads(name[2:]), node) for name, node in fields.items() if name.startswith("k:")]
    if not isinstance(live, list) or not isinstance(declared, list) or not keyed:
        return copy.deepcopy(declared)
    result = list(live)
    for item in declared:
        keys = {key: item[key] for key in keyed[0][0] if key in item}
        node: Fields = next((node for known, node in keyed if all(item.get(k, v) == v for k, v in known.items())), {})
        position = next((index for index, each in enumerate(result) if _by_keys([each], keys) is not None), None)
        if position is None:
            result.append(copy.deepcopy(item))
        else:
            result[position] = _merged(result[position], item, node)
    return result


def _with_nulls(body: Object, removed: Object) -> Object:
    for name, inner in removed.items():
        if inner is None:
            body.setdefault(name, None)
        elif isinstance(body.get(name), dict):
            _with_nulls(body[name], inner)
    return body
