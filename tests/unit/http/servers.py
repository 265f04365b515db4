"""Real servers on loopback: HTTP and HTTPS ones that respond as a test says, and a forward proxy with authentication."""

from __future__ import annotations

import base64
import dataclasses
import http.server
import select
import socket
import socketserver
import ssl
import subprocess
import threading
import typing as t
import urllib.parse
from pathlib import Path

USER, PASSWORD = "ann", "p:w@"
BASIC = "Basic " + base64.b64encode(b"deployer:s3cret").decode()


@dataclasses.dataclass
class Certificates:
    """PEM files: a certificate authority that strict verification rejects, and a server's certificate and key."""

    ca: Path
    server: Path
    key: Path


def make_certificates(folder: Path, names: t.Sequence[str]) -> Certificates:
    """Make certificates with openssl; the authority has neither key identifier nor key usage, as many sites' own ones."""
    config = folder / "openssl.cnf"
    config.write_text(
        "[req]\ndistinguished_name=name\nprompt=no\n[name]\nCN=site\n"
        "[ca]\nbasicConstraints=critical,CA:TRUE\n"
        f"[server]\nbasicConstraints=CA:FALSE\nsubjectAltName={','.join(names)}\n"
    )

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ["req", "-config", "openssl.cnf", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for name in ("ca", "server"):
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
    sign = ["x509", "-req", "-days", "2", "-extfile", "openssl.cnf"]
    openssl(*sign, "-in", "ca.csr", "-signkey", "ca.key", "-extensions", "ca", "-out", "ca.crt")
    signer = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
    openssl(*sign, "-in", "server.csr", *signer, "-extensions", "server", "-out", "server.crt")
    return Certificates(folder / "ca.crt", folder / "server.crt", folder / "server.key")


class Handler(http.server.BaseHTTPRequestHandler):
    """Hands every request to the server's action."""

    protocol_version = "HTTP/1.1"
    server: Server

    def respond(self, status: int, body: bytes = b"", *headers: tuple[str, str]) -> None:
        """Send a whole response."""
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        """Read the request's body."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_any(self) -> None:
        self.server.seen.append((self.command, self.path, dict(self.headers.items())))
        self.server.action(self)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_any  # noqa: N815 - the names that http.server asks for

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the test's output is pytest's."""


class Server(http.server.ThreadingHTTPServer):
    """Has *action* respond to each request; ``seen`` are method, path and headers of all of them."""

    daemon_threads = True

    def __init__(self, action: t.Callable[[Handler], None], certificates: Certificates | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.action = action
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.server, certificates.key)
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def authorizations(self) -> list[str | None]:
        """Return the header ``Authorization`` of each request."""
        return [headers.get("Authorization") for _method, _path, headers in self.seen]

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """Connections that break are part of the tests."""


class ForwardProxy(socketserver.ThreadingTCPServer):
    """A forward proxy for *ann*: tunnels (``CONNECT``), and plain requests with an absolute URL.

    :param ports: where on loopback the servers are that it knows as ``host:port``; others it does not resolve (502).
    :ivar cuts: after how many bytes to the server the first tunnels that carry that many are cut.
    :ivar targets: ``host:port`` of each request that it accepted.
    :ivar heads: request line and headers of every request.
    """

    daemon_threads = True

    def __init__(self, ports: dict[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), ProxyHandler)
        self.ports = ports
        self.cuts: list[int] = []
        self.targets: list[str] = []
        self.heads: list[list[str]] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """Connections that break are part of the tests."""


class ProxyHandler(socketserver.StreamRequestHandler):
    server: ForwardProxy
    rbufsize = 0

    def handle(self) -> None:
        while lines := self.head():
            self.server.heads.append(lines)
            method, url, _version = lines[0].split()
            wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if f"Proxy-Authorization: Basic {wanted}" not in lines:
                self.respond("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="proxy"')
                return
            parts = urllib.parse.urlsplit(url)
            target = url if method == "CONNECT" else f"{parts.hostname}:{parts.port or 80}"
            if target not in self.server.ports:
                self.respond("502 Bad Gateway")
                return
            self.server.targets.append(target)
            with socket.create_connection(("127.0.0.1", self.server.ports[target]), 10) as upstream:
                if method == "CONNECT":
                    self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                else:
                    kept = [line for line in lines[1:] if not line.startswith("Proxy-")]
                    path = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
                    first = f"{method} {path} HTTP/1.1"
                    upstream.sendall(("\r\n".join([first, *kept, "Connection: close"]) + "\r\n\r\n").encode())
                self.relay(upstream)
            return

    def head(self) -> list[str]:
        lines: list[str] = []
        while line := self.rfile.readline():
            if not line.strip():
                break
            lines.append(line.decode().strip())
        return lines

    def respond(self, status: str, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "Connection: close"]
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def relay(self, upstream: socket.socket) -> None:
        sent = 0
        while True:
            for source in select.select([self.request, upstream], [], [], 10)[0]:
                piece = source.recv(65536)
                if not piece:
                    return
                (upstream if source is self.request else self.request).sendall(piece)
                sent += len(piece) if source is self.request else 0
                if self.server.cuts and sent > self.server.cuts[0]:
                    self.server.cuts.pop(0)
                    return
