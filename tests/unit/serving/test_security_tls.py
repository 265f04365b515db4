from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving.errors import StartError
from modelship_serving.logs import Log
from modelship_serving.security.tls import ServerContext, server_context
from modelship_serving.settings import Settings
from tests.certificates import Authority, private_pem

LOG = Log("error")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def context_of(authority: Authority, **settings: Any) -> ServerContext:
    certificate, key = authority.issue("server")
    values = {"tls_cert": certificate, "tls_key": key, **settings}
    made = server_context(Settings(**{name: str(value) for name, value in values.items()}))
    assert made is not None
    return made


def connect(server: ssl.SSLContext, ca: Path, chain: tuple[Path, Path] | None = None, **limits: Any) -> dict[str, Any]:
    """Shake hands over a socket pair; what each side saw, or ``error`` of the client or ``refused`` of the server."""
    ours, theirs = socket.socketpair()
    seen: dict[str, Any] = {}

    def serve() -> None:
        try:
            with server.wrap_socket(ours, server_side=True) as stream:
                seen["certificate"] = stream.getpeercert()
                stream.sendall(b"x")
                stream.recv(1)
        except OSError as exc:
            seen["refused"] = exc
            ours.close()

    thread = threading.Thread(target=serve)
    thread.start()
    client = ssl.create_default_context(cafile=str(ca))
    client.set_alpn_protocols(["h2", "http/1.1"])
    for name, value in limits.items():
        setattr(client, name, value)
    if chain:
        client.load_cert_chain(*map(str, chain))
    try:
        with client.wrap_socket(theirs, server_hostname="localhost") as stream:
            stream.recv(1)
            seen.update(version=stream.version(), cipher=stream.cipher(), alpn=stream.selected_alpn_protocol())
            seen["serial"] = (stream.getpeercert() or {}).get("serialNumber")
            stream.sendall(b"x")
    except OSError as exc:
        seen["error"] = exc
        theirs.close()
    thread.join(20)
    assert not thread.is_alive()
    return seen


def test_no_setting_is_no_tls():
    assert server_context(Settings()) is None


def test_modern_versions_and_ciphers_only(authority: Authority):
    server = context_of(authority)
    seen = connect(server, authority.ca)
    assert (seen["version"], seen["alpn"], seen["certificate"]) == ("TLSv1.3", "http/1.1", None)
    older = connect(server, authority.ca, maximum_version=ssl.TLSVersion.TLSv1_2)
    assert older["version"] == "TLSv1.2"
    assert "ECDHE" in older["cipher"][0]
    assert "GCM" in older["cipher"][0] or "CHACHA20" in older["cipher"][0]
    names = {item["name"] for item in server.get_ciphers() if item["protocol"] == "TLSv1.2"}
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "CHACHA20" in name) for name in names)
    assert server.minimum_version == ssl.TLSVersion.TLSv1_2


def test_alpn_is_the_listeners(authority: Authority):
    certificate, key = authority.issue("server")
    made = server_context(Settings(tls_cert=str(certificate), tls_key=str(key)), alpn=("h2",))
    assert made is not None
    assert connect(made, authority.ca)["alpn"] == "h2"


def test_changed_files_are_taken_by_new_connections(authority: Authority):
    server = context_of(authority)
    before = connect(server, authority.ca)["serial"]
    assert not server.reload(LOG)
    authority.issue("server")
    assert connect(server, authority.ca)["serial"] == before
    assert server.reload(LOG)
    after = connect(server, authority.ca)
    assert after["serial"] != before
    assert after["alpn"] == "http/1.1"
    assert not server.reload(LOG)


def test_half_a_pair_changes_nothing_until_the_other_half_comes(authority: Authority, capfd: Any):
    server = context_of(authority)
    before = connect(server, authority.ca)["serial"]
    old_key = (authority.folder / "server.key").read_bytes()
    _certificate, key = authority.issue("server")
    new_key = key.read_bytes()
    key.write_bytes(old_key)
    assert not server.reload(Log("warning"))
    assert not server.reload(Log("warning"))
    assert connect(server, authority.ca)["serial"] == before
    said = capfd.readouterr().err
    assert len(said.splitlines()) == 1
    assert "does not belong to" in said
    key.write_bytes(new_key)
    assert server.reload(LOG)
    assert connect(server, authority.ca)["serial"] != before


def test_files_that_are_gone_leave_the_old_ones_in_use(authority: Authority):
    server = context_of(authority)
    (authority.folder / "server.crt").unlink()
    assert not server.reload(LOG)
    assert connect(server, authority.ca)["serial"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_client_certificates_must_be_of_the_authority(tmp_path: Path, authority: Authority, version: ssl.TLSVersion):
    other = Authority(tmp_path, "other authority")
    server = context_of(authority, tls_client_ca=authority.ca)
    limits = {"maximum_version": version}
    seen = connect(server, authority.ca, authority.issue("alice"), **limits)
    assert (("commonName", "alice"),) in seen["certificate"]["subject"]
    assert connect(server, authority.ca, **limits)["certificate"] is None  # the gate's to judge
    wrong = connect(server, authority.ca, other.issue("mallory"), **limits)
    assert isinstance(wrong["refused"], ssl.SSLCertVerificationError)
    assert "serial" not in wrong or "error" in wrong


def test_a_replaced_client_authority_no_longer_lets_its_clients_in(tmp_path: Path, authority: Authority):
    other = Authority(tmp_path, "other authority")
    allowed = tmp_path / "clients.crt"
    allowed.write_bytes(authority.ca.read_bytes())
    server = context_of(authority, tls_client_ca=allowed)
    old, new = authority.issue("old"), other.issue("new")
    assert connect(server, authority.ca, old)["certificate"]
    assert "refused" in connect(server, authority.ca, new)
    allowed.write_bytes(other.ca.read_bytes())
    assert server.reload(LOG)
    assert "refused" in connect(server, authority.ca, old)
    assert connect(server, authority.ca, new)["certificate"]


def broken(authority: Authority, what: str) -> tuple[dict[str, Path], str]:
    certificate, key = authority.issue("server")
    garbage = authority.folder / "garbage"
    garbage.write_bytes(b"\x00nothing")
    gone = authority.folder / "gone"
    if what == "mismatch":
        return {
            "tls_cert": certificate,
            "tls_key": authority.issue("another")[1],
        }, "MODELSHIP_TLS_KEY.*does not belong to"
    if what == "encrypted":
        from cryptography.hazmat.primitives.asymmetric import ec

        key.write_bytes(private_pem(ec.generate_private_key(ec.SECP256R1()), b"secret"))
        return {"tls_cert": certificate, "tls_key": key}, "MODELSHIP_TLS_KEY.*is encrypted"
    return {
        "missing": ({"tls_cert": gone, "tls_key": key}, "MODELSHIP_TLS_CERT=.*gone' cannot be read: no such file"),
        "missing key": ({"tls_cert": certificate, "tls_key": gone}, "MODELSHIP_TLS_KEY=.*gone' cannot be read"),
        "folder": (
            {"tls_cert": authority.folder, "tls_key": key},
            "MODELSHIP_TLS_CERT=.*cannot be read: is a directory",
        ),
        "garbage": ({"tls_cert": garbage, "tls_key": key}, "MODELSHIP_TLS_CERT=.*holds no certificate"),
        "garbage key": ({"tls_cert": certificate, "tls_key": garbage}, "MODELSHIP_TLS_KEY=.*holds no private key"),
        "garbage ca": (
            {"tls_cert": certificate, "tls_key": key, "tls_client_ca": garbage},
            "MODELSHIP_TLS_CLIENT_CA=.*holds no certificates",
        ),
    }[what]


@pytest.mark.parametrize(
    "what",
    ["mismatch", "encrypted", "missing", "missing key", "folder", "garbage",
     "garbage key", "garbage ca"],
)  # fmt: skip
def test_what_cannot_be_used_names_the_setting(authority: Authority, what: str):
    settings, message = broken(authority, what)
    with pytest.raises(StartError, match=message):
        server_context(Settings(**{name: str(path) for name, path in settings.items()}))
