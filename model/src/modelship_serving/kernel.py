# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel knows of a connection's other end, of which asyncio tells nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
import typing as t

#: Of ``struct tcp_info`` (linux/tcp.h): state, packets not acknowledged, bytes acknowledged, bytes not sent yet.
_tcp_info = struct.Struct("=B 23x I 92x Q 16x I")
_CLOSED = 7  # TCP_CLOSE


class Tcp(t.NamedTuple):
    """One moment of a connection.

    :param acknowledged: bytes that the other end has taken in, from the beginning; grows as long as it reads.
    :param waiting: there are more of them, which it has not.
    :param reset: it has ended the connection, and takes nothing any more.
    """

    acknowledged: int
    waiting: bool
    reset: bool


def tcp(transport: asyncio.BaseTransport) -> Tcp:
    """Return what is known now; with TLS it is about what was encrypted."""
    connection = transport.get_extra_info("socket")
    try:
        data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _tcp_info.size)
    except OSError:
        return Tcp(0, False, True)
    # What an old kernel does not tell is 0.
    state, unacknowledged, acknowledged, unsent = _tcp_info.unpack(data.ljust(_tcp_info.size, b"\0"))
    return Tcp(acknowledged, bool(unacknowledged or unsent), state == _CLOSED)
