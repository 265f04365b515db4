# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a deployment's record is packed, and what it remembers of a plan."""

from __future__ import annotations

import base64
import json
import random
import zlib

from ansible_collections.modelship.core.plugins.module_utils._core.diff import Difference
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.plan import Plan
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.record import (
    PART_SIZE,
    Record,
    Revision,
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
