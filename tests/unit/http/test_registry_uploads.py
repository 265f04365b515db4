"""Uploads that break, that are rejected early, and registries that accept none."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._endpoint.http import Client
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api, ApiError
from ansible_collections.modelship.core.plugins.module_utils._oci.registry import Repository
from ansible_collections.modelship.core.plugins.module_utils._oci.transport import Access

from .conftest import Serve
from .servers import Certificates, Handler

# more than the buffers of both sockets take
DATA = hashlib.shake_128(b"layer").digest(16 << 20)
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def blob(tmp_path: Path) -> str:
    (tmp_path / "blob").write_bytes(DATA)
    return str(tmp_path / "blob")


class Uploads:
    """A registry whose PUT requests are met by each of *script* in turn, and then accepted."""

    def __init__(self, *script: t.Callable[[Handler], None]) -> None:
        self.script = list(script)
        self.sessions = 0
        self.used: list[str] = []
        self.received: list[bytes] = []

    def __call__(self, handler: Handler) -> None:
        if handler.command == "POST":
            self.sessions += 1
            handler.respond(202, b"", ("Location", f"/v2/digits/blobs/uploads/{self.sessions}"))
            return
        self.used.append(handler.path.partition("?")[0].rpartition("/")[2])
        if self.script:
            self.script.pop(0)(handler)
        else:
            self.received.append(handler.body())
            handler.respond(201)


def close(handler: Handler) -> None:
    """Close the TCP connection within the upload, without a close_notify alert."""
    handler.rfile.read(65536)
    handler.request.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def reset(handler: Handler) -> None:
    """Break the TCP connection off within the upload."""
    handler.rfile.read(65536)
    handler.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True


def responds(status: int, body: bytes = b"") -> t.Callable[[Handler], None]:
    """Respond without reading the body, and close the connection."""

    def action(handler: Handler) -> None:
        handler.respond(status, body, ("Connection", "close"))
        handler.close_connection = True

    return action


@pytest.fixture(params=["https", "http"])
def push(
    request: pytest.FixtureRequest, serve: Serve, certificates: Certificates, blob: str
) -> t.Callable[[t.Callable[[Handler], None]], bool]:
    """Upload the blob to a registry that responds as the given function says."""
    secure = request.param == "https"

    def run(action: t.Callable[[Handler], None]) -> bool:
        server = serve(action, certificates if secure else None)
        access = Access(ca_path=str(certificates.ca) if secure else "")
        return Repository(server.host, "digits", access, push=True).upload(blob, DIGEST, len(DATA))

    return run


Push = t.Callable[[t.Callable[[Handler], None]], bool]


@pytest.mark.parametrize("breaks", [close, reset, responds(503), responds(404), responds(416)])
def test_an_upload_that_breaks_is_started_again_in_a_new_session(
    breaks: t.Callable[[Handler], None], push: Push
) -> None:
    registry = Uploads(breaks, breaks)
    assert push(registry)
    assert registry.received == [DATA]
    assert registry.used == ["1", "2", "3"]


@pytest.mark.parametrize("breaks", [close, reset])
def test_an_upload_that_always_breaks_says_why(breaks: t.Callable[[Handler], None], push: Push) -> None:
    registry = Uploads(*[breaks] * 9)
    with pytest.raises(ModelshipError, match=r"closed the connection without a response to PUT /v2/digits") as caught:
        push(registry)
    assert caught.value.kind == "registry_unreachable"
    assert "TLS" not in caught.value.message
    assert len(registry.used) == Access().attempts


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (413, "refuses a request of that size .413 on PUT", "registry"),
        (507, "responds with 507 to PUT .*disk full", "registry"),
        (403, "denies access to .*disk full", "registry_auth"),
    ],
)
def test_a_response_before_the_end_of_the_body_is_reported(status: int, words: str, kind: str, push: Push) -> None:
    body = b'{"errors": [{"code": "UNKNOWN", "message": "disk full"}]}'
    registry = Uploads(*[responds(status, body)] * 9)
    with pytest.raises(ModelshipError, match=words) as caught:
        push(registry)
    assert caught.value.kind == kind
    assert len(registry.used) == 1


def test_an_api_server_and_an_endpoint_that_reject_a_large_body_early_are_understood(
    serve: Serve, certificates: Certificates
) -> None:
    server = serve(responds(413, b'{"kind": "Status", "message": "too large"}'), certificates)
    with Api(load_access({"api_server": f"https://{server.host}", "ca_path": str(certificates.ca)}), timeout=10) as api:
        with pytest.raises(ApiError, match="too large") as caught:
            api.request("POST", "/api/v1/namespaces/a/secrets", body={"data": DATA[: 4 << 20].hex()})
    assert caught.value.status == 413
    with contextlib.closing(Client(f"https://{server.host}", ca_path=str(certificates.ca))) as client:
        assert client.request("POST", "/predict", DATA).status == 413


@pytest.mark.parametrize("size", ["known", None])
def test_a_download_that_breaks_is_repeated_and_its_end_reported(
    size: str | None, serve: Serve, certificates: Certificates, tmp_path: Path
) -> None:
    count: list[int] = []

    def action(handler: Handler) -> None:
        count.append(1)
        broken = len(count) <= breaks
        handler.send_response(200)
        if size is None:
            handler.send_header("Connection", "close")
        else:
            handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        handler.wfile.write(DATA[:1000] if broken else DATA)
        if broken:
            handler.request.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True

    server, breaks = serve(action, certificates), 2
    repository = Repository(server.host, "digits", Access(ca_path=str(certificates.ca)))
    repository.download(DIGEST, len(DATA), str(tmp_path / "new"))
    assert (tmp_path / "new").read_bytes() == DATA
    assert len(count) == 3
    breaks = 99
    with pytest.raises(
        ModelshipError, match=r"(sent an incomplete|without a) response.* to GET /v2/digits/blobs/"
    ) as caught:
        repository.download(DIGEST, len(DATA), str(tmp_path / "other"))
    assert caught.value.kind == "registry_unreachable"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (405, b'{"errors": [{"code": "UNSUPPORTED", "message": "The operation is unsupported."}]}'),
        (405, b""),
        (403, b'{"errors": [{"code": "DENIED", "message": "The system is in read only mode."}]}'),
        (503, b'{"errors": [{"code": "UNAVAILABLE", "message": "registry is read-only"}]}'),
    ],
)
def test_a_read_only_registry_is_said_to_accept_no_uploads(status: int, body: bytes, serve: Serve, blob: str) -> None:
    server = serve(lambda handler: (handler.body(), handler.respond(status, body))[0])
    repository = Repository(server.host, "digits", Access(), push=True)
    for act in (
        lambda: repository.upload(blob, DIGEST, len(DATA)),
        lambda: repository.put_manifest("v1", b"{}", "application/json"),
    ):
        with pytest.raises(
            ModelshipError, match=f"the registry {server.host} accepts no uploads .{status} on P"
        ) as caught:
            act()
        assert caught.value.kind == "registry_read_only"


def test_a_registry_without_head_is_asked_with_get(serve: Serve) -> None:
    manifest = b'{"schemaVersion": 2}'
    digest = "sha256:" + hashlib.sha256(manifest).hexdigest()

    def action(handler: Handler) -> None:
        if handler.command == "HEAD":
            handler.respond(405)
        elif handler.path.endswith("/none"):
            handler.respond(404)
        else:
            handler.respond(200, manifest)

    repository = Repository(serve(action).host, "digits", Access())
    assert repository.has_blob(digest, len(manifest)) is False
    assert repository.manifest_digest("v1") == digest
    assert repository.manifest_digest("none") == ""


@pytest.mark.parametrize("value", ["2", "Sun, 29 Nov 2099 12:00:00 GMT", "soon", "-1"])
def test_retry_after_may_be_a_number_or_a_date(value: str, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    statuses = iter([429, 200])
    server = serve(lambda handler: handler.respond(next(statuses), b"", ("Retry-After", value)))
    assert Repository(server.host, "digits", Access()).has_blob(DIGEST, 0)
    expected = {"2": 2.0, "soon": 0.15, "-1": 0.15}.get(value, 30.0)
    assert waits == [pytest.approx(expected, rel=0.25)]
