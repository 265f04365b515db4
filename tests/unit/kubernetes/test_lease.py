# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a Lease may be taken from its holder."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ansible_collections.modelship.core.plugins.module_utils._kubernetes.lease import (
    Process,
    holder_name,
    is_alive,
    is_free,
    parse_process,
    this_process,
    who_holds,
)

HERE = this_process()


def lease(holder: str = "alice@ci", process: object = "", duration: int = 10) -> dict:
    return {
        "metadata": {"annotations": {"modelship.io/process": str(process)}},
        "spec": {
            "holderIdentity": holder,
            "leaseDurationSeconds": duration,
            "acquireTime": "2026-11-23T18:46:55.123456Z",
        },
    }


@pytest.mark.parametrize(
    ("holder", "unchanged", "free"),
    [("", 0.0, True), ("alice", 0.0, False), ("alice", 9.9, False), ("alice", 10.0, True)],
)
def test_a_holder_of_another_machine_is_dead_after_its_leases_duration(
    holder: str, unchanged: float, free: bool
) -> None:
    assert is_free(lease(holder, Process("elsewhere", 1, "1")), unchanged, HERE) is free


def test_the_holders_own_duration_counts() -> None:
    assert not is_free(lease(duration=60), 30.0, HERE)


@pytest.mark.skipif(HERE is None, reason="needs /proc")
class TestSameMachine:
    def test_a_dead_process_is_known_at_once(self) -> None:
        assert HERE is not None
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        with open(f"/proc/{child.pid}/stat", encoding="ascii") as stream:
            process = Process(HERE.machine, child.pid, stream.read().rpartition(")")[2].split()[19])
        assert is_alive(process)
        assert not is_free(lease(process=process), 0.0, HERE)
        child.communicate(b"\n")
        assert not is_alive(process)
        assert is_free(lease(process=process), 0.0, HERE)

    def test_another_process_with_its_number_is_not_it(self) -> None:
        assert HERE is not None
        assert HERE.pid == os.getpid()
        assert is_alive(HERE)
        assert not is_alive(HERE._replace(start="1"))

    def test_the_same_number_on_another_machine_says_nothing(self) -> None:
        assert HERE is not None
        elsewhere = Process("elsewhere", 2**22 + 1, "1")
        assert not is_free(lease(process=elsewhere), 0.0, HERE)


def test_a_process_is_read_back_from_its_text() -> None:
    process = Process("machine", 12, "345")
    assert parse_process(str(process)) == process
    assert parse_process("") is None
    assert parse_process("a:b:c") is None


def test_the_holder_is_told_with_the_time() -> None:
    assert who_holds(lease("alice@ci (process 12)")) == "alice@ci (process 12), since 2026-11-23 18:46:55 UTC"


def test_two_runs_of_one_process_are_told_apart() -> None:
    assert str(os.getpid()) in holder_name()
    assert holder_name() != holder_name()
