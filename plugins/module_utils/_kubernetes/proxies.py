# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proxies between us and an API server: HTTP (``CONNECT``) and SOCKS5, with and without a password.

Source: RFC 9110 section 9.3.6, RFC 1928 (SOCKS 5), RFC 1929 (its user and password).
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import typing as t
import urllib.parse

from .errors import BrokenAnswerError, ProxyRefusedError
from .kubeconfig import wrong
from .wire import Connection

_SOCKS = frozenset({"socks5", "socks5h"})
_SOCKS_REASONS = {
    2: "its rules forbid it",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "it took too long",
}


class Proxy(t.NamedTuple):
    """A proxy; *username* ``None``: it is not told who we are."""

    socks: bool
    host: str
    port: int
    username: str | None
    password: str

    @property
    def authorization(self) -> str:
        """Value of ``Proxy-Authorization``, or empty."""
        if self.username is None:
            return ""
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"

    def connect(self, sock: socket.socket, host: str, port: int) -> None:
        """Have *sock*, which is connected to the proxy, connected through it to *host*:*port*.

        :raises ProxyRefusedError: it says no.
        :raises OSError, BrokenAnswerError: it does not answer.
        """
        if self.socks:
            self._connect_socks(sock, host, port)
            return
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if self.authorization:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        head = Connection(sock).send(("\r\n".join(lines) + "\r\n\r\n").encode())
        if head.status == 407:
            raise ProxyRefusedError(
                "it wants other credentials (407): give them as http://user:password@host:port", 407
            )
        if not 200 <= head.status < 300:
            raise ProxyRefusedError(f"it answered {head.status}", head.status)

    def _connect_socks(self, sock: socket.socket, host: str, port: int) -> None:
        sock.sendall(b"\x05\x01\x00" if self.username is None else b"\x05\x02\x00\x02")
        version, method = _exactly(sock, 2)
        if version != 5:
            raise BrokenAnswerError("the proxy does not speak SOCKS 5")
        if method == 2 and self.username is not None:
            user, password = self.username.encode()[:255], self.password.encode()[:255]
            sock.sendall(b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password)
            if _exactly(sock, 2)[1]:
                raise ProxyRefusedError("it does not accept the password", 407)
        elif method:
            raise ProxyRefusedError("it wants other credentials: give them as socks5://user:password@host:port", 407)
        sock.sendall(b"\x05\x01\x00" + _socks_address(host) + port.to_bytes(2, "big"))
        _version, reply, _reserved, kind = _exactly(sock, 4)
        if reply:
            # its rules (2) are as final as a 403, all else may pass
            raise ProxyRefusedError(_SOCKS_REASONS.get(reply, f"it answered {reply}"), 403 if reply == 2 else 502)
        _exactly(sock, {1: 4, 4: 16}.get(kind) or _exactly(sock, 1)[0])
        _exactly(sock, 2)


def _socks_address(host: str) -> bytes:
    """Return *host* as SOCKS 5 has it: type and bytes of an address; a name is left to the proxy to resolve."""
    for kind, family in ((1, socket.AF_INET), (4, socket.AF_INET6)):
        with contextlib.suppress(OSError):
            return bytes([kind]) + socket.inet_pton(family, host)
    name = host.encode("idna")
    return bytes([3, len(name)]) + name


def find_proxy(url: str, scheme: str, host: str, port: int) -> Proxy | None:
    """Return the proxy *url*, or without one that of the environment, for *scheme*\\ ://*host*:*port*.

    ``NO_PROXY`` counts for both, as for the official Python client.

    :raises ModelshipError: it is no URL of a proxy that is known here.
    """
    source = url or _environment(f"{scheme}_proxy") or _environment("all_proxy")
    if not source or is_bypassed(host, port, _environment("no_proxy")):
        return None
    try:
        parts = urllib.parse.urlsplit(source if "://" in source else f"http://{source}")
        proxy_port = parts.port
    except ValueError as exc:
        raise wrong(f"the proxy's URL is wrong: {exc}") from exc
    socks = parts.scheme in _SOCKS
    if not parts.hostname or not (socks or parts.scheme == "http"):
        shown = f"{parts.scheme}://{parts.hostname or ''}"
        raise wrong(f"the proxy {shown} cannot be used: it must be http://host:port or socks5://host:port")
    username = None if parts.username is None else urllib.parse.unquote(parts.username)
    password = urllib.parse.unquote(parts.password or "")
    return Proxy(socks, parts.hostname, proxy_port or (1080 if socks else 80), username, password)


def is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Tell whether *no_proxy* names *host*: itself, a domain it is in, its network, or C(*)."""
    for entry in (entry.strip().lower().lstrip(".") for entry in no_proxy.split(",")):
        if entry == "*" or entry in (host, f"{host}:{port}") or (entry and host.endswith(f".{entry}")):
            return True
        if "/" in entry or ":" in entry:
            import ipaddress

            with contextlib.suppress(ValueError):
                if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                    return True
    return False


def _environment(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.upper()) or ""


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise BrokenAnswerError("the proxy closed the connection")
        data += more
    return data
