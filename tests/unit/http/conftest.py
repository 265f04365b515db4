"""Servers on loopback, a forward proxy, and no proxies of the machine that runs the tests."""

from __future__ import annotations

import shutil
import typing as t

import pytest

from .servers import Certificates, ForwardProxy, Handler, Server, make_certificates

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is needed to make certificates")
    names = ["IP:127.0.0.1", "DNS:localhost", "DNS:registry.example", "DNS:auth.example"]
    return make_certificates(tmp_path_factory.mktemp("certificates"), names)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr("time.sleep", lambda _seconds: None)


Serve = t.Callable[..., Server]


@pytest.fixture
def serve() -> t.Iterator[Serve]:
    """Start a server that responds as the given function says, with TLS if certificates are given."""
    running: list[Server] = []

    def start(action: t.Callable[[Handler], None], tls: Certificates | None = None) -> Server:
        running.append(Server(action, tls))
        return running[-1]

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def forward_proxy() -> t.Iterator[ForwardProxy]:
    proxy = ForwardProxy({})
    yield proxy
    proxy.shutdown()
    proxy.server_close()
