# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a Lease may be taken from its holder, and what becomes of it while the server is away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import transport
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api, ApiError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.lease import (
    Lease,
    Process,
    holder_name,
    is_alive,
    is_free,
    parse_process,
    this_process,
    who_holds,
)

from .scripted_server import Handler, Pki, Scripted, answer, refuse

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


class Held:
    """Answers as a server that has one Lease, of which *holder* can be made another one."""

    def __init__(self) -> None:
        self.holder = ""
        self.version = 0
        self.writes = 0

    def __call__(self, handler: Handler) -> None:
        seen = handler.server.seen[-1]
        if seen.method in ("POST", "PUT"):
            written = json.loads(seen.body)
            if self.holder not in ("", written["spec"]["holderIdentity"]):
                refuse(409, "the object has been modified", "Conflict")(handler)
                return
            self.holder = written["spec"]["holderIdentity"]
            self.version += 1
            self.writes += 1
        if not self.holder:
            refuse(404, "not found", "NotFound")(handler)
            return
        metadata = {"name": "digits-modelship", "uid": "1", "resourceVersion": str(self.version)}
        answer({"metadata": metadata, "spec": {"holderIdentity": self.holder}})(handler)


@pytest.fixture
def held(api_server: Scripted) -> Held:
    server = Held()
    api_server.otherwise = server
    return server


@pytest.fixture
def api(api_server: Scripted, pki: Pki) -> t.Iterator[Api]:
    with Api(load_access({"api_server": api_server.url, "ca_path": str(pki.ca)}), timeout=10) as made:
        yield made


def test_a_lease_is_renewed(api: Api, held: Held) -> None:
    with Lease(api, "shop", "digits", "alice", duration_s=60, renew_s=0.05):
        time.sleep(0.5)
    assert held.writes > 3


def test_a_lease_outlives_a_server_that_is_away_for_longer(
    api_server: Scripted, api: Api, held: Held, pki: Pki
) -> None:
    """Nobody else can take it meanwhile."""
    again: list[Scripted] = []

    def come_back() -> None:
        again.append(Scripted(pki, api_server.port))
        again[0].otherwise = held

    timer = threading.Timer(1.0, come_back)
    try:
        with Lease(api, "shop", "digits", "alice", duration_s=0.4, renew_s=0.1) as lease:
            api_server.stop()
            timer.start()
            time.sleep(0.6)
            lease.check()
            assert again, "it waited for the server"
            assert held.holder == "alice"
    finally:
        timer.join()
        again[0].stop()


def test_a_server_that_stays_away_is_told_as_such(
    api_server: Scripted, api: Api, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "PATIENCE_S", 0.3)
    with Lease(api, "shop", "digits", "alice", duration_s=0.2, renew_s=0.1) as lease:
        api_server.stop()
        time.sleep(0.3)
        with pytest.raises(ApiError, match="cannot replace leases/digits-modelship") as caught:
            lease.check()
        assert caught.value.unreachable


def test_who_took_it_meanwhile_is_named(api: Api, held: Held) -> None:
    with Lease(api, "shop", "digits", "alice", duration_s=60, renew_s=0.1) as lease:
        lease.check()
        held.holder = "bob"
        time.sleep(0.5)
        with pytest.raises(
            ModelshipError, match="lost its Lease shop/digits-modelship and stops: taken by bob"
        ) as caught:
            lease.check()
        assert caught.value.kind == "locked"
