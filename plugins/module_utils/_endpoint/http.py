# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A keep-alive HTTP client over the standard library, for one endpoint."""

from __future__ import annotations

import dataclasses
import http.client
import json
import ssl
import typing as t
import urllib.parse

from .._core.errors import ModelshipError

#: More than any answer to a golden sample; an endless answer is cut here instead of filling the memory.
MAX_ANSWER_BYTES = 64 << 20


class UnreachableError(ModelshipError):
    """The endpoint did not answer at all (refused, timed out, broke off)."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One HTTP answer: ``status``, ``headers`` (lower-case names) and the ``body``."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> t.Any:
        """Return the decoded body.

        :raises ModelshipError: it is no JSON (HTML, cut off, empty); the message shows how it begins.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as exc:
            raise ModelshipError(
                f"answered {self.status} with something that is not JSON: {self.beginning()}", kind="endpoint"
            ) from exc

    def beginning(self) -> str:
        """The first characters of the body, on one line."""
        text = " ".join(self.body[:300].decode("utf-8", "replace").split())
        return f"'{text[:120]}'" if text else "an empty body"


class Client:
    """Requests to one base URL over one connection that is kept open.

    :param url: ``http://host:port[/prefix]`` or ``https://…``.
    :param timeout: seconds for connecting and for each read.
    :param ca_path: PEM file of the certificate authorities to trust instead of the system's.
    :param validate_certs: ``False`` trusts any certificate.
    :param client_cert: PEM file of the certificate to show, with its key unless *client_key* names another file.
    :raises ModelshipError: *url* is no HTTP URL, or a file cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 10.0,
        headers: t.Mapping[str, str] | None = None,
        ca_path: str | None = None,
        validate_certs: bool = True,
        client_cert: str | None = None,
        client_key: str | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        try:
            parts = urllib.parse.urlsplit(self.url)
            port = parts.port
        except ValueError as exc:
            raise ModelshipError(f"'{url}' is no URL: {exc}") from exc
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ModelshipError(f"'{url}' is no HTTP URL: it must be http://host:port or https://host:port")
        self._prefix = parts.path
        self._headers = {"accept": "application/json", **(headers or {})}
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            self._connection = http.client.HTTPSConnection(
                parts.hostname,
                port,
                timeout=timeout,
                context=_context(ca_path, validate_certs, client_cert, client_key),
            )
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, port, timeout=timeout)
        self._used = False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self._used = False

    def request(self, method: str, path: str, body: t.Any = None, headers: t.Mapping[str, str] | None = None) -> Answer:
        """Send one request; *body* is sent as JSON, or as it is where it is ``bytes``, with these *headers* besides.

        A kept connection that the server has closed meanwhile is opened once more, as HTTP clients do.

        :raises UnreachableError: no complete answer came.
        """
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {**self._headers, **(headers or {})}
        if data is not None:
            sent.setdefault("content-type", "application/json")
        for last in (not self._used, True):
            try:
                return self._once(method, path, data, sent)
            except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected) as exc:
                self.close()
                if last:
                    raise self._unreachable(path, exc) from exc
            except (OSError, http.client.HTTPException, ValueError) as exc:
                self.close()
                raise self._unreachable(path, exc) from exc
        raise AssertionError("the loop above returns or raises")

    def _once(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Answer:
        self._connection.request(method, self._prefix + path, body=data, headers=headers)
        response = self._connection.getresponse()
        content = response.read(MAX_ANSWER_BYTES + 1)
        if len(content) > MAX_ANSWER_BYTES:
            raise ValueError(f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        if response.length:  # a bounded read returns what came, without a complaint
            raise http.client.IncompleteRead(content, response.length)
        self._used = not response.will_close
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, content)

    def _unreachable(self, path: str, exc: Exception) -> UnreachableError:
        if isinstance(exc, ssl.SSLCertVerificationError):
            why = f"its certificate is not trusted ({exc.verify_message}): give ca_path"
        elif isinstance(exc, ssl.SSLError) and "ALERT" in (exc.reason or ""):
            why = f"it refuses the connection ({(exc.reason or '').lower()}): check client_cert and client_key"
        elif isinstance(exc, TimeoutError):
            why = f"no answer within {self._connection.timeout:g} s"
        elif isinstance(exc, http.client.IncompleteRead):
            why = f"the answer broke off after {len(exc.partial)} bytes"
        else:
            why = (getattr(exc, "strerror", None) or str(exc) or type(exc).__name__).lower()
        return UnreachableError(f"{self.url}{path} does not answer: {why}", kind="unreachable")


def _context(
    ca_path: str | None, validate_certs: bool, client_cert: str | None, client_key: str | None
) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_path)
    except OSError as exc:
        raise ModelshipError(f"cannot use ca_path {ca_path}: {exc.strerror or exc}") from exc
    if not validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if client_cert:
        try:
            # an empty password, because a question on the terminal would wait for ever
            context.load_cert_chain(client_cert, client_key, password="")
        except OSError as exc:
            files = f"{client_cert} with client_key {client_key}" if client_key else client_cert
            raise ModelshipError(
                f"cannot use client_cert {files}: {exc.strerror or exc}; give PEM files of a certificate and its key, "
                "which is not encrypted"
            ) from exc
    return context
