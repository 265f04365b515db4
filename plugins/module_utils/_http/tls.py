# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The TLS policy of all clients of the collection."""

from __future__ import annotations

import os
import ssl
import typing as t


def client_context(*, verify: bool = True, authority: bytes | None = None) -> ssl.SSLContext:
    """Return TLS settings for a client.

    A certificate is trusted if a chain leads to an authority that is trusted; an authority may be an intermediate one.
    ``ssl.create_default_context`` is not used: from Python 3.13 on it sets ``VERIFY_X509_STRICT``, which refuses
    authorities without a key identifier or a key usage, as many sites' own ones are, and which curl, Docker and kubectl accept.
    So the same certificates are trusted whatever Python runs.

    :param verify: ``False`` trusts every certificate.
    :param authority: PEM of the certificate authorities to trust; ``None`` for the system's.
    :raises ValueError: *authority* holds no PEM certificate.
    """
    context = unloaded_context(verify=verify)
    if not verify:
        return context
    if authority is None:
        context.load_default_certs()
        return context
    try:
        # comments between the certificates may be in any encoding
        context.load_verify_locations(cadata=authority.decode("ascii", "ignore"))
    except ssl.SSLError as exc:
        raise ValueError(exc.reason or str(exc)) from exc
    return context


def unloaded_context(*, verify: bool = True) -> ssl.SSLContext:
    """Return the same settings as :func:`client_context` does, for a library that loads the authorities into it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # which an OpenSSL or a Python may come to set
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def read_authority(path: str) -> bytes:
    """Return the content of the PEM file *path*.

    :raises OSError: it cannot be read.
    """
    with open(os.path.expanduser(path), "rb") as stream:
        return stream.read()


def load_client_certificate(context: ssl.SSLContext, certificate: str, key: str | None = None) -> None:
    """Have clients with *context* present the PEM file *certificate*.

    :param key: PEM file of its key; ``None``: it is in *certificate*.
    :raises OSError: a file cannot be read, or holds no certificate or key, or they do not belong together.
    :raises ValueError: the key is encrypted.
    """
    context.load_cert_chain(certificate, key, password=_no_password)


def _no_password() -> t.NoReturn:
    # without this OpenSSL would ask on the terminal, and wait for ever
    raise ValueError("the key is protected by a password: give one without")
