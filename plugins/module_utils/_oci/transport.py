# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP to a registry: connections kept open, credentials, redirects, retries; standard library only.

Source: OCI distribution specification 1.1.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import re
import ssl
import threading
import time
import typing as t
import urllib.parse

from .._core.errors import ModelshipError
from .._core.files import explained
from .._http import retry, tls
from .._http.connection import Connection, ConnectionFailedError, Response, target_of
from .._http.errors import Advice, ProxyRefusedError, explain, is_closed, is_permanent
from .._http.origin import Origin, is_loopback, parse_origin, resolve
from .._http.proxy import find_proxy
from .authorization import Authorization, Problem

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_HOPS = 8
_CHUNK = 1 << 20
#: Bytes of a manifest, a configuration, a token or an error; registries refuse manifests of more than 4 MiB.
_MOST_DOCUMENT = 16 << 20
_ADVICE = Advice(
    certificate="give its CA as ca_path",
    plain="set plain_http: true, or use its TLS port",
)
#: What servers that speak TLS respond to plain HTTP: Go's, nginx and Apache, and the bytes of a TLS alert.
_SPEAKS_TLS = re.compile(
    rb"HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS|speaking plain HTTP to an SSL"
)
_TLS_ALERT = "\x15\x03"
_READ_ONLY = re.compile(r"read[- ]?only", re.IGNORECASE)


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
class FileBody:
    """A request body streamed from the file *path* of *size* bytes; *report* is called with the bytes sent so far."""

    path: str
    size: int
    report: t.Callable[[int], None] | None = None


class _Reader:
    """A file that reports how much of it has been read."""

    def __init__(self, stream: t.BinaryIO, body: FileBody) -> None:
        self._stream = stream
        self._body = body
        self._sent = 0

    def read(self, size: int = -1) -> bytes:
        # http.client asks for 8 KiB at a time; a larger piece costs fewer system calls.
        with explained(self._body.path):
            data = self._stream.read(max(size, _CHUNK))
        self._sent += len(data)
        if self._body.report is not None:
            self._body.report(self._sent)
        return data


class _Request(t.NamedTuple):
    method: str
    headers: t.Mapping[str, str]
    body: bytes | FileBody | None
    sink: t.Callable[[http.client.HTTPResponse], bytes] | None
    expect: t.Collection[int]


@dataclasses.dataclass(frozen=True)
class _Refused:
    """A response that was not expected.

    :param sent: scheme of the ``Authorization`` that was sent, or empty.
    :param problem: why the challenge could not be met, or ``None``.
    """

    response: Response
    sent: str
    problem: Problem | None


class Transport:
    """Requests to the registry *host*; safe to use from several threads, each with connections of its own.

    :raises ModelshipError: *host* is malformed.
    """

    def __init__(self, host: str, access: Access) -> None:
        self.host = host
        self.access = access
        self.retry = retry.Retry(access.attempts)
        plain = access.plain_http
        if plain is None:
            plain = is_loopback(host) and not access.ca_path
        self.base = f"{'http' if plain else 'https'}://{host}"
        try:
            self.origin = parse_origin(self.base)
        except ValueError as exc:
            raise ModelshipError(f"'{host}' is not the host of a registry: {exc}") from exc
        self._authorization = Authorization(self.origin, access.username, access.password, self._fetch)
        self._local = threading.local()
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
        scope: str | t.Sequence[str] = "",
        sink: t.Callable[[http.client.HTTPResponse], bytes] | None = None,
        attempts: int | None = None,
    ) -> Response:
        """Send a request and return its response; it is sent again after a transient failure (5xx, 429, broken connection).

        Credentials are sent to the registry's own origin only, not to where it redirects or uploads go to.

        :param url: absolute, or a path of the registry.
        :param scope: what a token must allow, as in ``repository:digits:pull,push``; one or several.
        :param sink: reads the body of an expected response.
        :param attempts: how often to send it at most; by default as often as the access says.
        :raises ModelshipError: the registry is unreachable (kind ``registry_unreachable``), refuses, or responds otherwise.
        """
        url = urllib.parse.urljoin(self.base + "/", url)
        scopes = (scope,) if isinstance(scope, str) and scope else tuple(scope)
        request = _Request(method, headers or {}, body, sink, expect)
        problem: ConnectionFailedError | _Refused | None = None
        for attempt in range(attempts or self.access.attempts):
            if attempt:
                asked = retry.retry_after(problem.response.headers) if isinstance(problem, _Refused) else None
                time.sleep(self.retry.wait_s(attempt, asked))
            try:
                result = self._follow(request, url, scopes)
            except ConnectionFailedError as failed:
                self._drop()
                problem = failed
                if not retry.may_pass(failed.cause):
                    break
                continue
            if isinstance(result, Response):
                return result
            problem = result
            if not retry.may_pass(result.response.status):
                break
        if isinstance(problem, _Refused):
            raise self._refusal(method, problem)
        raise self._unreachable(t.cast(ConnectionFailedError, problem), method, url) from problem

    def _follow(self, request: _Request, url: str, scopes: tuple[str, ...]) -> Response | _Refused:
        """Send *request*, follow redirects, and meet one challenge."""
        met = False
        refusal: Problem | None = None
        for _hop in range(_MOST_HOPS):
            ours = parse_origin(url) == self.origin
            sent = self._authorization.header(scopes) if ours else ""
            response = self._exchange(request, url, {"Authorization": sent} if sent else {})
            if response.status in request.expect and not (response.status == 401 and ours and not met):
                return response
            if response.status == 401 and ours and not met:
                met = True
                retried, refusal = self._authorization.meet(response, scopes, sent)
                if retried:
                    continue
            if response.status in request.expect:
                return response
            if response.status not in _REDIRECTS or not response.headers.get("Location"):
                return _Refused(response, sent.partition(" ")[0], refusal)
            url, request = self.location(response), _redirected(request, response.status)
        raise ModelshipError(f"the registry {self.host} redirects without end", kind="registry")

    def _fetch(self, url: str, headers: dict[str, str]) -> Response:
        """Fetch *url* of a token service; *headers* are for its origin only, also where it redirects."""
        origin, first = parse_origin(url), url
        for attempt in range(self.access.attempts):
            url = first
            for _hop in range(_MOST_HOPS):
                sent = headers if parse_origin(url) == origin else {}
                response = self._exchange(_Request("GET", {}, None, None, ()), url, sent)
                if response.status not in _REDIRECTS or not response.headers.get("Location"):
                    break
                url = self.location(response)
            if not retry.may_pass(response.status):
                break
            if attempt + 1 < self.access.attempts:
                time.sleep(self.retry.wait_s(attempt + 1, retry.retry_after(response.headers)))
        return response

    def location(self, response: Response) -> str:
        """Return the absolute URL of the header ``Location``, which is relative to the URL that responded.

        :raises ModelshipError: there is none, or it cannot be used.
        """
        value = response.headers.get("Location")
        if not value:
            raise ModelshipError(
                f"the registry {self.host} responds with {response.status} but without a Location", kind="registry"
            )
        try:
            return resolve(response.url, value)
        except ValueError as exc:
            raise ModelshipError(
                f"the registry {self.host} responds with a Location that cannot be used ({exc})", kind="registry"
            ) from exc

    def _exchange(self, request: _Request, url: str, secret_headers: t.Mapping[str, str]) -> Response:
        headers = {"User-Agent": "modelship.core", **request.headers, **secret_headers}
        connection = self._connection(parse_origin(url))
        with contextlib.ExitStack() as stack:
            data: t.Any = request.body
            if isinstance(request.body, FileBody):
                with explained(request.body.path):
                    stream = stack.enter_context(open(request.body.path, "rb"))
                data = _Reader(stream, request.body)
                headers["Content-Length"] = str(request.body.size)
            elif request.method in ("POST", "PUT", "PATCH"):
                headers["Content-Length"] = str(len(request.body or b""))
            try:
                response = connection.ask(request.method, target_of(url), data, headers)
                sink = request.sink if response.status in request.expect else None
                content = (sink or self._document)(response)
            except (OSError, http.client.HTTPException, ProxyRefusedError) as exc:
                connection.close()
                raise ConnectionFailedError(exc, connection.origin, connection.proxy) from exc
            except ModelshipError:
                connection.close()  # the rest of the response is still to come
                raise
        if response.will_close:
            connection.close()
        return Response(url, response.status, response.headers, content)

    def _document(self, response: http.client.HTTPResponse) -> bytes:
        """Read a body that is not a layer."""
        content = response.read(_MOST_DOCUMENT + 1)
        if len(content) > _MOST_DOCUMENT:
            raise ModelshipError(
                f"the registry {self.host} responds with a document of more than {_MOST_DOCUMENT >> 20} MiB: check host and port",
                kind="registry",
            )
        if response.length:  # a bounded read returns what came, without a complaint
            raise http.client.IncompleteRead(content, response.length)
        return content

    def _connection(self, origin: Origin) -> Connection:
        connections: dict[Origin, Connection] = self._local.__dict__.setdefault("connections", {})
        if origin not in connections:
            connections[origin] = Connection(
                origin,
                timeout=self.access.timeout,
                context=self._context() if origin.scheme == "https" else None,
                proxy=find_proxy("", *origin),
            )
        return connections[origin]

    def _drop(self) -> None:
        for connection in self._local.__dict__.pop("connections", {}).values():
            connection.close()

    def _context(self) -> ssl.SSLContext:
        with self._lock:
            if self._ssl is None:
                path = self.access.ca_path
                try:
                    authority = tls.read_authority(path) if path else None
                    self._ssl = tls.client_context(verify=self.access.validate_certs, authority=authority)
                except (OSError, ValueError) as exc:
                    raise ModelshipError(
                        f"ca_path: {path} is not a file of PEM certificates ({exc})", kind="registry_tls"
                    ) from exc
            return self._ssl

    def _named(self, origin: Origin) -> str:
        """Return *origin* for messages: the registry, or a host that it refers to."""
        if origin == self.origin:
            return f"the registry {self.host}"
        return f"{origin.authority}, to which the registry {self.host} refers,"

    def through(self, origin: Origin | None = None) -> str:
        """Return through which proxy *origin* (by default the registry) is reached, for messages; empty if directly."""
        proxy = find_proxy("", *(origin or self.origin))
        return f" through the proxy {proxy.authority}" if proxy else ""

    def _unreachable(self, failed: ConnectionFailedError, method: str, url: str) -> ModelshipError:
        cause, proxy, named = failed.cause, failed.proxy, self._named(failed.origin)
        path, through = urllib.parse.urlsplit(url).path, self.through(failed.origin)
        if isinstance(cause, ProxyRefusedError) and proxy:
            kind = "proxy" if is_permanent(cause) else "registry_unreachable"
            return ModelshipError(
                f"the proxy {proxy.authority} did not connect to {named.rstrip(',')}: {cause}", kind=kind
            )
        if isinstance(cause, http.client.BadStatusLine) and _TLS_ALERT in str(cause):
            return ModelshipError(f"{named} speaks TLS: set plain_http: false", kind="registry_tls")
        resolved = proxy.host if proxy and not isinstance(cause, ssl.SSLError) else failed.origin.host
        reason = explain(cause, resolved, self.access.timeout, _ADVICE)
        if isinstance(cause, ssl.SSLError) and is_permanent(cause):
            return ModelshipError(f"cannot use {named.rstrip(',')}{through}: {reason}", kind="registry_tls")
        if is_closed(cause) or isinstance(cause, http.client.IncompleteRead):
            what = "closed the connection without a response" if is_closed(cause) else "sent an incomplete response"
            return ModelshipError(
                f"{named} {what}{through} to {method} {path}: see its log, and that of a proxy before it, for limits of size "
                "or time; then run again",
                kind="registry_unreachable",
            )
        return ModelshipError(
            f"{named} is unreachable{through} ({reason}): start it, or check its address and the network",
            kind="registry_unreachable",
        )

    def _refusal(self, method: str, refused: _Refused) -> ModelshipError:
        response = refused.response
        status, origin = response.status, parse_origin(response.url)
        path, named = urllib.parse.urlsplit(response.url).path, self._named(origin)
        message = self._authorization.redacted(_message(response))
        said = f" ({message})" if message else ""
        writes = method in ("POST", "PUT", "PATCH")
        if speaks_tls(response):
            return ModelshipError(f"{named} speaks TLS: set plain_http: false", kind="registry_tls")
        if writes and (status == 405 or (status in (403, 503) and _READ_ONLY.search(message))):
            return ModelshipError(
                f"{named} accepts no uploads ({status} on {method} {path}{said}): it is read-only, or a mirror of another "
                "registry; push to one that accepts them",
                kind="registry_read_only",
            )
        if status in (401, 403):
            predicate, advice = self._denial(refused, path)
            kind = "registry_unreachable" if refused.problem and refused.problem.transient else "registry_auth"
            return ModelshipError(f"{named} {predicate}{said}: {advice}", kind=kind)
        if status == 413:
            text = f"{named} refuses a request of that size (413 on {method} {path}{said}): raise its limit"
            return ModelshipError(f"{text}, or that of a proxy before it", kind="registry")
        if status == 429:
            return ModelshipError(
                f"{named} limits the rate of requests (429 on {method} {path}{said}): wait a while, then run again",
                kind="registry_unreachable",
            )
        if retry.may_pass(status):
            # a proxy may be what responded
            return ModelshipError(
                f"{named} fails{self.through(origin)}: {status} on {method} {path}{said}; see its log, then run again",
                kind="registry_unreachable",
            )
        return ModelshipError(f"{named} responds with {status} to {method} {path}{said}", kind="registry")

    def _denial(self, refused: _Refused, path: str) -> tuple[str, str]:
        """Return why a 401 or 403 came, as a predicate of the server, and what to do."""
        status, origin, user = refused.response.status, parse_origin(refused.response.url), self.access.username
        if origin != self.origin:
            predicate = f"refuses access to {path} with {status}; credentials are sent to {self.origin} only"
            if origin.host != self.origin.host:
                return predicate, "have the registry name itself, or storage that needs no credentials"
            if (self.origin.scheme, origin.scheme) == ("https", "http"):
                return (
                    predicate,
                    "have the registry name itself with https (a proxy before it must send X-Forwarded-Proto)",
                )
            advice = f"name the registry as {origin.authority}"
            if origin.scheme != self.origin.scheme:
                advice += f", with plain_http: {str(origin.scheme == 'http').lower()}"
            return predicate, advice
        if status == 401 and refused.problem:
            credentials = "check username and password" if user else "give username and password"
            return refused.problem.predicate, refused.problem.advice or credentials
        if status == 403 and not refused.sent:
            return f"denies access to {path} without asking for credentials", "check the names of host and repository"
        if not user:
            return f"asks for credentials for {path}", "give username and password"
        if status == 401 and refused.sent != "Bearer":
            return f"refuses the credentials of '{user}' for {path}", "check username and password"
        return f"denies '{user}' access to {path}", "check the user's rights there"


def speaks_tls(response: Response) -> bool:
    """Return whether *response* is that of a server that speaks TLS to a request without."""
    return response.status == 400 and bool(_SPEAKS_TLS.search(response.body))


def _redirected(request: _Request, status: int) -> _Request:
    """Return what is sent to the new URL: the same request, but after 303 (See Other) a GET of it."""
    if status == 303 and request.method != "HEAD":
        return request._replace(method="GET", body=None)
    return request


def _message(response: Response) -> str:
    """Return what a registry's error says, on one line."""
    with contextlib.suppress(ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        error = json.loads(response.body)["errors"][0]
        return " ".join(str(error.get("message") or error["code"]).split())[:300]
    return ""
