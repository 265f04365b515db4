# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Origins (RFC 6454): scheme, host and port of a URL in one normal form, so that they can be compared."""

from __future__ import annotations

import ipaddress
import typing as t
import urllib.parse

DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(t.NamedTuple):
    """Where a URL points: two URLs belong to the same server if their origins are equal.

    :param host: lower case, without brackets and trailing dot; IP addresses in their shortest form.
    """

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """``host[:port]`` as in a ``Host`` header: the port is left out where it is the scheme's default."""
        return self.host_in_url if self.port == DEFAULT_PORTS[self.scheme] else self.target

    @property
    def target(self) -> str:
        """``host:port``, always with the port, as in a ``CONNECT`` request."""
        return f"{self.host_in_url}:{self.port}"

    @property
    def host_in_url(self) -> str:
        """The host, in brackets if it is an IPv6 address."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def parse_origin(url: str) -> Origin:
    """Return the origin of the absolute URL *url*.

    :raises ValueError: it is not an HTTP or HTTPS URL with a host; the text does not repeat the URL, which may hold a password.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("it must begin with http:// or https://")
    if not parts.hostname:
        raise ValueError("it names no host")
    port = parts.port  # raises ValueError itself
    check_host(parts.hostname)
    return Origin(parts.scheme, normal_host(parts.hostname), DEFAULT_PORTS[parts.scheme] if port is None else port)


def normal_host(host: str) -> str:
    """Return the normal form of the name or IP address *host* (without a port)."""
    host = host.strip("[]").rstrip(".").lower()
    address = _address(host)
    return host if address is None else str(address)


def check_host(host: str) -> None:
    """Check that *host* may be looked up: the resolver raises other errors than its own for what is not a host name.

    :raises ValueError: it holds spaces, a part of it is empty or longer than 63 bytes, or all of it is longer than 253.
    """
    try:
        length = len(host.rstrip(".").encode("idna"))
    except UnicodeError:
        length = 0
    if not 0 < length <= 253 or not host.isprintable() or " " in host:
        raise ValueError("its host is malformed")


def is_ip_address(host: str) -> bool:
    """Return whether *host*, without brackets and port, is an IP address rather than a name."""
    return _address(host) is not None


def is_loopback(host: str) -> bool:
    """Return whether *host* (a name or an IP address, with or without port) is this machine's loopback interface."""
    name = host
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        name = host.partition(":")[0]
    name = normal_host(name)
    address = _address(name)
    if address is None:
        return name == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def resolve(base: str, location: str) -> str:
    """Return the absolute URL of the header ``Location: location`` in the response to *base* (RFC 9110 section 10.2.2).

    :raises ValueError: it is not an HTTP or HTTPS URL.
    """
    # servers send spaces and bytes beyond ASCII (which headers are decoded as Latin-1) unescaped
    quoted = urllib.parse.quote(location.strip(), safe="!#$%&'()*+,/:;=?@[]~-._", encoding="latin-1", errors="replace")
    url = urllib.parse.urldefrag(urllib.parse.urljoin(base, quoted)).url
    parse_origin(url)
    return url


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
