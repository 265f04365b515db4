"""A watch that goes on: over ended, broken, forgotten and refused streams."""

from __future__ import annotations

import threading
import time
import typing as t
import urllib.parse
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._kubernetes import watch as watch_module
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api, ApiError

from .scripted_server import Handler, Pki, Scripted, answer, cut, events, refuse


def pod(name: str, version: str) -> dict[str, t.Any]:
    return {"kind": "Pod", "metadata": {"name": name, "resourceVersion": version}}


def event(kind: str, name: str, version: str) -> dict[str, t.Any]:
    return {"type": kind, "object": pod(name, version)}


GONE = {
    "type": "ERROR",
    "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"},
}


@pytest.fixture
def api(api_server: Scripted, pki: Pki) -> t.Iterator[Api]:
    with Api(load_access({"api_server": api_server.url, "ca_path": str(pki.ca)}), timeout=10) as made:
        yield made


def take(api: Api, count: int, stop: threading.Event | None = None, version: str = "1") -> list[tuple[str, t.Any]]:
    """The first *count* events as (kind, name), or (SYNC, names)."""
    stop = stop or threading.Event()
    taken: list[tuple[str, t.Any]] = []
    for kind, obj in api.watch("v1", "Pod", "shop", labels="a=b", resource_version=version, stop=stop):
        if kind == "SYNC":
            taken.append((kind, [item["metadata"]["name"] for item in obj["items"]]))
        else:
            taken.append((kind, obj["metadata"]["name"]))
        if len(taken) == count:
            stop.set()
    return taken


def versions(server: Scripted) -> list[str]:
    """The resourceVersions from which the server was asked to watch."""
    queries = [urllib.parse.parse_qs(urllib.parse.urlsplit(seen.path).query) for seen in server.seen]
    return [query["resourceVersion"][0] for query in queries if "watch" in query]


def test_goes_on_from_the_last_event_and_the_last_bookmark(api_server: Scripted, api: Api) -> None:
    api_server.script = [
        events(event("ADDED", "a", "2"), event("MODIFIED", "a", "3")),
        events(event("BOOKMARK", "", "40")),
        events(event("DELETED", "a", "41")),
    ]
    assert take(api, 3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert versions(api_server) == ["1", "3", "40"]
    assert "labelSelector=a%3Db" in api_server.seen[0].path
    assert "allowWatchBookmarks=true" in api_server.seen[0].path


def test_goes_on_after_a_reset_and_a_refusal_that_may_pass(api_server: Scripted, api: Api) -> None:
    api_server.script = [
        cut,
        events(event("ADDED", "a", "2"), after=cut),
        refuse(429),
        refuse(503),
        events(event("ADDED", "b", "3")),
    ]
    assert take(api, 2) == [("ADDED", "a"), ("ADDED", "b")]
    assert versions(api_server) == ["1", "1", "2", "2", "2"]


@pytest.mark.parametrize("gone", [events(GONE), refuse(410, "too old", "Expired")])
def test_lists_anew_after_a_gap(api_server: Scripted, api: Api, gone: t.Callable[[Handler], None]) -> None:
    listed = {"metadata": {"resourceVersion": "90"}, "items": [pod("a", "80"), pod("b", "85")]}
    api_server.script = [gone, answer(listed), events(event("DELETED", "b", "91"))]
    assert take(api, 2) == [("SYNC", ["a", "b"]), ("DELETED", "b")]
    assert versions(api_server) == ["1", "90"]


def test_an_event_in_two_pieces_is_one(api_server: Scripted, api: Api) -> None:
    def pieces(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in (b'{"type":"ADDED","object":{"meta', b'data":{"name":"a","resourceVersion":"2"}}}\n{"type":'):
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            time.sleep(0.05)
        piece = b'"ADDED","object":{"metadata":{"name":"b","resourceVersion":"3"}}}\n'
        handler.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(piece), piece))

    api_server.script = [pieces]
    assert take(api, 2) == [("ADDED", "a"), ("ADDED", "b")]


def test_stops_while_nothing_happens(api_server: Scripted, api: Api) -> None:
    leave = threading.Event()
    api_server.otherwise = events(after=lambda _handler: leave.wait(30))
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    assert take(api, 1, stop) == []
    assert not leave.is_set()
    leave.set()


def test_a_silent_stream_is_opened_anew(api_server: Scripted, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_SILENCE_S", 0.3)
    leave = threading.Event()
    api_server.script = [events(after=lambda _handler: leave.wait(30)), events(event("ADDED", "a", "2"))]
    assert take(api, 1) == [("ADDED", "a")]
    leave.set()


def test_a_refusal_is_final(api_server: Scripted, api: Api) -> None:
    api_server.otherwise = refuse(403, 'pods is forbidden: User "me" cannot watch resource "pods"', "Forbidden")
    with pytest.raises(
        ApiError, match=r"refused to watch pods in namespace shop: pods is forbidden.*\(403 Forbidden\)"
    ):
        take(api, 1)
    assert len(api_server.seen) == 1


def test_a_server_that_comes_back_may_refuse_everything_at_first(api_server: Scripted, api: Api, pki: Pki) -> None:
    stream = api.watch("v1", "Pod", "shop", resource_version="1", stop=threading.Event())
    api_server.script = [events(event("ADDED", "a", "2"))]
    assert next(stream)[0] == "ADDED"
    api_server.stop()
    again: list[Scripted] = []

    def come_back() -> None:
        again.append(Scripted(pki, api_server.port))
        again[0].script = [refuse(403), refuse(403), refuse(403), answer(b"ok"), events(event("MODIFIED", "a", "3"))]

    timer = threading.Timer(0.5, come_back)
    timer.start()
    try:
        assert next(stream)[0] == "MODIFIED"
        assert versions(again[0]) == ["2", "2", "2"]
    finally:
        timer.join()
        again[0].stop()


def test_a_server_that_stays_away_is_an_error(api_server: Scripted, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_PATIENCE_S", 0.5)
    api_server.script = [events(event("ADDED", "a", "2"))]
    stop = threading.Event()
    stream = api.watch("v1", "Pod", "shop", resource_version="1", stop=stop)
    assert next(stream)[0] == "ADDED"
    api_server.stop()
    with pytest.raises(ApiError, match=r"cannot watch pods in namespace shop at .*connection refused"):
        next(stream)


def test_a_token_that_expires_is_renewed(api_server: Scripted, pki: Pki, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("new")
    user = {"tokenFile": str(tmp_path / "token")}
    config = {
        "current-context": "dev",
        "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "me"}}],
        "clusters": [{"name": "c", "cluster": {"server": api_server.url, "certificate-authority": str(pki.ca)}}],
        "users": [{"name": "me", "user": user}],
    }
    api_server.script = [refuse(401, "expired", "Unauthorized"), events(event("ADDED", "a", "2"))]
    with Api(load_access({"kubeconfig": config}), timeout=10) as api:
        assert take(api, 1) == [("ADDED", "a")]
        api_server.otherwise = refuse(401, "expired", "Unauthorized")
        with pytest.raises(ApiError, match="does not accept the credentials"):
            take(api, 1)
