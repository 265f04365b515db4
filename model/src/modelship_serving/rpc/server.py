# SPDX-License-Identifier: GPL-3.0-or-later
"""The gRPC listener of one worker: opened beside that of HTTP, drained with it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time

from ..context import Context
from ..listener import Acceptor
from .calls import Calls
from .http2 import Connections
from .service import methods

#: A client may take so long to answer that it heard of the draining; then the last call is named without that.
_HEARD_SECONDS = 0.5


class Rpc:
    """What answers gRPC in one worker; made by :func:`start_rpc`."""

    def __init__(self, context: Context, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        settings = context.settings
        self._calls = Calls(context, methods(context))
        self._connections = Connections(
            self._calls, settings, context.row.connections, context.row.rejected, self._calls.answer_block()
        )
        most = 1 if settings.workers > 1 else 16
        self._acceptor = Acceptor(listener, self._connections, tls, most, settings.read_seconds, context.log)
        self._pause = min(1.0, settings.read_seconds / 2, settings.idle_seconds / 2)
        self._ticking: asyncio.Task[None] | None = None

    @property
    def last_request(self) -> float:
        """``time.monotonic()`` of the last call other than probes."""
        return self._calls.last_request

    @property
    def open(self) -> int:
        """Open connections."""
        return len(self._connections.open)

    def start(self) -> None:
        """Listen.

        :raises StartError: somebody else listens at the address.
        """
        self._acceptor.start()
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._pause)
            self._connections.sweep()

    def drain(self) -> None:
        """Tell the clients to make their next calls elsewhere; those that still come are answered."""
        self._connections.drain()

    async def close(self, deadline: float) -> bool:
        """Accept no more, and close each connection as soon as what was asked over it is answered.

        :param deadline: ``time.monotonic()`` to wait until.
        :returns: whether all are closed.
        """
        self._acceptor.close()
        self._connections.drain()
        heard = time.monotonic() + _HEARD_SECONDS
        while self._connections.open and (now := time.monotonic()) < deadline:
            if now > heard:
                for connection in list(self._connections.open):
                    connection.finish()
            await asyncio.sleep(0.01)
        if self._ticking is not None:
            self._ticking.cancel()
        return not self._connections.open


async def start_rpc(context: Context, listener: socket.socket, tls: ssl.SSLContext | None = None) -> Rpc:
    """Answer gRPC over a *listener* that is bound (:func:`..listener.bind`), and return what does it.

    :param tls: the server's context, with ``h2`` among its protocols.
    :raises StartError: somebody else listens at the address.
    """
    rpc = Rpc(context, listener, tls)
    rpc.start()
    return rpc
