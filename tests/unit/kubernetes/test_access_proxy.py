"""An API server behind an HTTP or a SOCKS5 proxy: both real ones, on loopback."""

from __future__ import annotations

import contextlib
import ipaddress
import select
import socket
import socketserver
import threading
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._kubernetes import transport
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api, ApiError

from .scripted_server import Pki, Scripted

FORBIDDEN = ("forbidden.example", "[fd00::1]")


class Proxy(socketserver.ThreadingTCPServer):
    """Relays to wherever it is asked to; ``targets`` are what it was asked for, ``kinds`` their types for SOCKS."""

    daemon_threads = True

    def __init__(self, handler: type[socketserver.BaseRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.targets: list[str] = []
        self.kinds: list[int] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """Connections that end are no errors here."""


def relay(client: socket.socket, host: str, port: int) -> None:
    with socket.create_connection((host, port), 10) as server:
        while True:
            for source in select.select([client, server], [], [], 10)[0]:
                piece = source.recv(65536)
                if not piece:
                    return
                (server if source is client else client).sendall(piece)


class HttpHandler(socketserver.StreamRequestHandler):
    """``CONNECT`` for ann with the password p:w@; C(FORBIDDEN) is forbidden."""

    server: Proxy
    rbufsize = 0

    def handle(self) -> None:
        lines = []
        while (line := self.rfile.readline().strip()) != b"":
            lines.append(line.decode())
        target = lines[0].split()[1]
        self.server.targets.append(target)
        if "Proxy-Authorization: Basic YW5uOnA6d0A=" not in lines:
            self.wfile.write(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
        elif target.startswith(FORBIDDEN):
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        else:
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            host, _colon, port = target.rpartition(":")
            relay(self.request, host, int(port))


class SocksHandler(socketserver.BaseRequestHandler):
    """SOCKS5 for ann with the password p:w@; C(FORBIDDEN) is forbidden."""

    server: Proxy

    def handle(self) -> None:
        take = self.request.recv
        _version, count = take(2)
        if 2 not in take(count):
            self.request.sendall(b"\x05\xff")
            return
        self.request.sendall(b"\x05\x02")
        user = take(take(2)[1])
        password = take(take(1)[0])
        if (user, password) != (b"ann", b"p:w@"):
            self.request.sendall(b"\x01\x01")
            return
        self.request.sendall(b"\x01\x00")
        *connect, kind = take(4)
        assert connect == [5, 1, 0]
        host = take(take(1)[0]).decode() if kind == 3 else str(ipaddress.ip_address(take({1: 4, 4: 16}[kind])))
        host = f"[{host}]" if kind == 4 else host
        self.server.kinds.append(kind)
        port = int.from_bytes(take(2), "big")
        self.server.targets.append(f"{host}:{port}")
        bound = b"\x00\x01" + ipaddress.ip_address("127.0.0.1").packed + b"\x00\x00"
        if host in FORBIDDEN:
            self.request.sendall(b"\x05\x02" + bound)
            return
        self.request.sendall(b"\x05\x00" + bound)
        relay(self.request, host, port)


@pytest.fixture(params=["http", "socks5"])
def proxy(request: pytest.FixtureRequest) -> t.Iterator[tuple[str, Proxy]]:
    server = Proxy(HttpHandler if request.param == "http" else SocksHandler)
    yield request.param, server
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transport, "FIRST_PATIENCE_S", 0.5)


def connect(server: Scripted, pki: Pki, proxy: str, url: str | None = None) -> contextlib.AbstractContextManager[Api]:
    return Api(load_access({"api_server": url or server.url, "ca_path": str(pki.ca), "api_proxy": proxy}), timeout=10)


def test_requests_go_through_it_over_one_connection(api_server: Scripted, pki: Pki, proxy: tuple[str, Proxy]) -> None:
    scheme, relaying = proxy
    with connect(api_server, pki, f"{scheme}://ann:p%3Aw%40@{relaying.address}") as api:
        for _number in range(3):
            assert api.request("GET", "/api/v1/x") == {"kind": "Nothing"}
    assert relaying.targets == [f"127.0.0.1:{api_server.port}"]
    assert relaying.kinds == ([1] if scheme == "socks5" else [])
    assert "proxy-authorization" not in api_server.seen[0].headers


@pytest.mark.parametrize("login", ["", "ann:wrong@"])
def test_a_wrong_password_is_told_without_it(
    api_server: Scripted, pki: Pki, proxy: tuple[str, Proxy], login: str
) -> None:
    scheme, relaying = proxy
    with connect(api_server, pki, f"{scheme}://{login}{relaying.address}") as api:
        with pytest.raises(ApiError, match=f"the proxy {relaying.address} did not connect to it: it ") as caught:
            api.request("GET", "/api/v1/x")
    assert "wrong" not in caught.value.message
    assert api_server.seen == []


@pytest.mark.parametrize(("host", "kind"), [*zip(FORBIDDEN, (3, 4), strict=True)])
def test_a_target_it_forbids(api_server: Scripted, pki: Pki, proxy: tuple[str, Proxy], host: str, kind: int) -> None:
    scheme, relaying = proxy
    url = f"https://{host}:6443"
    with connect(api_server, pki, f"{scheme}://ann:p%3Aw%40@{relaying.address}", url) as api:
        with pytest.raises(ApiError, match=f"the proxy {relaying.address} did not connect to it") as caught:
            api.request("GET", "/api/v1/x")
    assert url in caught.value.message
    assert relaying.targets == [f"{host}:6443"]
    assert relaying.kinds == ([kind] if scheme == "socks5" else [])


def test_a_proxy_that_is_not_there(api_server: Scripted, pki: Pki, proxy: tuple[str, Proxy]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with connect(api_server, pki, f"{proxy[0]}://{address}") as api:
        with pytest.raises(ApiError, match=f"through the proxy {address}: connection refused"):
            api.request("GET", "/api/v1/x")


def test_plain_http_through_an_http_proxy_names_the_whole_url(pki: Pki) -> None:
    standing_in = Scripted(None)  # as a proxy it would pass on what it is asked
    try:
        with connect(standing_in, pki, standing_in.url.replace("//", "//ann:p@"), "http://api.example:8080") as api:
            assert api.request("GET", "/api/v1/x") == {"kind": "Nothing"}
    finally:
        standing_in.stop()
    seen = standing_in.seen[0]
    assert seen.path == "http://api.example:8080/api/v1/x"
    assert seen.headers["proxy-authorization"] == "Basic YW5uOnA="
