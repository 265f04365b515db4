# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The proxy policy of all clients of the collection: HTTP (``CONNECT``) and SOCKS 5 proxies, with and without a password.

Source: RFC 9110 section 9.3.6, RFC 1928 (SOCKS 5), RFC 1929 (its user and password); ``NO_PROXY`` as the official Kubernetes
client reads it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import socket
import typing as t
import urllib.parse

from .._core.errors import ModelshipError
from .errors import ProxyRefusedError
from .origin import check_host, is_ip_address, is_loopback, normal_host, parse_origin

_SOCKS = frozenset({"socks5", "socks5h"})
_SOCKS_REASONS = {
    2: "its rules forbid it",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "it took too long",
}
_MOST_HEAD = 1 << 16


class Proxy(t.NamedTuple):
    """A proxy; *username* ``None``: without authentication."""

    socks: bool
    host: str
    port: int
    username: str | None
    password: str

    @property
    def authority(self) -> str:
        """``host:port``, for messages: never with the password."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def authorization(self) -> str:
        """Value of ``Proxy-Authorization``, or empty. It is for the proxy only."""
        if self.username is None:
            return ""
        return f"Basic {base64.b64encode(f'{self.username}:{self.password}'.encode()).decode()}"

    def connect(self, sock: socket.socket, host: str, port: int) -> None:
        """Have *sock*, which is connected to the proxy, connected through it to *host*:*port*.

        :raises ProxyRefusedError: the proxy does not connect it.
        :raises OSError: the connection to the proxy broke.
        """
        if self.socks:
            self._connect_socks(sock, host, port)
            return
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        if self.authorization:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        status = _connect_status(sock)
        if status == 407:
            raise self.unauthorized()
        if not 200 <= status < 300:
            raise ProxyRefusedError(f"it responded with {status}", status)

    def unauthorized(self) -> ProxyRefusedError:
        """Return the error for a proxy that does not accept its credentials, or misses them."""
        how = f"give them as {'socks5' if self.socks else 'http'}://user:password@host:port"
        if self.username is None:
            return ProxyRefusedError(f"it requires credentials (407): {how}", 407)
        return ProxyRefusedError(f"it requires other credentials (407): {how}", 407)

    def _connect_socks(self, sock: socket.socket, host: str, port: int) -> None:
        sock.sendall(b"\x05\x01\x00" if self.username is None else b"\x05\x02\x00\x02")
        version, method = _exactly(sock, 2)
        if version != 5:
            raise ProxyRefusedError("it does not speak SOCKS 5", 400)
        if method == 2 and self.username is not None:
            user, password = self.username.encode()[:255], self.password.encode()[:255]
            sock.sendall(b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password)
            if _exactly(sock, 2)[1]:
                raise ProxyRefusedError("it does not accept the password", 407)
        elif method:
            raise self.unauthorized()
        sock.sendall(b"\x05\x01\x00" + _socks_address(host) + port.to_bytes(2, "big"))
        _version, reply, _reserved, kind = _exactly(sock, 4)
        if reply:
            # its rules (2) are as final as a 403, all else may pass
            raise ProxyRefusedError(_SOCKS_REASONS.get(reply, f"it responded with {reply}"), 403 if reply == 2 else 502)
        _exactly(sock, {1: 4, 4: 16}.get(kind) or _exactly(sock, 1)[0])
        _exactly(sock, 2)


def find_proxy(url: str, scheme: str, host: str, port: int, *, loopback: bool = False) -> Proxy | None:
    """Return the proxy *url*, or without one that of the environment, for *scheme*\\ ://*host*:*port*.

    The environment is ``http_proxy`` or ``https_proxy``, else ``all_proxy``; ``no_proxy`` counts for *url* too. Each may be in
    upper case; lower case takes precedence.

    :param loopback: ``False``: this machine's loopback interface is reached directly.
    :raises ModelshipError: it is not the URL of a proxy that can be used; the message does not hold its password.
    """
    if not loopback and is_loopback(host):
        return None
    source = url or environment(f"{scheme}_proxy") or environment("all_proxy")
    if not source or is_bypassed(host, port, environment("no_proxy")):
        return None
    return parse_proxy(source)


def parse_proxy(url: str) -> Proxy:
    """Read the URL of a proxy; without a scheme it is an HTTP proxy.

    :raises ModelshipError: it cannot be used.
    """
    try:
        parts = urllib.parse.urlsplit(url.strip() if "://" in url else f"http://{url.strip()}")
        proxy_port = parts.port
        if parts.hostname:
            check_host(parts.hostname)
    except ValueError as exc:
        # the text of the exception may repeat the part before the "@"
        reason = "its port is not a number from 0 to 65535" if "port" in str(exc).lower() else "its host is malformed"
        raise ModelshipError(
            f"the proxy's URL is wrong ({reason}): it must be http://host:port or socks5://host:port; in a user or password, "
            "write / ? # as %2F %3F %23",
            kind="environment",
        ) from exc
    socks = parts.scheme in _SOCKS
    if not parts.hostname or not (socks or parts.scheme == "http"):
        shown = f"{parts.scheme}://{parts.hostname or ''}"
        raise ModelshipError(
            f"the proxy {shown} cannot be used: it must be http://host:port or socks5://host:port", kind="environment"
        )
    username = None if parts.username is None else urllib.parse.unquote(parts.username)
    password = urllib.parse.unquote(parts.password or "")
    return Proxy(socks, parts.hostname, proxy_port or (1080 if socks else 80), username, password)


def is_bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Return whether *no_proxy* names *host*: itself or a domain it is in, each with or without port, its network, or C(*)."""
    host = normal_host(host)
    is_address = is_ip_address(host)
    for entry in (entry.lower() for entry in re.split(r"[\s,]+", no_proxy) if entry):
        if entry == "*":
            return True
        if "/" in entry or ":" in entry:
            import ipaddress

            with contextlib.suppress(ValueError):
                if ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False):
                    return True
        name, entry_port = entry, ""
        if entry.startswith("[") or entry.count(":") == 1:
            name, _colon, entry_port = entry.rpartition(":") if not entry.endswith("]") else (entry, "", "")
        if entry_port and entry_port != str(port):
            continue
        name = normal_host(name.removeprefix("*").lstrip("."))
        if name and (name == host or (not is_address and host.endswith(f".{name}"))):
            return True
    return False


def program_environment(urls: t.Iterable[str]) -> dict[str, str]:
    """Return the variables with which a program such as apt uses the same proxies as this collection's own clients for *urls*.

    Programs differ in what they read: apt knows neither proxies without a scheme, nor variables in upper case, nor
    ``all_proxy``, nor networks and ports in ``no_proxy``.

    :raises ModelshipError: a proxy of the environment cannot be used.
    """
    found: dict[str, str] = {}
    for scheme in ("http", "https"):
        source = (environment(f"{scheme}_proxy") or environment("all_proxy")).strip()
        if source:
            parse_proxy(source)
            url = source if "://" in source else f"http://{source}"
            # names are left to the proxy to resolve, as here
            found[f"{scheme}_proxy"] = re.sub(r"(?i)^socks5://", "socks5h://", url)
    if found:
        entries = [entry for entry in re.split(r"[\s,]+", environment("no_proxy")) if entry]
        for url in urls:
            with contextlib.suppress(ValueError):
                origin = parse_origin(url)
                if is_loopback(origin.host) or is_bypassed(origin.host, origin.port, environment("no_proxy")):
                    entries.append(origin.host)
        found["no_proxy"] = ",".join(dict.fromkeys(entries))
    return found


def environment(name: str) -> str:
    """Return the variable *name* of the environment, in lower or upper case, or empty."""
    return os.environ.get(name) or os.environ.get(name.upper()) or ""


def _socks_address(host: str) -> bytes:
    """Return *host* as SOCKS 5 has it: type and bytes of an address; a name is left to the proxy to resolve."""
    for kind, family in ((1, socket.AF_INET), (4, socket.AF_INET6)):
        with contextlib.suppress(OSError):
            return bytes([kind]) + socket.inet_pton(family, host)
    name = host.encode("idna")
    return bytes([3, len(name)]) + name


def _connect_status(sock: socket.socket) -> int:
    """Read the response to ``CONNECT``, and not a byte beyond its headers, from which on the tunnel's bytes follow."""
    while True:
        head = b""
        while b"\r\n\r\n" not in head:
            head += _exactly(sock, 1)
            if len(head) > _MOST_HEAD:
                raise ProxyRefusedError("its response is not HTTP", 400)
        match = re.match(rb"HTTP/1\.[01] (\d{3})\b", head)
        if not match:
            raise ProxyRefusedError("its response is not HTTP", 400)
        status = int(match.group(1))
        if status >= 200:
            return status


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ProxyRefusedError("it closed the connection", 502)
        data += more
    return data
