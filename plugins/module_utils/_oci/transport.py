# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP to a registry: connections kept open, credentials, retries; standard library only.

Source: OCI distribution specification 1.1; the token protocol of the distribution project (``spec/auth/token.md``).
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import json
import os
import re
import socket
import ssl
import threading
import time
import typing as t
import urllib.parse
import urllib.request

from .._core.errors import ModelshipError
from .._core.files import explained
from .reference import is_loopback

_RETRIED = frozenset({429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Access:
    """How to reach a registry. *plain_http* ``None``: HTTP for this machine's own addresses, HTTPS for all others."""

    username: str = ""
    password: str = dataclasses.field(default="", repr=False)
    ca_path: str = ""
    validate_certs: bool = True
    plain_http: bool | None = None
    timeout: float = 30.0
    attempts: int = 4

    @classmethod
    def of_options(cls, options: t.Mapping[str, t.Any]) -> Access:
        """Read the options of the doc fragment ``modelship.core.registry``."""
        return cls(
            username=options.get("username") or "",
            password=options.get("password") or "",
            ca_path=options.get("ca_path") or "",
            validate_certs=options.get("validate_certs") is not False,
            plain_http=options.get("plain_http"),
            timeout=float(options.get("timeout") or 30),
        )


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP answer whose body has been read (or copied into the sink)."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


@dataclasses.dataclass(frozen=True)
class FileBody:
    """A request body streamed from the file *path* of *size* bytes; *report* is told the bytes sent so far."""

    path: str
    size: int
    report: t.Callable[[int], None] | None = None


class _Reader:
    """A file that tells how much of it has been read."""

    def __init__(self, stream: t.BinaryIO, report: t.Callable[[int], None] | None) -> None:
        self._stream = stream
        self._report = report
        self._sent = 0

    def read(self, size: int = -1) -> bytes:
        # http.client asks for 8 KiB at a time; a larger piece costs fewer system calls.
        data = self._stream.read(max(size, _CHUNK))
        self._sent += len(data)
        if self._report is not None:
            self._report(self._sent)
        return data


class Transport:
    """Requests to the registry *host*; safe to use from several threads, each with connections of its own."""

    def __init__(self, host: str, access: Access) -> None:
        self.host = host
        self.access = access
        plain = access.plain_http
        if plain is None:
            plain = is_loopback(host) and not access.ca_path
        self.base = f"{'http' if plain else 'https'}://{host}"
        self._local = threading.local()
        self._tokens: dict[str, str] = {}
        self._scheme = ""
        self._lock = threading.Lock()
        self._ssl: ssl.SSLContext | None = None

    def request(
        self,
        method: str,
        url: str,
        *,
        expect: t.Collection[int],
        headers: t.Mapping[str, str] | None = None,
        body: bytes | FileBody | None = None,
        scope: str = "",
        sink: t.Callable[[http.client.HTTPResponse], bytes] | None = None,
    ) -> Answer:
        """Send a request and return its answer, once more after a passing failure (5xx, 429, broken connection).

        :param url: absolute, or a path of the registry.
        :param scope: what a token must allow, as in ``repository:digits:pull,push``.
        :param sink: reads the body of an expected answer.
        :raises ModelshipError: the registry does not answer, refuses, or answers something else.
        """
        url = urllib.parse.urljoin(self.base + "/", url)
        problem: Exception | Answer | None = None
        for attempt in range(self.access.attempts):
            if attempt:
                time.sleep(_pause(problem, attempt))
            try:
                answer = self._once(method, url, headers or {}, body, scope, sink, expect)
            except ssl.SSLError as exc:
                raise self._tls_failure(exc) from exc
            except (OSError, http.client.HTTPException) as exc:
                self._drop()
                problem = exc
                continue
            if answer.status in expect:
                return answer
            problem = answer
            if answer.status not in _RETRIED:
                break
        if isinstance(problem, Answer):
            raise self._refusal(method, url, problem)
        raise ModelshipError(
            f"the registry {self.host} does not answer ({_reason(problem)}): start it, or check its address and the network",
            kind="registry_unreachable",
        ) from problem

    def _once(
        self,
        method: str,
        url: str,
        headers: t.Mapping[str, str],
        body: bytes | FileBody | None,
        scope: str,
        sink: t.Callable[[http.client.HTTPResponse], bytes] | None,
        expect: t.Collection[int],
    ) -> Answer:
        authorized = False
        for _unused in range(8):
            sent = dict(headers)
            same_host = urllib.parse.urlsplit(url).netloc == self.host
            # Credentials are for the registry alone, not for the storage that it may redirect to.
            if same_host and (credentials := self._credentials(scope)):
                sent["Authorization"] = credentials
            answer = self._exchange(method, url, sent, body, sink, expect)
            if answer.status == 401 and same_host and not authorized:
                authorized = True
                if self._learn(answer.headers.get("WWW-Authenticate", ""), scope):
                    continue
            if answer.status in _REDIRECTS and answer.status not in expect and answer.headers.get("Location"):
                url = urllib.parse.urljoin(url, answer.headers["Location"])
                continue
            return answer
        raise ModelshipError(f"the registry {self.host} redirects without end", kind="registry")

    def _exchange(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: bytes | FileBody | None,
        sink: t.Callable[[http.client.HTTPResponse], bytes] | None,
        expect: t.Collection[int],
    ) -> Answer:
        connection, target = self._connection(url)
        headers.setdefault("User-Agent", "modelship.core")
        with contextlib.ExitStack() as stack:
            data: t.Any = body
            if isinstance(body, FileBody):
                with explained(body.path):
                    stream = stack.enter_context(open(body.path, "rb"))
                data = _Reader(stream, body.report)
                headers["Content-Length"] = str(body.size)
            elif method in ("POST", "PUT", "PATCH"):
                headers["Content-Length"] = str(len(body or b""))
            connection.request(method, target, body=data, headers=headers)
            response = connection.getresponse()
            read = sink if sink is not None and response.status in expect else http.client.HTTPResponse.read
            content = read(response)
        if response.will_close:
            connection.close()
        return Answer(response.status, response.headers, content)

    def _connection(self, url: str) -> tuple[http.client.HTTPConnection, str]:
        parts = urllib.parse.urlsplit(url)
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        key = f"{parts.scheme}://{parts.netloc}"
        connections: dict[str, http.client.HTTPConnection] = self._local.__dict__.setdefault("connections", {})
        proxy = (
            ""
            if urllib.request.proxy_bypass(parts.hostname or "")
            else urllib.request.getproxies().get(parts.scheme, "")
        )
        if is_loopback(parts.netloc):
            proxy = ""
        if proxy and parts.scheme == "http":
            target = url
        if key not in connections:
            through = urllib.parse.urlsplit(proxy).netloc.rpartition("@")[2] if proxy else parts.netloc
            if parts.scheme == "https":
                secure = http.client.HTTPSConnection(through, timeout=self.access.timeout, context=self._context())
                if proxy:
                    secure.set_tunnel(parts.netloc)
                connections[key] = secure
            else:
                connections[key] = http.client.HTTPConnection(through, timeout=self.access.timeout)
        return connections[key], target

    def _drop(self) -> None:
        for connection in self._local.__dict__.pop("connections", {}).values():
            connection.close()

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._ssl is None:
                try:
                    self._ssl = ssl.create_default_context(cafile=self.access.ca_path or None)
                except (OSError, ssl.SSLError) as exc:
                    raise ModelshipError(
                        f"ca_path: {self.access.ca_path} is not a file of PEM certificates ({exc})", kind="registry_tls"
                    ) from exc
                if not self.access.validate_certs:
                    self._ssl.check_hostname = False
                    self._ssl.verify_mode = ssl.CERT_NONE
            return self._ssl

    def _credentials(self, scope: str) -> str:
        if self._scheme == "basic":
            return self._basic()
        with self._lock:
            token = self._tokens.get(scope)
        return f"Bearer {token}" if token else ""

    def _basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.access.username}:{self.access.password}".encode()).decode()

    def _learn(self, challenge: str, scope: str) -> bool:
        """Do what a 401 asks for; tell whether the request may now be worth another try."""
        scheme, _unused, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            first = self._scheme != "basic"
            self._scheme = "basic"
            return first and bool(self.access.username)
        if scheme.lower() != "bearer":
            return False
        fields = dict(re.findall(r'([a-z_]+)="([^"]*)"', rest))
        realm = fields.get("realm", "")
        query = {
            name: value
            for name, value in (("service", fields.get("service")), ("scope", scope or fields.get("scope")))
            if value
        }
        url = realm + ("&" if "?" in realm else "?") + urllib.parse.urlencode(query)
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            return False
        headers = {"Authorization": self._basic()} if self.access.username else {}
        answer = self._exchange("GET", url, headers, None, None, ())
        if answer.status != 200:
            return False
        with contextlib.suppress(ValueError, AttributeError):
            values = json.loads(answer.body)
            token = values.get("token") or values.get("access_token")
            if token:
                with self._lock:
                    self._tokens[scope] = token
                return True
        return False

    def _tls_failure(self, exc: ssl.SSLError) -> ModelshipError:
        if isinstance(exc, ssl.SSLCertVerificationError):
            text = f"the certificate of the registry {self.host} is not trusted ({exc.verify_message}): give its CA as ca_path"
        elif "WRONG_VERSION_NUMBER" in str(exc) or "record layer failure" in str(exc).lower():
            text = f"the registry {self.host} does not speak TLS: set plain_http: true, or use its TLS port"
        else:
            text = f"no TLS connection to the registry {self.host} ({exc.reason or exc})"
        return ModelshipError(text, kind="registry_tls")

    def _refusal(self, method: str, url: str, answer: Answer) -> ModelshipError:
        path = urllib.parse.urlsplit(url).path
        said = _said(answer)
        if b"HTTP request to an HTTPS server" in answer.body:
            return ModelshipError(f"the registry {self.host} speaks TLS: set plain_http: false", kind="registry_tls")
        if answer.status in (401, 403):
            if self.access.username:
                text = f"the registry {self.host} refuses the credentials of '{self.access.username}'"
            else:
                text = f"the registry {self.host} asks for credentials"
            return ModelshipError(f"{text} for {path}{said}: check username and password", kind="registry_auth")
        if answer.status in _RETRIED:
            return ModelshipError(
                f"the registry {self.host} fails: {answer.status} on {method} {path}{said}; see its log, then run again",
                kind="registry_unreachable",
            )
        return ModelshipError(
            f"the registry {self.host} answers {answer.status} on {method} {path}{said}", kind="registry"
        )


def _said(answer: Answer) -> str:
    with contextlib.suppress(ValueError, KeyError, IndexError, TypeError):
        error = json.loads(answer.body)["errors"][0]
        return f" ({error.get('message') or error['code']})"
    return ""


def _pause(problem: Exception | Answer | None, attempt: int) -> float:
    if isinstance(problem, Answer):
        with contextlib.suppress(ValueError):
            return min(float(problem.headers.get("Retry-After", "")), 30.0)
    return 0.15 * 3.0 ** (attempt - 1)


def _reason(problem: Exception | None) -> str:
    if isinstance(problem, TimeoutError):
        return "no answer in time"
    if isinstance(problem, socket.gaierror):
        return "its name is not known"
    if isinstance(problem, OSError) and problem.errno:
        return os.strerror(problem.errno).lower()
    return type(problem).__name__
