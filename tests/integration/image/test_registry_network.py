"""image_push against real registries behind a forward proxy, with a token service, with a site's own authority, read-only."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import time
import typing as t
import urllib.parse
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.content import canonical_json, sha256_bytes
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._oci import descriptors
from ansible_collections.modelship.core.plugins.module_utils._oci.layers import write_layer
from ansible_collections.modelship.core.plugins.module_utils._oci.layout import Layout
from ansible_collections.modelship.core.plugins.module_utils._oci.platforms import parse_platform
from ansible_collections.modelship.core.plugins.module_utils._oci.push import push_image
from ansible_collections.modelship.core.plugins.module_utils._oci.tree import Tree
from tests.unit.http.servers import ForwardProxy, Handler, Server, make_certificates

from .conftest import PASSWORD, USER, Start

pytestmark = pytest.mark.integration

SERVICE, ISSUER = "registry", "tokens"


@pytest.fixture
def layout(tmp_path: Path) -> str:
    """An OCI layout with one image of 3 MB."""
    platform = parse_platform(None)
    tree = Tree()
    tree.add_bytes("base", hashlib.shake_128(b"base").digest(3 << 20))
    blobs = tmp_path / "blobs"
    layers = [write_layer(tree, "base", str(blobs))]
    config = canonical_json(descriptors.configuration(platform.architecture, {}, layers)).rstrip(b"\n")
    manifest = descriptors.manifest(sha256_bytes(config), len(config), layers)
    made = Layout(str(tmp_path / "layout"))
    made.install("digits", manifest, config, platform.as_document(), lambda digest: str(blobs / digest.split(":")[1]))
    return str(tmp_path / "layout")


def push(
    layout: str, repository: str, *, check: bool = False, progress: Path | None = None, **options: t.Any
) -> Outcome:
    context = Context(check=check, progress=Progress(str(progress) if progress else None))
    return push_image({"layout": layout, "repository": repository, **options}, context)


class TokenService:
    """Issues the tokens that *rights* allow, signed so that a real registry accepts them.

    :param rights: repository to the actions on it; of what is asked for, that much is granted.
    :param strict: what is not allowed as a whole is refused, as some services do.
    """

    def __init__(self, folder: Path, rights: dict[str, set[str]], *, strict: bool) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import rsa
        from cryptography.x509.oid import NameOID

        self.rights, self.strict = rights, strict
        self.asked: list[list[str]] = []
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(self._key, hashes.SHA256())
        )
        self.bundle = folder / "tokens.pem"
        self.bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self._chain = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()

    def __call__(self, handler: Handler) -> None:
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if handler.headers.get("Authorization") != f"Basic {expected}":
            handler.respond(401)
            return
        scopes = urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query).get("scope", [])
        self.asked.append(scopes)
        access = []
        for scope in scopes:
            _kind, repository, actions = scope.split(":")
            granted = sorted(set(actions.split(",")) & self.rights.get(repository, set()))
            if self.strict and len(granted) < len(actions.split(",")):
                handler.respond(403)
                return
            access.append({"type": "repository", "name": repository, "actions": granted})
        handler.respond(200, json.dumps({"token": self._token(access)}).encode())

    def _token(self, access: list[dict[str, t.Any]]) -> str:
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        now = int(time.time())
        claims = {"iss": ISSUER, "sub": USER, "aud": SERVICE, "nbf": now - 10, "iat": now, "exp": now + 300, "jti": "1"}
        header = {"typ": "JWT", "alg": "RS256", "x5c": [self._chain]}
        parts = [_encoded(json.dumps(part).encode()) for part in (header, {**claims, "access": access})]
        signature = self._key.sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
        return ".".join([*parts, _encoded(signature)])


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize(
    ("rights", "strict", "mounted"),
    [
        ({"team/base": {"pull", "push"}, "team/digits": {"pull", "push"}}, True, True),
        ({"team/digits": {"pull", "push"}}, True, False),
        ({"team/digits": {"pull", "push"}}, False, False),
    ],
    ids=["both", "refused", "part"],
)
def test_layers_are_mounted_with_the_tokens_rights_or_uploaded(
    rights: dict[str, set[str]], strict: bool, mounted: bool, start_registry: Start, layout: str, tmp_path: Path
) -> None:
    tokens = TokenService(tmp_path, {"team/base": {"pull", "push"}}, strict=strict)
    service = Server(tokens)
    auth = {
        "token": {
            "realm": f"http://{service.host}/token",
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": str(tokens.bundle),
        }
    }
    registry = start_registry(more={"auth": auth})
    login = {"username": USER, "password": PASSWORD}
    assert push(layout, f"{registry.host}/team/base", **login).changed
    tokens.rights = rights
    tokens.asked.clear()
    steps = tmp_path / "steps"
    outcome = push(layout, f"{registry.host}/team/digits", mount_from=["team/base"], progress=steps, **login)
    assert outcome.changed
    assert ["repository:team/digits:pull,push", "repository:team/base:pull"] in tokens.asked
    assert not push(layout, f"{registry.host}/team/digits", **login).changed
    lines = [line for line in steps.read_text().splitlines() if "another repository" in line]
    assert len(lines) == (2 if mounted else 0)
    with pytest.raises(ModelshipError, match="refuses the credentials of 'mallory'"):
        push(layout, f"{registry.host}/team/digits", username="mallory", password="guess")
    service.shutdown()
    service.server_close()


def test_a_push_through_a_forward_proxy_with_a_password(
    start_registry: Start, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = make_certificates(tmp_path, ["DNS:registry.example"])
    registry = start_registry(auth=True, tls=(certificates.server, certificates.key))
    proxy = ForwardProxy({"registry.example:443": int(registry.host.partition(":")[2])})
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,registry.example:5000")
    options = {"ca_path": str(certificates.ca), "username": USER, "password": PASSWORD}
    monkeypatch.setenv("HTTPS_PROXY", proxy.host)
    with pytest.raises(ModelshipError, match=f"the proxy {proxy.host} did not connect to .* requires credentials .407"):
        push(layout, "registry.example/team/digits", **options)
    monkeypatch.setenv("HTTPS_PROXY", f"ann:p%3Aw%40@{proxy.host}")
    first = push(layout, "registry.example/team/digits", **options)
    assert first.changed
    assert first.result["push"]["reference"].startswith("registry.example/team/digits@sha256:")
    assert not push(layout, "registry.example/team/digits", **options).changed
    assert set(proxy.targets) == {"registry.example:443"}
    proxy.shutdown()
    proxy.server_close()


def test_a_push_to_a_read_only_registry(start_registry: Start, layout: str, tmp_path: Path) -> None:
    storage = {
        "filesystem": {"rootdirectory": str(tmp_path / "data")},
        "maintenance": {"readonly": {"enabled": True}},
    }
    registry = start_registry(more={"storage": storage})
    predicted = push(layout, f"{registry.host}/team/digits", check=True)
    assert predicted.changed
    with pytest.raises(ModelshipError, match=r"accepts no uploads \(405 on POST .*: it is read-only") as caught:
        push(layout, f"{registry.host}/team/digits")
    assert caught.value.kind == "registry_read_only"


def test_an_upload_that_the_network_breaks_is_repeated(
    start_registry: Start, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy cuts the first two tunnels after 1 MB."""
    certificates = make_certificates(tmp_path, ["DNS:registry.example"])
    registry = start_registry(tls=(certificates.server, certificates.key))
    proxy = ForwardProxy({"registry.example:443": int(registry.host.partition(":")[2])})
    proxy.cuts = [1 << 20, 1 << 20]
    monkeypatch.setenv("https_proxy", f"http://ann:p%3Aw%40@{proxy.host}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    options = {"ca_path": str(certificates.ca)}
    assert push(layout, "registry.example/team/digits", **options).changed
    assert proxy.cuts == []
    assert not push(layout, "registry.example/team/digits", **options).changed
    proxy.shutdown()
    proxy.server_close()
