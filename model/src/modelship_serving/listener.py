# SPDX-License-Identifier: GPL-3.0-or-later
"""Closing a listening socket without losing the connections that the kernel has already made for it.

A TCP connection exists, and its client sends its request, before the server accepts it. One that waits to be accepted when
the listener closes is reset. So first the kernel is told to take no new connection in, then what waits is accepted, and
only then is the listener closed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct

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
