# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deployment remembers in its namespace: where its objects are, and the last revision that was good.

It is a Secret, because the revision holds Secrets. What is larger than a Secret may be is split: the parts are written
first, under names made of their content; the Secret that names them is written last, so that a killed run leaves the old
record whole.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import typing as t
import zlib

from .._core.errors import ModelshipError
from .objects import MANAGER, Object, digest_of

if t.TYPE_CHECKING:
    from .client import Api
    from .plan import Plan

#: Type of the Secrets.
TYPE = "modelship.io/record"
#: Label of the parts: the deployment's name.
PART_OF = "modelship.io/record"
#: Bytes of one Secret; the server takes 1 MiB.
PART_SIZE = 900 * 1024
_FORMAT = "1"


@dataclasses.dataclass
class Revision:
    """What served and was found good.

    :param objects: as declared, to be applied again as they are.
    :param number: counts up from 1.
    :param when: RFC 3339, UTC.
    """

    objects: list[Object]
    image: str
    digest: str
    release: str | None
    number: int
    when: str


@dataclasses.dataclass
class Record:
    """What is remembered.

    :param kinds: apiVersion and kind of all objects that were ever made and may still be there.
    :param namespaces: the namespaces that they are in.
    :param good: the last good revision.
    :param stored: digest of what is stored; empty where nothing is.
    """

    kinds: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    namespaces: list[str] = dataclasses.field(default_factory=list)
    good: Revision | None = None
    stored: str = ""

    def with_plan(self, plan: Plan) -> Record:
        """Return the record to store before *plan* is carried out, so that a killed run's objects are found again."""
        kinds = {*self.kinds, *((obj["apiVersion"], obj["kind"]) for obj in plan.desired)}
        namespaces = {*self.namespaces, *(obj["metadata"].get("namespace", "") for obj in plan.desired)} - {""}
        return dataclasses.replace(self, kinds=sorted(kinds), namespaces=sorted(namespaces))

    def with_good(self, revision: Revision, plan: Plan) -> Record:
        """Return the record to store after *plan* was carried out and pruned: only what is declared (or stuck) is left."""
        stuck = [(obj["apiVersion"], obj["kind"]) for obj in plan.stuck]
        return dataclasses.replace(Record(kinds=stuck, stored=self.stored).with_plan(plan), good=revision)


class _BrokenError(ModelshipError):
    """What is stored makes no record."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(
            f"{where}, the deployment's record, cannot be read ({why}): delete it and run again; the revision to return to is "
            "lost",
            kind="kubernetes",
        )


def record_name(name: str) -> str:
    """Return the name of the record of the deployment *name*."""
    return f"{name}-modelship"


def load_record(api: Api, namespace: str, name: str) -> Record:
    """Return the record of the deployment *name*; an empty one (``stored`` is empty) where there is none.

    :raises ModelshipError: it cannot be read, or is broken.
    """
    head = _head(api, namespace, name)
    while head is not None:
        try:
            return _read(api, namespace, name, head)
        except _BrokenError:
            # no Lease is held here: another run may have replaced the parts meanwhile, and then the head names others
            seen, head = head, _head(api, namespace, name)
            if head is not None and head["metadata"]["resourceVersion"] == seen["metadata"]["resourceVersion"]:
                raise
    return Record()


def save_record(api: Api, namespace: str, name: str, record: Record) -> Record:
    """Store *record* (nothing is sent if it is stored already) and return it with its digest.

    :raises ModelshipError: it cannot be written.
    """
    content = {
        "kinds": [list(kind) for kind in record.kinds],
        "namespaces": record.namespaces,
        "good": dataclasses.asdict(record.good) if record.good else None,
    }
    digest = digest_of(content)
    if digest == record.stored:
        return record
    secrets = packed(content, digest, namespace, name)
    for secret in secrets:
        api.apply(secret, force=True)
    _drop_parts(api, namespace, name, keep={secret["metadata"]["name"] for secret in secrets})
    return dataclasses.replace(record, stored=digest)


def drop_record(api: Api, namespace: str, name: str) -> None:
    """Delete the record of the deployment *name*."""
    secret = api.get("v1", "Secret", namespace, record_name(name))
    if secret is not None and secret.get("type") == TYPE:
        api.delete(secret)
    _drop_parts(api, namespace, name, keep=set())


def packed(content: dict[str, t.Any], digest: str, namespace: str, name: str) -> list[Object]:
    """Return the Secrets that hold *content*: first the parts, last the one that names them."""
    data = zlib.compress(json.dumps(content, separators=(",", ":"), sort_keys=True).encode(), 6)
    pieces = [data[start : start + PART_SIZE] for start in range(0, len(data), PART_SIZE)]
    secrets = []
    if len(pieces) > 1:
        mark = digest.removeprefix("sha256:")[:10]
        for number, piece in enumerate(pieces, 1):
            part = _secret(namespace, f"{record_name(name)}-{mark}-{number}", name, {"content": piece})
            secrets.append(part)
        pieces = []
    parts = json.dumps([secret["metadata"]["name"] for secret in secrets])
    head = {"format": _FORMAT.encode(), "digest": digest.encode(), "parts": parts.encode()}
    if pieces:
        head["content"] = pieces[0]
    return [*secrets, _secret(namespace, record_name(name), name, head)]


def _secret(namespace: str, own: str, name: str, data: dict[str, bytes]) -> Object:
    labels = {"app.kubernetes.io/managed-by": MANAGER, "app.kubernetes.io/instance": name, PART_OF: name}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": TYPE,
        "metadata": {"name": own, "namespace": namespace, "labels": labels},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def _drop_parts(api: Api, namespace: str, name: str, keep: set[str]) -> None:
    for secret in api.list("v1", "Secret", namespace, labels=f"{PART_OF}={name}")[0]:
        if secret.get("type") == TYPE and secret["metadata"]["name"] not in keep:
            api.delete(secret)


def _head(api: Api, namespace: str, name: str) -> Object | None:
    """Return the Secret that is the record of the deployment *name*, or names its parts.

    :raises ModelshipError: its name is taken by another Secret.
    """
    secret = api.get("v1", "Secret", namespace, record_name(name))
    if secret is not None and secret.get("type") != TYPE:
        raise ModelshipError(
            f"Secret {namespace}/{record_name(name)} is of type '{secret.get('type')}', not {TYPE}: its name is needed for the "
            "deployment's record; rename it",
            kind="foreign",
        )
    return secret


def _read(api: Api, namespace: str, name: str, head: Object) -> Record:
    where = f"Secret {namespace}/{record_name(name)}"
    try:
        data = {key: base64.b64decode(value) for key, value in (head.get("data") or {}).items()}
        if data["format"].decode() != _FORMAT:
            raise ModelshipError(
                f"{where} has format {data['format'].decode()}, this release reads {_FORMAT}: use a newer modelship.core",
                kind="kubernetes",
            )
        packed = data.get("content", b"")
        for part in json.loads(data["parts"]):
            piece = api.get("v1", "Secret", namespace, part)
            if piece is None:
                raise _BrokenError(where, f"its part {part} is gone")
            packed += base64.b64decode(piece["data"]["content"])
        content = json.loads(zlib.decompress(packed))
        good = Revision(**content["good"]) if content["good"] else None
        kinds = [(str(version), str(kind)) for version, kind in content["kinds"]]
        return Record(kinds, list(content["namespaces"]), good, data["digest"].decode())
    except (KeyError, TypeError, ValueError, zlib.error) as exc:
        raise _BrokenError(where, f"{type(exc).__name__} {exc}") from exc
