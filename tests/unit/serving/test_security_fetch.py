"""Fetching keys over https from real servers that redirect, drip, never end or say too much."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving.security.fetch import fetch
from tests.certificates import Authority

Answer = Callable[[BaseHTTPRequestHandler], None]
MOST = 1 << 16


class Site:
    """Servers of one test, over TLS and without; ``asked`` lists the paths that they were asked for."""

    def __init__(self, authority: Authority) -> None:
        self.asked: list[str] = []
        self.gone = threading.Event()
        self.routes: dict[str, Answer] = {}
        self._stack = contextlib.ExitStack()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, authority.issue("issuer")))
        self.secure = f"https://localhost:{self._start(context)}"
        self.plain = f"http://localhost:{self._start(None)}"

    def _start(self, context: ssl.SSLContext | None) -> int:
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                try:
                    site.routes[self.path](self)
                except OSError:
                    site.gone.set()

            def log_message(self, *_arguments: Any) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()

        def stop() -> None:
            server.shutdown()
            thread.join()
            server.socket.close()

        self._stack.callback(stop)
        return server.server_port

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Site(authority)
    yield made
    made.close()


def say(body: bytes, status: int = 200, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def drip(start: bytes) -> Answer:
    """Send *start*, then a byte every now and then for ever."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(start)
        while True:
            time.sleep(0.05)
            handler.wfile.write(b"a")

    return answer


def fails(kind: type[Exception], url: str, seconds: float = 5.0, text: str | None = None) -> None:
    began = time.monotonic()
    with pytest.raises(kind, match=text):
        fetch(url, seconds, MOST)
    assert time.monotonic() - began < seconds + 1


def test_a_document_comes_by_redirects_over_https(site: Site):
    site.routes |= {
        "/keys": say(b"x", 307, location="/moved"),
        "/moved": say(b"x", 302, location=f"{site.secure}/end"),
        "/end": say(b"{}"),
    }
    assert fetch(f"{site.secure}/keys", 5.0, MOST) == b"{}"
    assert site.asked == ["/keys", "/moved", "/end"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_hop_is_plain_http(site: Site, status: int):
    """Nor on the way back to https, and nothing is asked there."""
    site.routes |= {
        "/keys": say(b"", status, location=f"{site.plain}/back"),
        "/back": say(b"", 302, location=f"{site.secure}/end"),
        "/end": say(b"{}"),
    }
    fails(ValueError, f"{site.secure}/keys", text="is not an https address")
    assert site.asked == ["/keys"]
    fails(ValueError, f"{site.plain}/back", text="is not an https address")
    assert site.asked == ["/keys"]


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://localhost/x", "data:,x", "https://@localhost/x"])
def test_no_hop_is_anything_else(site: Site, location: str):
    site.routes["/keys"] = say(b"", 302, location=location)
    fails(ValueError, f"{site.secure}/keys")


def test_redirects_end(site: Site):
    site.routes["/keys"] = say(b"", 302, location="/keys")
    fails(ValueError, f"{site.secure}/keys", text="redirects")
    assert len(site.asked) == 4


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: ",
        b"HTTP/1.1 200 ",
        b"",
    ],
)
def test_a_server_that_drips_is_given_up_in_time(site: Site, start: bytes):
    site.routes["/keys"] = drip(start)
    fails(TimeoutError, f"{site.secure}/keys", seconds=0.6)
    assert site.gone.wait(3), "the connection is closed too"


def test_hops_have_one_deadline_together(site: Site):
    def slow(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.4)
        say(b"", 302, location="/keys")(handler)

    site.routes["/keys"] = slow
    fails(TimeoutError, f"{site.secure}/keys", seconds=0.6)
    assert len(site.asked) <= 2


def test_the_body_of_a_redirect_is_not_waited_for(site: Site):
    site.routes |= {
        "/keys": drip(b"HTTP/1.1 302 Found\r\nlocation: /end\r\n\r\n"),
        "/end": say(b"{}"),
    }
    assert fetch(f"{site.secure}/keys", 5.0, MOST) == b"{}"


def test_a_server_that_does_not_even_begin_tls_is_given_up_in_time(site: Site):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fails(TimeoutError, f"https://localhost:{silent.getsockname()[1]}/", seconds=0.4)


def test_a_name_that_does_not_resolve_in_time_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch):
    release = threading.Event()
    original = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **more: (release.wait(5), original(*given, **more))[1])
    fails(TimeoutError, f"{site.secure}/keys", seconds=0.3)
    release.set()


def test_no_more_is_read_than_may_be(site: Site):
    site.routes |= {"/most": say(b"x" * MOST), "/more": say(b"x" * (MOST + 1))}
    assert len(fetch(f"{site.secure}/most", 5.0, MOST)) == MOST
    fails(ValueError, f"{site.secure}/more", text="more than")


@pytest.mark.parametrize("status", [204, 300, 304, 404, 500])
def test_only_200_is_a_document(site: Site, status: int):
    site.routes["/keys"] = say(b"", status)
    fails(ValueError, f"{site.secure}/keys", text=f"status {status}")


def test_a_server_that_is_not_trusted_is_not_asked(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    site.routes["/keys"] = say(b"{}")
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(Authority(tmp_path / "other").ca))
    fails(OSError, f"{site.secure}/keys", text="CERTIFICATE_VERIFY_FAILED")
    assert site.asked == []


def test_nonsense_is_an_error(site: Site):
    site.routes["/keys"] = lambda handler: handler.wfile.write(b"nonsense\r\n\r\n") and None
    fails(http.client.HTTPException, f"{site.secure}/keys")


def test_a_proxy_of_the_environment_sees_a_tunnel(site: Site, monkeypatch: pytest.MonkeyPatch):
    seen: list[bytes] = []

    def forward(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                seen.append(part)
                target.sendall(part)

    def serve(listener: socket.socket) -> None:
        client, _address = listener.accept()
        request = client.recv(65536)
        seen.append(request)
        with client, socket.create_connection(("127.0.0.1", int(site.secure.rpartition(":")[2]))) as server:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=forward, args=(server, client))
            back.start()
            forward(client, server)
            server.shutdown(socket.SHUT_RDWR)
            back.join()

    site.routes["/keys"] = say(b'{"a": "document"}')
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setenv("no_proxy", "")
        assert fetch(f"{site.secure}/keys", 5.0, MOST) == b'{"a": "document"}'
        thread.join(5)
    assert seen[0].startswith(b"CONNECT localhost:")
    assert b"document" not in b"".join(seen)


def test_an_authority_without_the_extensions_of_strict_checks_is_trusted(site: Site, monkeypatch: pytest.MonkeyPatch):
    """Python checks strictly by default from 3.13 on."""
    original = ssl.create_default_context

    def strict(*given: Any, **more: Any) -> ssl.SSLContext:
        context = original(*given, **more)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    monkeypatch.setattr(ssl, "_create_default_https_context", strict)
    site.routes["/keys"] = say(b"{}")
    assert fetch(f"{site.secure}/keys", 5.0, MOST) == b"{}"
