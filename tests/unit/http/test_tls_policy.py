"""One TLS policy: what one client of the collection trusts, all trust, whatever Python runs."""

from __future__ import annotations

import contextlib
import ssl
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._endpoint.http import Client
from ansible_collections.modelship.core.plugins.module_utils._http.tls import client_context
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api
from ansible_collections.modelship.core.plugins.module_utils._oci.registry import Repository
from ansible_collections.modelship.core.plugins.module_utils._oci.transport import Access
from ansible_collections.modelship.core.plugins.module_utils._service.ready import Ready, ask

from .conftest import Serve
from .servers import Certificates, Server, make_certificates


def kubernetes(ca: str, verify: bool = True) -> ssl.SSLContext:
    return load_access({"api_server": "https://127.0.0.1:1", "ca_path": ca, "validate_certs": verify}).ssl_context()[1]


def registry(ca: str, verify: bool = True) -> ssl.SSLContext:
    return Repository("127.0.0.1:1", "a", Access(ca_path=ca, validate_certs=verify)).transport._context()


def endpoint(ca: str, verify: bool = True) -> ssl.SSLContext:
    context = Client("https://127.0.0.1:1", ca_path=ca, validate_certs=verify)._connection._context
    assert context is not None
    return context


Make = t.Callable[..., ssl.SSLContext]
CLIENTS = pytest.mark.parametrize("make", [kubernetes, registry, endpoint])


@CLIENTS
def test_all_clients_have_the_same_settings(make: Make, certificates: Certificates) -> None:
    ca = str(certificates.ca)
    context, expected = make(ca), client_context(authority=certificates.ca.read_bytes())
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.get_ca_certs() == expected.get_ca_certs()
    assert context.get_ca_certs()
    for name in ("verify_flags", "options", "minimum_version", "maximum_version"):
        assert getattr(context, name) == getattr(expected, name)
    unverified = make(ca, False)
    assert (unverified.verify_mode, unverified.check_hostname) == (ssl.CERT_NONE, False)


def test_the_authority_is_one_that_strict_verification_rejects(serve: Serve, certificates: Certificates) -> None:
    """What Python 3.13's default context does, asked of the Python that runs the tests."""
    import socket

    server = serve(lambda handler: handler.respond(200), certificates)
    context = ssl.create_default_context(cafile=str(certificates.ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with socket.create_connection(("127.0.0.1", server.server_port)) as sock:
        with pytest.raises(ssl.SSLCertVerificationError):
            context.wrap_socket(sock, server_hostname="127.0.0.1")


def test_all_clients_accept_the_same_authority(serve: Serve, certificates: Certificates) -> None:
    server = serve(lambda handler: handler.respond(200, b"{}"), certificates)
    ca = str(certificates.ca)
    Repository(server.host, "digits", Access(ca_path=ca)).check()
    with contextlib.closing(Client(f"https://{server.host}", ca_path=ca)) as client:
        assert client.request("GET", "/").status == 200
    with Api(load_access({"api_server": f"https://{server.host}", "ca_path": ca}), timeout=10) as api:
        assert api.request("GET", "/api/v1/x") == {}
    assert ask(Ready(url=f"https://{server.host}/")).ready
    assert len(server.seen) == 4


@pytest.mark.parametrize("bundle", [True, False])
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_a_docker_engine_may_have_that_authority_too(
    bundle: bool, serve: Serve, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("docker")
    other = make_certificates(tmp_path, ["IP:127.0.0.1"])
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # which are not for the Engine, whose authority is an option
        if bundle:
            monkeypatch.setenv(name, str(other.ca))
        else:
            monkeypatch.delenv(name, raising=False)
    from ansible_collections.modelship.core.plugins.module_utils._docker.client import Docker

    version = b'{"ApiVersion": "1.44", "MinAPIVersion": "1.24"}'
    server = serve(lambda handler: handler.respond(200, version), certificates)
    host = f"tcp://{server.host}"
    docker = Docker({"docker_host": host, "ca_path": str(certificates.ca), "validate_certs": True})
    context = docker.api.get_adapter("https://").poolmanager.connection_pool_kw["ssl_context"]
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert docker.api.version()["ApiVersion"] == "1.44"
    Docker({"docker_host": host, "tls": True, "validate_certs": False})
    asked = len(server.seen)
    for options in ({"validate_certs": True}, {"validate_certs": True, "ca_path": str(other.ca)}):
        with pytest.raises(ModelshipError, match="CERTIFICATE_VERIFY_FAILED"):
            Docker({"docker_host": host, **options})
    assert len(server.seen) == asked


def test_all_clients_refuse_an_unknown_authority(
    serve: Serve, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda handler: handler.respond(200, b"{}"), certificates)

    def use_registry() -> None:
        Repository(server.host, "digits", Access(plain_http=False)).check()

    def use_endpoint() -> None:
        Client(f"https://{server.host}").request("GET", "/")

    def use_kubernetes() -> None:
        with Api(load_access({"api_server": f"https://{server.host}"}), timeout=10) as api:
            api.request("GET", "/api/v1/x")

    for act in (use_registry, use_endpoint, use_kubernetes):
        with pytest.raises(ModelshipError, match=r"its certificate is not trusted \(.*ca_path"):
            act()
    assert server.seen == []


def test_an_intermediate_authority_and_comments_are_accepted(certificates: Certificates, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes("# Zertifikat für die Fabrik\n".encode("latin-1") + certificates.ca.read_bytes())
    for make in (kubernetes, registry, endpoint):
        assert len(make(str(bundle)).get_ca_certs()) == 1


@CLIENTS
@pytest.mark.parametrize("content", [b"", b"no certificate", None])
def test_a_file_without_certificates_is_refused(make: Make, content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelshipError, match=r"ca\.pem|certificate authority"):
        make(str(path))


def test_a_plain_server_is_distinguished_from_an_untrusted_one(serve: Serve, certificates: Certificates) -> None:
    server: Server = serve(lambda handler: handler.respond(200))
    with pytest.raises(ModelshipError, match="it does not speak TLS there: set plain_http: true") as caught:
        Repository(server.host, "digits", Access(plain_http=False)).check()
    assert caught.value.kind == "registry_tls"
