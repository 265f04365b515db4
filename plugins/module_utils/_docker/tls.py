# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS to a Docker Engine through its SDK, with the policy of all clients of the collection."""

from __future__ import annotations

import typing as t

from .._http.tls import unloaded_context


def tls_config(client_cert: tuple[str, str] | None, ca_cert: str | None, verify: bool) -> t.Any:
    """Return the SDK's ``TLSConfig``; the Docker SDK must be there.

    The SDK's own settings depend on the Python that runs: from 3.13 on they refuse certificate authorities that older ones
    and the Docker command line accept.

    :param client_cert: PEM files of a certificate and its key.
    :param ca_cert: PEM file of the authorities to trust; ``None`` for those of the package C(certifi).
    """
    import requests.adapters
    from docker.tls import TLSConfig

    class Adapter(requests.adapters.HTTPAdapter):
        def init_poolmanager(self, *arguments: t.Any, **options: t.Any) -> None:
            # requests loads the authorities and the client's certificate into it
            super().init_poolmanager(*arguments, ssl_context=unloaded_context(verify=verify), **options)

        def send(self, request: t.Any, *arguments: t.Any, **options: t.Any) -> t.Any:
            if ca_cert or not verify:
                # which REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE of the environment would replace
                options["verify"] = ca_cert if verify else False
            return super().send(request, *arguments, **options)

    class Config(TLSConfig):
        def configure_client(self, client: t.Any) -> None:
            super().configure_client(client)
            client.mount("https://", Adapter())

    return Config(client_cert=client_cert, ca_cert=ca_cert, verify=verify)
