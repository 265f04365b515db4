# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a deployment's record is packed, and what it remembers of a plan."""

from __future__ import annotations

import base64
import json
import random
import typing as t
import zlib

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.diff import Difference
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.plan import Plan
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.record import (
    PART_SIZE,
    Record,
    Revision,
    load_record,
    packed,
)


def content(secret: dict) -> bytes:
    return base64.b64decode(secret["data"]["content"])


def test_a_small_record_is_one_secret() -> None:
    (secret,) = packed({"a": 1}, "sha256:abc", "shop", "digits")
    assert (secret["metadata"]["name"], secret["type"]) == ("digits-modelship", "modelship.io/record")
    assert json.loads(zlib.decompress(content(secret))) == {"a": 1}
    assert json.loads(base64.b64decode(secret["data"]["parts"])) == []


def test_a_large_record_is_split_and_the_secret_that_names_the_parts_comes_last() -> None:
    noise = random.Random(1).randbytes(2 * PART_SIZE).hex()  # noqa: S311 - compresses to half at best
    *parts, head = packed({"noise": noise}, "sha256:0123456789abcdef", "shop", "digits")
    assert len(parts) > 1
    assert all(len(content(part)) <= PART_SIZE for part in parts)
    assert "content" not in head["data"]
    assert json.loads(base64.b64decode(head["data"]["parts"])) == [part["metadata"]["name"] for part in parts]
    assert all(part["metadata"]["name"].startswith("digits-modelship-0123456789-") for part in parts)
    whole = b"".join(content(part) for part in parts)
    assert json.loads(zlib.decompress(whole)) == {"noise": noise}


def _plan(*kinds: tuple[str, str, str]) -> Plan:
    objects = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": "x", **({"namespace": space} if space else {})}}
        for version, kind, space in kinds
    ]
    return Plan("digits", "shop", objects, Difference("deployment digits"))


def test_before_a_plan_is_carried_out_old_and_new_kinds_are_remembered() -> None:
    old = Record([("batch/v1", "Job")], ["old"], stored="sha256:1")
    record = old.with_plan(_plan(("v1", "Secret", "shop"), ("rbac.authorization.k8s.io/v1", "ClusterRole", "")))
    assert record.kinds == [("batch/v1", "Job"), ("rbac.authorization.k8s.io/v1", "ClusterRole"), ("v1", "Secret")]
    assert record.namespaces == ["old", "shop"]
    assert record.stored == "sha256:1"


def test_after_it_was_pruned_only_what_is_declared_is_remembered() -> None:
    revision = Revision([], "image", "sha256:2", None, 1, "2026-11-23T18:46:55Z")
    record = Record([("batch/v1", "Job")], ["old"], stored="sha256:1").with_good(
        revision, _plan(("v1", "Secret", "shop"))
    )
    assert (record.kinds, record.namespaces, record.good) == ([("v1", "Secret")], ["shop"], revision)


class Secrets:
    """A server of Secrets; *meanwhile* is called after the first read of a head."""

    def __init__(self, secrets: list[dict], *meanwhile: t.Callable[[Secrets], None]) -> None:
        self.written = 0
        self.meanwhile = [*meanwhile]
        self.store(secrets)

    def store(self, secrets: list[dict]) -> None:
        self.written += 1
        self.there = {}
        for secret in secrets:
            metadata = {**secret["metadata"], "resourceVersion": str(self.written)}
            self.there[secret["metadata"]["name"]] = {**secret, "metadata": metadata}

    def get(self, _version: str, _kind: str, _namespace: str, name: str) -> dict | None:
        found = self.there.get(name)
        if name == "digits-modelship" and self.meanwhile:
            self.meanwhile.pop()(self)
        return found


def _large(mark: str) -> list[dict]:
    noise = random.Random(mark).randbytes(PART_SIZE).hex()  # noqa: S311 - compresses to half at best
    revision = {"objects": [{"noise": noise}], "image": mark, "digest": "", "release": None, "number": 1, "when": ""}
    content = {"kinds": [], "namespaces": [], "good": revision}
    found = packed(content, f"sha256:{mark}", "shop", "digits")
    assert len(found) > 2
    return found


def load(server: Secrets) -> Record:
    return load_record(t.cast("t.Any", server), "shop", "digits")


def test_a_record_whose_parts_another_run_replaces_is_read_again() -> None:
    record = load(Secrets(_large("aaaa"), lambda server: server.store(_large("bbbb"))))
    assert record.good is not None
    assert record.good.image == "bbbb"
    assert load(Secrets(_large("aaaa"), lambda server: server.store([]))) == Record()


def test_a_record_that_lacks_a_part_and_stays_so_is_told_with_what_to_do() -> None:
    with pytest.raises(ModelshipError, match=r"its part digits-modelship-aaaa-1 is gone.*delete it and run again"):
        load(Secrets(_large("aaaa")[1:]))
