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
    description: Seconds to wait for one answer of the registry.
    type: int
    default: 30
"""
