"""How the registry client meets challenges: several of them, token services, scopes of two repositories."""

from __future__ import annotations

import hashlib
import json
import typing as t
import urllib.parse
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._http.challenge import parse_challenges
from ansible_collections.modelship.core.plugins.module_utils._oci.registry import Repository
from ansible_collections.modelship.core.plugins.module_utils._oci.transport import Access

from .conftest import Serve
from .servers import BASIC, Certificates, Handler, Server

DATA = b"layer" * 1000
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()
LOGIN: dict[str, t.Any] = {"username": "deployer", "password": "s3cret"}
TARGET, SOURCE = "repository:digits:pull,push", "repository:base:pull"


@pytest.fixture
def blob(tmp_path: Path) -> str:
    (tmp_path / "blob").write_bytes(DATA)
    return str(tmp_path / "blob")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (['Basic realm="x"'], [("basic", {"realm": "x"})]),
        (["Negotiate", 'Basic realm="x"'], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (['Negotiate, Basic realm="x"'], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (["Negotiate dG9rZW4=, NTLM"], [("negotiate", {}), ("ntlm", {})]),
        (
            ['Basic realm="a, b", charset="UTF-8", bearer REALM=https://a/t,service="r \\"1\\""'],
            [
                ("basic", {"realm": "a, b", "charset": "UTF-8"}),
                ("bearer", {"realm": "https://a/t", "service": 'r "1"'}),
            ],
        ),
        (
            ['Bearer realm = "https://a/t" , scope="repository:a:pull,push" ,,'],
            [("bearer", {"realm": "https://a/t", "scope": "repository:a:pull,push"})],
        ),
        (["", ",", '="x"'], []),
    ],
)
def test_all_challenges_of_all_headers_are_read(values: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [tuple(challenge) for challenge in parse_challenges(values)] == expected


@pytest.mark.parametrize(
    "challenges",
    [
        ["Negotiate", 'Basic realm="registry"'],
        ['Basic realm="registry"', "Negotiate"],
        ['Negotiate, Basic realm="registry", charset="UTF-8"'],
        ['Digest realm="x", nonce="y", basic realm="registry"'],
        ['Bearer realm="ldap://nowhere"', 'Basic realm="registry"'],
    ],
)
def test_a_supported_challenge_is_taken_among_others(challenges: list[str], serve: Serve) -> None:
    def action(handler: Handler) -> None:
        if handler.headers.get("Authorization") == BASIC:
            handler.respond(200)
        else:
            handler.respond(401, b"", *(("WWW-Authenticate", value) for value in challenges))

    server = serve(action)
    Repository(server.host, "digits", Access(**LOGIN)).check()
    assert server.authorizations() == [None, BASIC]


@pytest.mark.parametrize(
    ("challenges", "words"),
    [
        (["Negotiate"], "asks for authentication by Negotiate; only Basic and Bearer are supported"),
        ([], "asks for credentials without saying how to send them"),
        (['Bearer realm="/token"'], r"names a token service that cannot be used \(it must begin with http"),
    ],
)
def test_credentials_that_were_not_sent_are_not_called_refused(challenges: list[str], words: str, serve: Serve) -> None:
    server = serve(lambda handler: handler.respond(401, b"", *(("WWW-Authenticate", value) for value in challenges)))
    with pytest.raises(ModelshipError, match=words) as caught:
        Repository(server.host, "digits", Access(**LOGIN)).has_blob(DIGEST, 0)
    assert "refuses the credentials" not in caught.value.message
    assert caught.value.kind == "registry_auth"
    assert server.authorizations() == [None]


class TokenRegistry:
    """A registry with a token service that grants *grants*; the tokens are the scopes that were asked for.

    :param mounting: status of the response to a mount.
    """

    def __init__(self, serve: Serve, grants: t.Collection[str], mounting: int = 201) -> None:
        self.grants = grants
        self.mounting = mounting
        self.asked: list[list[str]] = []
        self.uploads: list[bytes] = []
        self.service: Server = serve(self.token)
        self.registry: Server = serve(self.respond)

    def token(self, handler: Handler) -> None:
        assert handler.headers["Authorization"] == BASIC
        scopes = urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)["scope"]
        self.asked.append(scopes)
        if set(scopes) <= set(self.grants):
            handler.respond(200, json.dumps({"token": "+".join(scopes)}).encode())
        else:
            handler.respond(403, b'{"errors": [{"code": "DENIED"}]}')

    def respond(self, handler: Handler) -> None:
        body = handler.body()
        parts = urllib.parse.urlsplit(handler.path)
        mounts = "mount=" in parts.query
        needed = [TARGET, SOURCE] if mounts else [TARGET]
        token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if not set(needed) <= set(token.split("+")):
            challenge = f'Bearer realm="http://{self.service.host}/token",service="registry",scope="{" ".join(needed)}"'
            handler.respond(401, b"", ("WWW-Authenticate", challenge))
        elif mounts:
            handler.respond(self.mounting, b"", ("Location", f"{parts.path}1"))
        elif handler.command == "POST":
            handler.respond(202, b"", ("Location", f"{parts.path}2"))
        elif handler.command == "PUT":
            self.uploads.append(body)
            handler.respond(201)
        else:
            handler.respond(204)

    def push(self, blob: str, *sources: str) -> bool:
        repository = Repository(self.registry.host, "digits", Access(**LOGIN), push=True)
        return repository.upload(blob, DIGEST, len(DATA), mount_from=sources)


def test_a_mount_asks_for_a_token_with_the_scopes_of_both_repositories(serve: Serve, blob: str) -> None:
    server = TokenRegistry(serve, (TARGET, SOURCE))
    assert server.push(blob, "base") is False
    assert server.asked == [[TARGET, SOURCE]]
    assert server.uploads == []


def test_a_mount_without_rights_on_its_source_falls_back_to_an_upload(serve: Serve, blob: str) -> None:
    server = TokenRegistry(serve, (TARGET,))
    assert server.push(blob, "base") is True
    assert server.asked == [[TARGET, SOURCE], [TARGET]]
    assert server.uploads == [DATA]


@pytest.mark.parametrize("status", [202, 400, 403, 404, 405, 429, 500, 501, 503])
def test_a_mount_that_fails_falls_back_to_an_upload(status: int, serve: Serve, blob: str) -> None:
    server = TokenRegistry(serve, (TARGET, SOURCE), status)
    assert server.push(blob, "base", "base") is True
    assert server.uploads == [DATA]


def test_a_mount_whose_response_is_lost_falls_back_to_an_upload(serve: Serve, blob: str) -> None:
    server = TokenRegistry(serve, (TARGET, SOURCE))
    respond = server.respond

    def action(handler: Handler) -> None:
        if "mount=" in handler.path:
            handler.close_connection = True
        else:
            respond(handler)

    server.registry.action = action
    assert server.push(blob, "base") is True
    assert server.uploads == [DATA]


def test_credentials_that_the_token_service_refuses_are_reported(serve: Serve, blob: str) -> None:
    server = TokenRegistry(serve, ())
    with pytest.raises(
        ModelshipError, match=f"has a token service, http://{server.service.host}, that refuses the cred"
    ):
        server.push(blob)


def test_a_403_says_who_was_denied(serve: Serve) -> None:
    denied = b'{"errors": [{"code": "DENIED", "message": "no %s"}]}'

    def action(handler: Handler) -> None:
        if asks and not handler.headers.get("Authorization"):
            handler.respond(401, b"", ("WWW-Authenticate", 'Basic realm="registry"'))
        else:
            handler.respond(403, denied)

    server, asks = serve(action), True
    with pytest.raises(ModelshipError, match=r"denies 'deployer' access to .* \(no %s\): check the user's rights"):
        Repository(server.host, "digits", Access(**LOGIN)).blob_json(DIGEST)
    asks = False
    with pytest.raises(ModelshipError, match=r"denies access to .* without asking for credentials \(no %s\)"):
        Repository(server.host, "digits", Access(**LOGIN)).blob_json(DIGEST)


def test_a_token_service_that_does_not_resolve_is_named(serve: Serve) -> None:
    challenge = ("WWW-Authenticate", 'Bearer realm="https://auth.invalid/token",service="registry"')
    server = serve(lambda handler: handler.respond(401, b"", challenge))
    with pytest.raises(
        ModelshipError, match=r"^auth\.invalid, to which .* is unreachable \(the name 'auth.invalid'"
    ) as caught:
        Repository(server.host, "digits", Access(**LOGIN)).check()
    assert caught.value.kind == "registry_unreachable"
    assert len(server.seen) == 1


def test_storage_that_is_down_is_named(serve: Serve) -> None:
    down = serve(lambda handler: handler.respond(200))
    down.shutdown()
    down.server_close()
    location = ("Location", f"http://{down.host}/blob")
    server = serve(lambda handler: handler.respond(307, b"", location))
    with pytest.raises(ModelshipError, match=f"^{down.host}, to which .* is unreachable .connection refused"):
        Repository(server.host, "digits", Access()).blob_json(DIGEST)


def test_a_token_service_that_is_busy_is_asked_again(serve: Serve) -> None:
    statuses = iter([503, 429, 200])
    service = serve(lambda handler: handler.respond(next(statuses), b'{"access_token": "t"}'))

    def action(handler: Handler) -> None:
        if handler.headers.get("Authorization") == "Bearer t":
            handler.respond(200)
        else:
            handler.respond(401, b"", ("WWW-Authenticate", f'Bearer realm="http://{service.host}/token"'))

    Repository(serve(action).host, "digits", Access()).check()
    assert len(service.seen) == 3
    broken = serve(lambda handler: handler.respond(500))
    challenge = ("WWW-Authenticate", f'Bearer realm="http://{broken.host}/token"')
    server = serve(lambda handler: handler.respond(401, b"", challenge))
    with pytest.raises(ModelshipError, match=f"has a token service, http://{broken.host}, that responds with 500"):
        Repository(server.host, "digits", Access()).has_blob(DIGEST, 0)
    assert len(broken.seen) == Access().attempts


def test_a_token_service_that_redirects_elsewhere_does_not_take_the_password_along(serve: Serve) -> None:
    other = serve(lambda handler: handler.respond(200, b'{"token": "anonymous"}'))
    service = serve(lambda handler: handler.respond(302, b"", ("Location", f"http://{other.host}/token")))

    def action(handler: Handler) -> None:
        if handler.headers.get("Authorization") == "Bearer anonymous":
            handler.respond(200)
        else:
            handler.respond(401, b"", ("WWW-Authenticate", f'Bearer realm="http://{service.host}/token"'))

    Repository(serve(action).host, "digits", Access(**LOGIN)).check()
    assert service.authorizations() == [BASIC]
    assert other.authorizations() == [None]


def test_no_password_is_sent_to_a_token_service_without_tls(serve: Serve, certificates: Certificates) -> None:
    service = serve(lambda handler: handler.respond(200, b'{"token": "t"}'))
    challenge = ("WWW-Authenticate", f'Bearer realm="http://{service.host}/token"')
    server = serve(lambda handler: handler.respond(401, b"", challenge), certificates)
    with pytest.raises(ModelshipError, match="to which no password is sent, because it has no TLS"):
        Repository(server.host, "digits", Access(ca_path=str(certificates.ca), **LOGIN)).has_blob(DIGEST, 0)
    assert service.seen == []


@pytest.mark.parametrize("token", ["a\r\nX-Other: b", "é", 5, None])
def test_a_token_that_cannot_be_sent_is_reported(token: t.Any, serve: Serve) -> None:
    service = serve(lambda handler: handler.respond(200, json.dumps({"token": token}).encode()))
    challenge = ("WWW-Authenticate", f'Bearer realm="http://{service.host}/token"')
    server = serve(lambda handler: handler.respond(401, b"", challenge))
    with pytest.raises(ModelshipError, match="whose response holds no token"):
        Repository(server.host, "digits", Access()).has_blob(DIGEST, 0)


def test_a_password_that_the_registry_repeats_is_redacted(serve: Serve) -> None:
    message = json.dumps({"errors": [{"message": f"no s3cret,\nno {BASIC[6:]}"}]}).encode()
    server = serve(lambda handler: handler.respond(403, message))
    with pytest.raises(ModelshipError, match=r"\(no <redacted>, no <redacted>\)"):
        Repository(server.host, "digits", Access(**LOGIN)).blob_json(DIGEST)
