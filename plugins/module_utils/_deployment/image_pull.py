# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What to do about an image that cannot be pulled, by the reason that the container runtime gives."""

from __future__ import annotations

import re

#: Parts of reasons, as Docker Engine and containerd word them, and the advice; the first that is found decides.
_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"server gave HTTP response to HTTPS client",
        "registry {host} speaks plain HTTP, and TLS is expected: give the registry a certificate (TLS), or allow plain "
        "HTTP where the image is pulled, {insecure}",
    ),
    (
        r"x509|certificate|tls:|TLS handshake",
        "the certificate of registry {host} is not trusted where the image is pulled: {trust}",
    ),
    (
        r"no such host|server misbehaving|Temporary failure in name resolution",
        "the name of registry {host} cannot be resolved where the image is pulled: correct the name or DNS",
    ),
    (
        r"unauthorized|authentication required|no basic auth credentials|denied|\b40[13]\b",
        "registry {host} rejects the credentials, or the image does not exist there: check {credentials}",
    ),
    (
        r"manifest unknown|not found|name unknown|NotFound|\b404\b",
        "registry {host} does not have the image: push it there first (image_push), and check its name and digest",
    ),
    (r"no matching manifest|no match for platform", "build the image for the platform of the host that runs it"),
    (r"no space left on device", "free some space where images are stored"),
    (
        r"connection refused|no route to host|network is unreachable|i/o timeout|deadline exceeded|Client\.Timeout|EOF",
        "registry {host} cannot be reached from where the image is pulled: start it, or check address, proxy and firewall",
    ),
    (r"toomanyrequests|\b429\b", "registry {host} limits how often it is asked: wait, or give {credentials}"),
)
_OTHERWISE = (
    "check that registry {host} is running and can be reached, that the image was pushed there under that name, and "
    "{credentials}"
)


def pull_advice(image: str, reason: str, *, insecure: str, trust: str, credentials: str) -> str:
    """Return what to do about *image*, which could not be pulled because of *reason*.

    :param insecure: where plain HTTP is allowed for a registry; C({host}) in it becomes the registry's host and port.
    :param trust: where its certificate's authority is declared, in the same way.
    :param credentials: the options that hold user and password.
    """
    host, slash, _rest = image.partition("/")
    host = host if slash and ("." in host or ":" in host or host == "localhost") else "docker.io"
    names = {
        "host": host,
        "insecure": insecure.replace("{host}", host),
        "trust": trust.replace("{host}", host),
        "credentials": credentials,
    }
    advice = next((advice for pattern, advice in _ADVICE if re.search(pattern, reason)), _OTHERWISE)
    return advice.format(**names)
