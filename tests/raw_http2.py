"""A client that speaks HTTP/2 frame by frame, to ask what no library would, and to see what exactly comes back."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import ssl
import struct
from collections.abc import Iterator

from modelship_serving.rpc.hpack import Decoder, encode

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
SERVICE = "/inference.GRPCInferenceService/"


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def block(method: str, **more: str) -> bytes:
    """The header block of a call; a *method* without a slash is one of the inference service."""
    path = method if "/" in method else SERVICE + method
    fields = {":method": "POST", ":scheme": "http", ":path": path, "content-type": "application/grpc", "te": "trailers"}
    return encode([*fields.items(), *((name.replace("_", "-"), value) for name, value in more.items())])


def message(data: bytes) -> bytes:
    return b"\x00" + len(data).to_bytes(4, "big") + data


@dataclasses.dataclass
class Reply:
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    data: bytes = b""

    @property
    def status(self) -> int:
        return int(self.headers["grpc-status"])


class Client:
    """One connection."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, greet: bytes = PREFACE + frame(SETTINGS)) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="127.0.0.1")
        self._rest = b""
        self._decoder = Decoder()
        self._next = 1
        self.socket.sendall(greet)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of all frames until the server closes the connection."""
        while True:
            while len(self._rest) >= 9 and len(self._rest) >= 9 + (size := int.from_bytes(self._rest[:3], "big")):
                kind, flags, stream = struct.unpack(">BBI", self._rest[3:9])
                payload, self._rest = self._rest[9 : 9 + size], self._rest[9 + size :]
                yield kind, flags, stream, payload
            chunk = b""
            with contextlib.suppress(ConnectionError):
                chunk = self.socket.recv(65536)
            if not chunk:
                return
            self._rest += chunk

    def until(self, kind: int) -> tuple[int, int, bytes] | None:
        """Flags, stream and payload of the next frame of this *kind*; ``None``: the connection was closed before."""
        return next((found[1:] for found in self.frames() if found[0] == kind), None)

    def call(self, method: str, data: bytes = b"", **more: str) -> Reply:
        """Ask, and return the answer to that."""
        stream, self._next = self._next, self._next + 2
        self.send(frame(HEADERS, END_HEADERS, stream, block(method, **more)))
        body = message(data)
        for place in range(0, len(body), 16384):
            self.send(frame(DATA, 0, stream, body[place : place + 16384]))
        self.send(frame(DATA, END_STREAM, stream))
        return self.answer(stream)

    def answer(self, wanted: int) -> Reply:
        """Wait for the answer over one stream."""
        reply = Reply()
        for kind, flags, stream, payload in self.frames():
            if kind == HEADERS:
                fields = dict(self._decoder.decode(payload))
                if stream == wanted:
                    reply.headers |= fields
            elif kind == DATA and stream == wanted:
                reply.data += payload
            elif kind == RST_STREAM and stream == wanted:
                raise ConnectionError(f"reset, code {int.from_bytes(payload, 'big')}")
            if stream == wanted and kind in (HEADERS, DATA) and flags & END_STREAM:
                return reply
        raise ConnectionError("closed before the answer")
