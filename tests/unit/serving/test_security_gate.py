from __future__ import annotations

import contextlib
import hashlib
import math
import multiprocessing
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving.errors import RequestError, StartError
from modelship_serving.logs import Log
from modelship_serving.security.gate import Gate, load_gate, subject
from modelship_serving.security.keys import Keys
from modelship_serving.security.limit import Limiter
from modelship_serving.settings import Settings

LOG = Log("error")


def digest(key: str) -> str:
    return "sha256:" + hashlib.sha256(key.encode()).hexdigest()


def write_keys(path: Path, **keys: str) -> Path:
    """Replace the file as editors and Kubernetes do: by another one."""
    fresh = path.with_suffix(".new")
    fresh.write_text("# who may ask\n\n" + "".join(f"{name}  {digest(key)}\n" for name, key in keys.items()))
    fresh.replace(path)
    return path


def gate(**settings: Any) -> Gate:
    made = load_gate(Settings(**{name: str(v) if isinstance(v, Path) else v for name, v in settings.items()}), LOG)
    made.start(0)
    return made


@contextlib.contextmanager
def refused(status: int, text: str = "") -> Iterator[RequestError]:
    caught = pytest.raises(RequestError)
    with caught as info:
        yield info  # type: ignore[misc]
    assert info.value.status == status
    assert text in info.value.message


def refusals(made: Gate) -> dict[str, int]:
    lines = [line for line in made.lines() if not line.startswith("#")]
    return {line.split('"')[1]: int(line.rpartition(" ")[2]) for line in lines if not line.endswith(" 0")}


def test_a_gate_of_default_settings_is_open_and_has_no_metrics():
    made = gate()
    assert not made.enabled
    assert made.admit({}, None) == ""
    assert made.lines() == []


@pytest.mark.parametrize("header", ["authorization", "x-api-key"])
def test_a_key_tells_whose_it_is(tmp_path: Path, header: str):
    made = gate(api_keys=write_keys(tmp_path / "keys", alice="k-alice", bob="k-bob"))
    assert made.enabled
    form = {"authorization": "Bearer {}", "x-api-key": "{}"}[header]
    for _ in range(3):
        assert made.admit({header: form.format("k-alice")}, None) == "alice"
        assert made.admit({header: form.format("k-bob")}, None) == "bob"
        with refused(401, "not known") as caught:
            made.admit({header: form.format("k-carol")}, None)
        assert caught.value.header[0] == "www-authenticate"
    assert refusals(made) == {"unknown_key": 3}


def test_without_credentials_or_with_another_scheme_the_answer_says_what_to_send(tmp_path: Path):
    made = gate(api_keys=write_keys(tmp_path / "keys", alice="k"))
    for headers in ({}, {"x-api-key": ""}, {"authorization": "Bearer "}, {"authorization": "Basic azo="}):
        with refused(401, "Bearer") as caught:
            made.admit(headers, None)
        assert caught.value.header == ("www-authenticate", 'Bearer realm="modelship"')
    with refused(401):
        made.admit({"authorization": "Bearer k\udce9"}, None)  # bytes that are no text
    assert made.admit({"authorization": "bearer k"}, None) == "alice"
    assert refusals(made) == {"no_credentials": 4, "unknown_key": 1}


def test_a_name_may_have_two_keys_while_one_replaces_the_other(tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text(f"alice {digest('old')}\nalice {digest('new')}\n")
    made = gate(api_keys=path)
    assert [made.admit({"x-api-key": key}, None) for key in ("old", "new")] == ["alice", "alice"]


def test_a_changed_file_counts_from_the_next_tick_and_takes_keys_back(tmp_path: Path):
    path = write_keys(tmp_path / "keys", alice="a")
    made = gate(api_keys=path)
    assert made.admit({"x-api-key": "a"}, None) == "alice"
    write_keys(path, bob="b")
    made.tick()
    assert made.admit({"x-api-key": "b"}, None) == "bob"
    with refused(401):
        made.admit({"x-api-key": "a"}, None)


def test_a_broken_or_missing_file_keeps_the_old_keys_and_is_logged_once(tmp_path: Path, capfd: Any):
    path = write_keys(tmp_path / "keys", alice="a")
    made = Gate(Settings(api_keys=str(path)), Log("warning"))
    path.write_text("alice secret-in-clear\n")
    for _ in range(3):
        made.tick()
        assert made.admit({"x-api-key": "a"}, None) == "alice"
    path.unlink()
    made.tick()
    assert made.admit({"x-api-key": "a"}, None) == "alice"
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 2
    assert "line 1 is no key" in said
    assert "no such file" in said
    assert "secret-in-clear" not in said


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "has no keys"),
        ("# nothing\n", "has no keys"),
        ("alice sha256:12\n", "line 1 is no key"),
        (f"alice {'0' * 64}\n", "line 1 is no key"),
        (f"alice {digest('a')}\nalice bob {digest('a')}\n", "line 2 is no key"),
        (b"\xff\xfe", "is no text file"),
        (None, "cannot be read: no such file"),
    ],
)
def test_a_file_that_cannot_be_used_at_start_names_the_setting(tmp_path: Path, content: str | bytes | None, why: str):
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StartError, match=f"MODELSHIP_API_KEYS='{path}'") as caught:
        Keys(str(path))
    assert why in str(caught.value)


def test_what_was_verified_is_kept_only_for_so_many(tmp_path: Path, monkeypatch: Any):
    monkeypatch.setattr("modelship_serving.security.gate._MOST_CACHED", 8)
    keys = {f"user{number}": f"k{number}" for number in range(40)}
    made = gate(api_keys=write_keys(tmp_path / "keys", **keys))
    for name, key in list(keys.items()) * 2:
        assert made.admit({"x-api-key": key}, None) == name
    assert len(made._known) == 8


def test_where_a_client_ca_is_set_a_certificate_is_needed_beside_the_key(tmp_path: Path):
    made = gate(tls_client_ca="ca", api_keys=write_keys(tmp_path / "keys", alice="a"))
    certificate = {"subject": ((("commonName", "probe"),),)}
    with refused(403, "client certificate"):
        made.admit({"x-api-key": "a"}, None)
    with refused(401):
        made.admit({}, certificate)
    assert made.admit({"x-api-key": "a"}, certificate) == "alice"
    assert gate(tls_client_ca="ca").admit({}, certificate) == "probe"
    assert refusals(made) == {"no_certificate": 1, "no_credentials": 1}


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        ({"subject": ((("countryName", "AT"),), (("commonName", "a"),))}, "a"),
        (
            {"subject": ((("commonName", "a"),),), "subjectAltName": (("DNS", "d"), ("URI", "spiffe://x/y"))},
            "spiffe://x/y",
        ),
        ({"subject": (), "subjectAltName": (("DNS", "d"),)}, "d"),
        ({"subject": ()}, "unnamed"),
    ],
)
def test_the_subject_of_a_certificate(certificate: dict[str, Any], name: str):
    assert subject(certificate) == name


# -- the rate limit ---------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self, monkeypatch: Any) -> None:
        self.now = 5000.0
        monkeypatch.setattr("modelship_serving.security.limit.time.monotonic_ns", lambda: int(self.now * 1e9))


def test_a_bucket_gives_its_burst_then_the_rate(monkeypatch: Any):
    clock = Clock(monkeypatch)
    limiter = Limiter(rate=10, burst=5)
    assert [limiter.take("a") for _ in range(5)] == [0.0] * 5
    assert limiter.take("a") == pytest.approx(0.1)
    assert limiter.take("b") == 0.0
    clock.now += 0.05
    assert limiter.take("a") == pytest.approx(0.05)
    clock.now += 0.05
    assert limiter.take("a") == 0.0
    assert limiter.take("a") > 0
    clock.now += 100
    assert sum(limiter.take("a") == 0.0 for _ in range(20)) == 5


def test_over_a_long_time_the_rate_is_exact(monkeypatch: Any):
    clock = Clock(monkeypatch)
    limiter = Limiter(rate=7, burst=2)
    passed = 0
    for _ in range(10_000):
        passed += limiter.take("a") == 0.0
        clock.now += 0.01
    assert passed == pytest.approx(700, abs=2)


def test_many_principals_have_a_bucket_each(monkeypatch: Any):
    Clock(monkeypatch)
    limiter = Limiter(rate=1, burst=2, slots=4096)
    names = [secrets.token_hex(4) for _ in range(500)]
    assert all(limiter.take(name) == 0.0 for name in names)
    assert all(limiter.take(name) == 0.0 for name in names)
    assert all(limiter.take(name) > 0 for name in names)


def test_more_principals_than_slots_are_never_refused_too_early(monkeypatch: Any):
    Clock(monkeypatch)
    limiter = Limiter(rate=1, burst=2, slots=16)
    assert all(limiter.take(secrets.token_hex(4)) == 0.0 for _ in range(1000))


def _take(limiter: Limiter, barrier: Any, results: Any) -> None:
    barrier.wait()
    passed = 0
    for _ in range(600):
        passed += limiter.take("a") == 0.0
        time.sleep(0.0002)  # as for a request that is answered
    results.put(passed)


def test_processes_share_a_bucket():
    context = multiprocessing.get_context("fork")
    limiter = Limiter(rate=0.01, burst=1000)
    barrier, results = context.Barrier(3), context.Queue()
    workers = [context.Process(target=_take, args=(limiter, barrier, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    passed = sum(results.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join(60)
    # Split evenly, or a bucket each, would be 1800. A few more than 1000 get through by taking at the same moment.
    assert 1000 <= passed < 1100


def test_too_many_requests_get_429_and_when_to_come_back(tmp_path: Path):
    made = gate(api_keys=write_keys(tmp_path / "keys", alice="a", bob="b"), rate_limit=0.5, rate_burst=2)
    for _ in range(2):
        made.admit({"x-api-key": "a"}, None)
    with refused(429, "'alice'") as caught:
        made.admit({"x-api-key": "a"}, None)
    assert caught.value.header == ("retry-after", "2")
    assert made.admit({"x-api-key": "b"}, None) == "bob"
    assert refusals(made) == {"rate_limit": 1}


def test_refused_credentials_take_nothing_from_a_bucket(tmp_path: Path):
    made = gate(api_keys=write_keys(tmp_path / "keys", alice="a"), rate_limit=1, rate_burst=1)
    for _ in range(20):
        with refused(401):
            made.admit({"x-api-key": "wrong"}, None)
    assert made.admit({"x-api-key": "a"}, None) == "alice"


def test_without_credentials_all_share_one_bucket_twice_as_deep_as_the_rate():
    made = gate(rate_limit=3)
    assert made.enabled
    assert math.isclose(sum(made.admit({}, None) == "" for _ in range(6)), 6)
    with refused(429, "too many requests"):
        made.admit({}, None)


def test_refusals_are_summed_over_workers(tmp_path: Path):
    made = load_gate(Settings(api_keys=str(write_keys(tmp_path / "keys", alice="a")), workers=2), LOG)
    pid = os.fork()
    if pid == 0:
        made.start(1)
        with contextlib.suppress(RequestError):
            made.admit({}, None)
        os._exit(0)
    os.waitpid(pid, 0)
    made.start(0)
    with refused(401):
        made.admit({}, None)
    assert refusals(made) == {"no_credentials": 2}


def test_an_unknown_key_takes_no_longer_where_there_are_many(tmp_path: Path):
    """Whoever has none decides how often they are looked at."""

    def least(count: int) -> float:
        keys = Keys(
            str(write_keys(tmp_path / f"keys-{count}", **{f"n{number}": f"k{number}" for number in range(count)}))
        )
        assert keys.find(bytes.fromhex(digest("k7")[7:])) == "n7"
        took = []
        for _ in range(20):
            began = time.thread_time_ns()
            for number in range(20):
                assert keys.find(bytes([number] * 32)) is None
            took.append(time.thread_time_ns() - began)
        return min(took)

    assert least(5000) < 20 * least(10)
