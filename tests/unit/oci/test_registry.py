"""The registry client against small HTTP servers that fail in ways a real registry seldom does."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._oci.registry import Repository
from ansible_collections.modelship.core.plugins.module_utils._oci.transport import Access

Handler = http.server.BaseHTTPRequestHandler
Serve = Callable[[Callable[[Handler], None]], str]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start an HTTP server whose every request the given function answers; return its address."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(answer: Callable[[Handler], None]) -> str:
        class Server(Handler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the test's output is pytest's."""

            def do_GET(self) -> None:  # noqa: N802 - the name that http.server asks for
                answer(self)

            do_HEAD = do_PUT = do_POST = do_GET  # noqa: N815

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def reply(handler: Handler, status: int, body: bytes = b"", **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def test_what_is_no_registry_is_said_to_be_none(serve: Serve) -> None:
    host = serve(lambda handler: reply(handler, 200, b"<html>hello</html>"))
    with pytest.raises(ModelshipError, match="is not a registry: it responds to GET /v2/ with 200") as caught:
        Repository(host, "digits", Access()).check()
    assert caught.value.kind == "not_a_registry"


def test_nothing_listens() -> None:
    with pytest.raises(ModelshipError, match="is unreachable \\(connection refused\\): start it") as caught:
        Repository("127.0.0.1:9", "digits", Access()).check()
    assert caught.value.kind == "registry_unreachable"


def test_a_passing_failure_is_tried_again(serve: Serve) -> None:
    statuses = iter([503, 429, 200])
    host = serve(lambda handler: reply(handler, next(statuses)))
    assert Repository(host, "digits", Access()).has_blob("sha256:" + "0" * 64, 0)


def test_a_lasting_failure_is_not_tried_for_ever(serve: Serve) -> None:
    count: list[int] = []

    def answer(handler: Handler) -> None:
        count.append(1)
        reply(handler, 500, b'{"errors": [{"code": "UNKNOWN", "message": "disk on fire"}]}')

    host = serve(answer)
    with pytest.raises(ModelshipError, match=r"500 on GET /v2/ \(disk on fire\)"):
        Repository(host, "digits", Access()).transport.request("GET", "/v2/", expect=(200,))
    assert len(count) == Access().attempts


def test_a_broken_connection_is_tried_again(serve: Serve) -> None:
    broken: list[int] = []

    def answer(handler: Handler) -> None:
        if not broken:
            broken.append(1)
            handler.close_connection = True
            return
        reply(handler, 404)

    host = serve(answer)
    assert not Repository(host, "digits", Access()).has_blob("sha256:" + "0" * 64, 0)
    assert broken


def test_a_token_is_fetched_with_the_credentials_and_used_again(serve: Serve) -> None:
    seen: list[tuple[str, str]] = []

    def answer(handler: Handler) -> None:
        authorization = handler.headers.get("Authorization", "")
        seen.append((handler.path.split("?")[0], authorization))
        if handler.path.startswith("/token"):
            assert "scope=repository%3Adigits%3Apull%2Cpush" in handler.path
            reply(handler, 200, json.dumps({"token": "t0ken"}).encode())
        elif authorization == "Bearer t0ken":
            reply(handler, 200)
        else:
            challenge = f'Bearer realm="http://{handler.headers["Host"]}/token",service="registry"'
            reply(handler, 401, WWW_Authenticate=challenge)

    host = serve(answer)
    repository = Repository(host, "digits", Access(username="u", password="p"), push=True)
    assert repository.has_blob("sha256:" + "0" * 64, 0)
    assert repository.has_blob("sha256:" + "1" * 64, 0)
    basic = "Basic " + base64.b64encode(b"u:p").decode()
    assert [path for path, _ in seen].count("/token") == 1
    assert ("/token", basic) in seen
    assert len(seen) == 4


def test_credentials_do_not_follow_a_redirect_to_another_host(serve: Serve, tmp_path: Path) -> None:
    data, seen = b"layer", []

    def storage(handler: Handler) -> None:
        seen.append(handler.headers.get("Authorization"))
        reply(handler, 200, data)

    store = serve(storage)

    def registry(handler: Handler) -> None:
        if handler.headers.get("Authorization"):
            reply(handler, 307, Location=f"http://{store}/blob")
        else:
            reply(handler, 401, WWW_Authenticate='Basic realm="x"')

    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    target = tmp_path / "blob"
    Repository(serve(registry), "digits", Access(username="u", password="p")).download(digest, len(data), str(target))
    assert target.read_bytes() == data
    assert seen == [None]


def test_bytes_that_are_not_what_the_digest_says_are_refused(serve: Serve, tmp_path: Path) -> None:
    host = serve(lambda handler: reply(handler, 200, b"other"))
    with pytest.raises(ModelshipError, match="gives other bytes than") as caught:
        Repository(host, "digits", Access()).download("sha256:" + "0" * 64, 5, str(tmp_path / "blob"))
    assert caught.value.kind == "hash_mismatch"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ModelshipError, match="gives another manifest"):
        Repository(host, "digits", Access()).manifest("sha256:" + "0" * 64)


def test_the_password_is_in_no_message(serve: Serve) -> None:
    host = serve(lambda handler: reply(handler, 401, WWW_Authenticate='Basic realm="x"'))
    access = Access(username="u", password="hunter2")
    with pytest.raises(ModelshipError, match="refuses the credentials of 'u'") as caught:
        Repository(host, "digits", access).check()
    assert caught.value.kind == "registry_auth"
    assert "hunter2" not in caught.value.message + repr(access)
