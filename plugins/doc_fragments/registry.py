# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an image registry is reached."""

from __future__ import annotations


class ModuleDocFragment:
    """``modelship.core.registry``: credentials, certificates and time limit of a registry."""

    DOCUMENTATION = r"""
options:
  username:
    description: User at the registry.
    type: str
  password:
    description: The user's password or token. It is neither shown nor stored.
    type: str
  ca_path:
    description:
      - PEM file of the authority that signed the registry's certificate, in place of the host's authorities.
    type: path
  validate_certs:
    description: Check the registry's certificate.
    type: bool
    default: true
  plain_http:
    description:
      - Speak HTTP, not HTTPS.
      - By default true for this machine's own addresses (C(localhost), C(127.0.0.1)) unless O(ca_path) is given, else
        false.
    type: bool
  timeout:
    description:
      - Seconds to wait for one response of the registry.
      - The registry, its token service and its storage are reached through the proxy of E(HTTPS_PROXY) (E(HTTP_PROXY) for
        plain HTTP), else E(ALL_PROXY), as C(http://[user:password@]host:port) or C(socks5://[user:password@]host:port).
        Hosts, domains, networks and C(host:port) in E(NO_PROXY), and C(localhost), are reached directly.
    type: int
    default: 30
"""
