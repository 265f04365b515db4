"""A loopback HTTPS server that answers as a test tells it, and the certificates for it."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import socket
import ssl
import struct
import subprocess
import threading
import time
import typing as t
from pathlib import Path


@dataclasses.dataclass
class Pki:
    """PEM files: an authority, another one, a server (127.0.0.1, localhost) and a client signed by the first."""

    ca: Path
    other_ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path


def make_pki(folder: Path) -> Pki:
    """Make the certificates in *folder* with openssl."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", "req", *curve, *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "other-ca"):
        openssl("-x509", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt")
    signed = ["-x509", "-CA", "ca.crt", "-CAkey", "ca.key"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=CA:FALSE"]
    openssl(*signed, *names, "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.crt")
    subject = ["-subj", "/O=testers/CN=tester", "-addext", "basicConstraints=CA:FALSE"]
    openssl(*signed, *subject, "-keyout", "client.key", "-out", "client.crt")
    return Pki(
        *(folder / name for name in ("ca.crt", "other-ca.crt", "server.crt", "server.key", "client.crt", "client.key"))
    )


@dataclasses.dataclass
class Seen:
    """A request that the server got; *connection* counts them from 0."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    at: float


class Scripted(http.server.ThreadingHTTPServer):
    """Answers each request with the next action of ``script``, and ``otherwise`` when that is empty.

    An action is called with the handler, and does what it likes with the connection.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, pki: Pki | None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.script: list[t.Callable[[Handler], None]] = []
        self.otherwise: t.Callable[[Handler], None] = answer({"kind": "Nothing"})
        self.seen: list[Seen] = []
        self.connections = 0
        self.peers: list[str] = []
        self.open: list[socket.socket] = []
        self.lock = threading.Lock()
        self.scheme = "https" if pki else "http"
        if pki:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pki.server, pki.server_key)
            context.load_verify_locations(pki.ca)
            context.verify_mode = ssl.CERT_OPTIONAL
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Go away as a killed server does: the listening socket and all connections."""
        self.shutdown()
        self.server_close()
        for sock in self.open:
            # not closed here: its thread still reads from that descriptor, whose number the next connection would get
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """Clients that go away are part of the tests."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Scripted

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.number = self.server.connections
            self.server.connections += 1
            self.server.open.append(self.request)

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with self.server.lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.server.seen.append(Seen(self.command, self.path, headers, body, self.number, time.monotonic()))
            if isinstance(self.request, ssl.SSLSocket):
                subject = dict(part[0] for part in (self.request.getpeercert() or {}).get("subject", ()))
                self.server.peers.append(subject.get("commonName", ""))
            action = self.server.script.pop(0) if self.server.script else self.server.otherwise
        action(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any  # noqa: N815 - http.server's names

    def log_message(self, *_arguments: t.Any) -> None:
        """Be quiet."""


def reset(sock: socket.socket) -> None:
    """Break a connection off with a TCP reset."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # what wraps the descriptor in TLS would say goodbye first
        socket.socket(fileno=sock.detach()).close()
    except OSError:
        pass


def answer(content: t.Any, status: int = 200, **headers: str) -> t.Callable[[Handler], None]:
    """Answer with JSON; an underscore in a header's name stands for a hyphen."""

    def act(handler: Handler) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return act


def refuse(
    status: int, message: str = "no", reason: str = "", causes: t.Sequence[t.Any] = (), **headers: str
) -> t.Callable[[Handler], None]:
    """Answer with a ``Status`` as an API server does."""
    details = {"causes": list(causes)}
    content = {
        "kind": "Status",
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": status,
        "details": details,
    }
    return answer(content, status, **headers)


def cut(handler: Handler) -> None:
    """Reset the connection instead of answering."""
    reset(handler.request)
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    """Close the connection instead of answering."""
    handler.close_connection = True


def events(*lines: t.Any, after: t.Callable[[Handler], None] | None = None) -> t.Callable[[Handler], None]:
    """Answer a watch with *lines*, then end it, or do *after* with the connection."""

    def act(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for line in lines:
            data = json.dumps(line).encode() + b"\n"
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        if after is None:
            handler.wfile.write(b"0\r\n\r\n")
        else:
            after(handler)

    return act
