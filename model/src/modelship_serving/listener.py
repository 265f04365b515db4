# SPDX-License-Identifier: GPL-3.0-or-later
"""The listening socket: one, which the workers share, and its end.

One socket for all, not one for each (``SO_REUSEPORT``): connections that wait to be accepted wait for whichever worker
comes first, so a worker that is killed takes only those with it that it had accepted.

Closing it must not lose connections that the kernel has already made for it. A TCP connection exists, and its client sends
its request, before the server accepts it. One that waits to be accepted when the listener closes is reset. So first the
kernel is told to take no new connection in, then what waits is accepted, and only then is the listener closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import socket
import ssl
import struct
import time
import typing as t
from collections import OrderedDict
from collections.abc import Sized

from .errors import StartError
from .logs import Log

#: Connections that wait to be accepted; the kernel turns away more.
_BACKLOG = 1024
#: Open files that are no connections of HTTP: models, libraries, connections that are being told that there are too many or
#: may make their handshake to be told.
_OTHER_FILES = 1024
#: Pause after the process has run out of file descriptors.
_PAUSE_SECONDS = 0.5
#: Handshakes count as connections. Where there are too many, one that has taken so long makes room for another; without
#: such a one so many go on, as only after it a client can be told, or get the place of a connection that has one.
_HANDSHAKE_SECONDS = 1.0
_HANDSHAKES = 256
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python has no name for it
#: Classic BPF over a TCP segment: drop it if the SYN flag (byte 13, bit 1) is set, pass it otherwise (linux/filter.h).
_DROP_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte at 13
        (0x45, 0, 1, 0x02),  # the SYN bit?
        (0x06, 0, 0, 0),  # yes: drop
        (0x06, 0, 0, 0xFFFFFFFF),  # no: pass it whole
    )
)


def turn_away_new_connections() -> int:
    """Drop the first packet of every new connection to this process's listening TCP sockets; return how many those are.

    The client's kernel tries again after a second: by then the listener is gone (refused), or another process that
    shares the port answers.
    """
    program = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    option = struct.pack("HP", len(_DROP_SYN) // 8, ctypes.addressof(program))
    found = 0
    for name in os.listdir("/proc/self/fd"):
        # Some are no sockets, and the one that lists this very folder is closed by now.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as candidate:
            if candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                candidate.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)
                found += 1
    return found


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that has the address, and does not listen yet.

    :raises StartError: the address cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _name, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as exc:
        raise StartError(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from None
    listener.setblocking(False)
    return listener


def allow_files(connections: int) -> None:
    """Raise the process's limit of open files, as far as it may, so that so many *connections* fit."""
    wanted = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Protocols(t.Protocol):
    """Makes the protocol of a connection, and knows how many there are."""

    max_connections: int

    def __call__(self) -> asyncio.BaseProtocol: ...

    @property
    def open(self) -> Sized:
        """The connections."""

    @property
    def rejected(self) -> t.Callable[[str], None]:
        """To be called with a reason of :data:`.metrics.REASONS` for a connection that is not wanted."""


class Acceptor:
    """Accepts a listening socket's connections for one worker.

    :param most: connections accepted in one turn of the event loop. With several workers 1: an idle one takes the next.
    :param handshake_seconds: for TLS.
    :param closing_seconds: for TLS, until a connection that is being closed is cut, whatever its client has read.
    """

    def __init__(
        self,
        listener: socket.socket,
        make: Protocols,
        context: ssl.SSLContext | None,
        most: int,
        handshake_seconds: float,
        log: Log,
        closing_seconds: float = 30.0,
    ) -> None:
        self._listener = listener
        self._make = make
        self._context = context
        self._most = most
        self._seconds = (handshake_seconds, closing_seconds) if context else (None, None)
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._open = True
        #: Connections that have no protocol yet, the oldest first, and when they came.
        self._tasks: OrderedDict[asyncio.Task[None], float] = OrderedDict()

    @property
    def connecting(self) -> bool:
        """Whether connections have been accepted that their protocol does not have yet."""
        return bool(self._tasks)

    def start(self) -> None:
        """Listen.

        :raises StartError: somebody else listens at the address.
        """
        try:
            self._listener.listen(_BACKLOG)
        except OSError as exc:
            host, port = self._listener.getsockname()[:2]
            raise StartError(f"cannot listen on {host}:{port}: {exc.strerror}") from None
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accept no more, and close this process's end of the socket."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._listener)
            self._listener.close()

    def _accept(self) -> None:
        for _unused in range(self._most):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:  # no more file descriptors, no memory: it must not turn in circles
                self._log.warning("cannot accept connections", error=str(exc))
                self._loop.remove_reader(self._listener)
                self._loop.call_later(_PAUSE_SECONDS, self._go_on)
                return
            if self._context is not None and not self._make_room():
                self._make.rejected("connections")
                connection.close()
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._connect(connection))
            self._tasks[task] = time.monotonic()
            task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def _make_room(self) -> bool:
        """Return whether another handshake may begin."""
        if len(self._tasks) + len(self._make.open) < self._make.max_connections:
            return True
        if self._tasks:
            oldest = next(iter(self._tasks))
            if time.monotonic() - self._tasks[oldest] > _HANDSHAKE_SECONDS:
                del self._tasks[oldest]
                oldest.cancel()
                self._make.rejected("connections")
                return True
        return len(self._tasks) < _HANDSHAKES

    def _go_on(self) -> None:
        if self._open:
            self._loop.add_reader(self._listener, self._accept)

    async def _connect(self, connection: socket.socket) -> None:
        handshake, closing = self._seconds
        # A client that breaks off the handshake, or knows no TLS, is its own concern.
        with contextlib.suppress(OSError):
            await self._loop.connect_accepted_socket(
                self._make,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=handshake,
                ssl_shutdown_timeout=closing,
            )
