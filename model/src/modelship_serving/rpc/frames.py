# SPDX-License-Identifier: GPL-3.0-or-later
"""The frames of HTTP/2 (RFC 9113), the fields in them, and what can be wrong with either."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITIZED = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR = 0, 1, 3, 5, 6
REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 7, 8, 9, 11
SET_TABLE, SET_PUSH, SET_STREAMS, SET_WINDOW, SET_FRAME, SET_LIST = range(1, 7)  # SETTINGS_…

MAX_FRAME = 16384
MAX_STREAMS = 256
MAX_WINDOW = 2**31 - 1
MAX_BLOCK = 16384

header = struct.Struct(">HBBBI")
setting = struct.Struct(">HI")
word = struct.Struct(">I")


_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_value = re.compile(r"[^\0\r\n]*").fullmatch
_PSEUDO, _REQUIRED = (
    frozenset({":method", ":scheme", ":path", ":authority"}),
    frozenset({":method", ":scheme", ":path"}),
)
#: What belongs to a connection of HTTP/1.
_NEVER = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame as it goes over the wire."""
    length = len(payload)
    return header.pack(length >> 8, length & 0xFF, kind, flags, stream) + payload


class ProtocolError(Exception):
    """What the peer did ends the connection (GOAWAY with this code)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def unpad(payload: bytes, flags: int) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]


def malformed(fields: Iterable[tuple[str, str]], trailers: bool = False) -> bool:
    """Return whether the fields of a request, or of its *trailers*, break the rules of sections 8.2 and 8.3."""
    seen: set[str] = set()
    ordinary = trailers
    for name, value in fields:
        if name.startswith(":"):
            if ordinary or name in seen or name not in _PSEUDO:
                return True
            seen.add(name)
        else:
            ordinary = True
            if not _name(name) or name in _NEVER or (name == "te" and value != "trailers"):
                return True
        if not _value(value):
            return True
    return not trailers and not seen >= _REQUIRED
