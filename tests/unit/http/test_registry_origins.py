"""Where the registry client sends its requests and its credentials: normal forms of hosts, redirects, relative locations."""

from __future__ import annotations

import hashlib
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._http.origin import is_loopback, parse_origin, resolve
from ansible_collections.modelship.core.plugins.module_utils._oci.registry import Repository
from ansible_collections.modelship.core.plugins.module_utils._oci.transport import Access

from .conftest import Serve
from .servers import BASIC, Certificates, ForwardProxy, Handler, Server

DATA = b"layer" * 1000
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()
LOGIN: dict[str, t.Any] = {"username": "deployer", "password": "s3cret"}


@pytest.fixture
def blob(tmp_path: Path) -> str:
    (tmp_path / "blob").write_bytes(DATA)
    return str(tmp_path / "blob")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://registry.example", "https://registry.example:443/v2/"),
        ("http://registry.example", "http://registry.example:80"),
        ("https://registry.example", "https://Registry.EXAMPLE"),
        ("https://registry.example:5000", "https://registry.example.:5000"),
        ("https://[::1]:443", "https://[0:0:0:0:0:0:0:1]"),
        ("https://[2001:DB8::1]", "https://[2001:db8:0::1]:443"),
        ("https://registry.example", "https://someone:password@registry.example"),
    ],
)
def test_origins_are_compared_in_their_normal_form(one: str, other: str) -> None:
    assert parse_origin(one) == parse_origin(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://registry.example", "http://registry.example"),
        ("https://registry.example", "http://registry.example:443"),
        ("https://registry.example", "https://registry.example:5000"),
        ("https://registry.example", "https://registry.example.attacker.example"),
        ("https://registry.example", "https://registry.example@attacker.example"),
        ("https://registry.example", "https://0registry.example"),
    ],
)
def test_other_origins_are_distinguished(one: str, other: str) -> None:
    assert parse_origin(one) != parse_origin(other)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:5001", True),
        ("127.9.8.7", True),
        ("localhost", True),
        ("LocalHost.:5000", True),
        ("[::1]:5000", True),
        ("::1", True),
        ("[::ffff:127.0.0.1]:5000", True),
        ("10.0.0.1", False),
        ("registry.example.com", False),
        ("localhost.example.com:5000", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_locations_with_spaces_and_fragments_can_be_sent() -> None:
    assert resolve("http://a/b/c", "d e?x=1#part") == "http://a/b/d%20e?x=1"
    assert resolve("http://a/", "/é".encode().decode("latin-1")) == "http://a/%C3%A9"
    for location in ("ftp://a/b", "https://", "http://a:port/"):
        with pytest.raises(ValueError, match=r"."):
            resolve("http://a/b", location)


def registry(location: t.Callable[[Handler], str]) -> t.Callable[[Handler], None]:
    """Return the action of a registry with Basic authentication whose uploads are at *location*."""

    def action(handler: Handler) -> None:
        handler.body()
        if handler.headers.get("Authorization") != BASIC:
            handler.respond(401, b"", ("WWW-Authenticate", 'Basic realm="registry"'))
        elif handler.command == "POST":
            handler.respond(202, b"", ("Location", location(handler)))
        else:
            handler.respond(201)

    return action


@pytest.mark.parametrize(
    "location",
    [
        "https://registry.example:443/v2/digits/blobs/uploads/1",
        "https://REGISTRY.example/v2/digits/blobs/uploads/1",
        "https://registry.example.:443/v2/digits/blobs/uploads/1",
        "//registry.example/v2/digits/blobs/uploads/1",
        "/v2/digits/blobs/uploads/1",
        "1?state=abc",
    ],
)
def test_an_upload_location_with_another_form_of_the_host_gets_the_credentials(
    location: str,
    serve: Serve,
    certificates: Certificates,
    forward_proxy: ForwardProxy,
    monkeypatch: pytest.MonkeyPatch,
    blob: str,
) -> None:
    server = serve(registry(lambda _handler: location), certificates)
    forward_proxy.ports["registry.example:443"] = server.server_port
    monkeypatch.setenv("https_proxy", f"http://ann:p%3Aw%40@{forward_proxy.host}")
    repository = Repository("registry.example", "digits", Access(ca_path=str(certificates.ca), **LOGIN), push=True)
    assert repository.upload(blob, DIGEST, len(DATA))
    assert set(forward_proxy.targets) == {"registry.example:443"}
    method, path, headers = server.seen[-1]
    assert (method, headers["Authorization"], headers["Host"]) == ("PUT", BASIC, "registry.example")
    assert path.startswith("/v2/digits/blobs/uploads/1?")
    assert all("Proxy-Authorization" not in headers for _method, _path, headers in server.seen)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_credentials_are_not_sent_to_another_host_port_or_scheme(
    scheme: str, serve: Serve, certificates: Certificates, blob: str
) -> None:
    other = serve(lambda handler: handler.respond(401), certificates if scheme == "https" else None)
    server = serve(registry(lambda _handler: f"{scheme}://{other.host}/upload"), certificates)
    repository = Repository(server.host, "digits", Access(ca_path=str(certificates.ca), **LOGIN), push=True)
    with pytest.raises(
        ModelshipError, match=f"{other.host}, to which the registry {server.host} refers, refuses"
    ) as caught:
        repository.upload(blob, DIGEST, len(DATA))
    assert f"credentials are sent to https://{server.host} only" in caught.value.message
    advice = f"name the registry as {other.host}" if scheme == "https" else "have the registry name itself with https"
    assert advice in caught.value.message
    assert caught.value.kind == "registry_auth"
    assert other.seen
    assert set(other.authorizations()) == {None}


def test_a_location_is_relative_to_the_url_that_responded(serve: Serve, blob: str) -> None:
    received: list[bytes] = []

    def storage(handler: Handler) -> None:
        body = handler.body()
        if handler.command == "POST":
            handler.respond(202, b"", ("Location", "/sessions/1?state=x"))
        elif handler.path.startswith("/sessions/1?state=x&digest="):
            received.append(body)
            handler.respond(201)
        else:
            handler.respond(404)

    other = serve(storage)

    def front(handler: Handler) -> None:
        handler.body()
        if handler.headers.get("Authorization") != BASIC:
            handler.respond(401, b"", ("WWW-Authenticate", 'Basic realm="registry"'))
        elif handler.command == "POST":
            handler.respond(307, b"", ("Location", f"http://{other.host}{handler.path}"))
        else:
            handler.respond(404)

    server = serve(front)
    assert Repository(server.host, "digits", Access(**LOGIN), push=True).upload(blob, DIGEST, len(DATA))
    assert received == [DATA]
    assert set(other.authorizations()) == {None}


def test_redirects_without_end_are_ended(serve: Serve) -> None:
    server = serve(lambda handler: handler.respond(302, b"", ("Location", handler.path + "x")))
    with pytest.raises(ModelshipError, match="redirects without end"):
        Repository(server.host, "digits", Access()).check()
    assert len(server.seen) < 20


def test_an_upload_without_a_location_is_reported(serve: Serve, blob: str) -> None:
    server = serve(lambda handler: handler.respond(202))
    with pytest.raises(ModelshipError, match="responds with 202 but without a Location"):
        Repository(server.host, "digits", Access(), push=True).upload(blob, DIGEST, len(DATA))
    server = serve(lambda handler: handler.respond(202, b"", ("Location", "file:///etc/passwd")))
    with pytest.raises(ModelshipError, match="a Location that cannot be used"):
        Repository(server.host, "digits", Access(), push=True).upload(blob, DIGEST, len(DATA))


def test_see_other_is_followed_with_get(serve: Serve) -> None:
    def action(handler: Handler) -> None:
        handler.body()
        if handler.path == "/v2/":
            handler.respond(303, b"", ("Location", "/other"))
        else:
            handler.respond(200 if handler.command == "GET" else 405)

    server = serve(action)
    Repository(server.host, "digits", Access()).transport.request("POST", "/v2/", expect=(200,), body=b"x")
    assert [(method, path) for method, path, _headers in server.seen] == [("POST", "/v2/"), ("GET", "/other")]


def test_a_registry_that_redirects_to_https_is_named_with_what_to_set(serve: Serve, certificates: Certificates) -> None:
    def secure(handler: Handler) -> None:
        handler.respond(401, b"", ("WWW-Authenticate", 'Basic realm="registry"'))

    target = serve(secure, certificates)
    server: Server = serve(
        lambda handler: handler.respond(301, b"", ("Location", f"https://{target.host}{handler.path}"))
    )
    access = Access(plain_http=True, ca_path=str(certificates.ca), **LOGIN)
    with pytest.raises(ModelshipError, match=f"name the registry as {target.host}, with plain_http: false"):
        Repository(server.host, "digits", access).check()
    assert set(target.authorizations()) == {None}
