# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to an API server over kept connections: credentials renewed, what may pass tried again, errors explained.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ and RFC 9110 (which methods may be repeated).
"""

from __future__ import annotations

import contextlib
import json
import random
import ssl
import threading
import time
import typing as t

from .._http.errors import ProxyRefusedError, is_permanent
from .access import Access
from .errors import FIELD_CONFLICT, ApiError, BrokenAnswerError, explain
from .wire import Connection, Head, dial

#: How long an API server may be away (a restart) before that is an error, if it has answered before …
PATIENCE_S = 30.0
#: … and if it never has: then its address is more likely to be wrong.
FIRST_PATIENCE_S = 5.0
#: How long it may refuse everything after it has started.
_START_S = 10.0
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 4.0
_CONNECT_S = 10.0
#: Answers that may be others a little later.
BUSY = frozenset({429, 500, 502, 503, 504})
#: What an API server says, as a 500, of a server-side apply with a field that the kind does not have.
_NEVER = b"failed to create typed patch object"
#: What the admission of an API server that has just started says, as a 403.
_NOT_YET = b"not yet ready to handle request"
#: Those of them that say that nothing was done.
_NOT_DONE = frozenset({429, 503})


class Answer(t.NamedTuple):
    """A whole answer; headers have lower-case names."""

    status: int
    headers: dict[str, str]
    body: bytes


class Request(t.NamedTuple):
    """What is asked.

    :param path: path and query, from the API server's root.
    :param headers: further ones than those that every request has.
    :param repeatable: doing it twice is as good as doing it once.
    :param contended: a 409 that names no field only says that another write came first, and is worth another try.
    :param verb: what it does, for messages.
    """

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    repeatable: bool = False
    contended: bool = False
    verb: str = ""


class _LostError(Exception):
    """No whole answer came, because of *cause*; *sent*: the server may have seen the request."""

    def __init__(self, cause: Exception, *, sent: bool, kept: bool = False) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.sent = sent
        self.kept = kept


class Transport:
    """Connections to the API server of *access*, for any number of threads.

    :param timeout: seconds to wait for one answer.
    """

    def __init__(self, access: Access, timeout: float) -> None:
        self.access = access
        self.timeout = timeout
        self._idle: list[Connection] = []
        self._session: tuple[int, ssl.SSLSession] | None = None
        self._answered = False
        self._away_since: float | None = None
        #: it has not broken a connection off, or has said since that it is ready
        self._ready = True
        self._refusing_since: float | None = None
        self._closing = threading.Event()

    def close(self) -> None:
        """Close the idle connections; what waits to try again gives up."""
        self._closing.set()
        while self._idle:
            self._idle.pop().close()

    def ask(self, request: Request, *, patient: bool = True) -> Answer:
        """Return the answer to *request*, whatever its status, after trying again what may pass.

        :param patient: ``False``: answers are returned as they are, and a lost connection is opened at most once more.
        :raises ApiError: no answer came.
        :raises ModelshipError: the credentials or certificates cannot be used.
        """
        started, attempt, renewed = time.monotonic(), 0, False
        while True:
            generation = self.access.generation()
            try:
                answer = self._exchange(request)
            except _LostError as lost:
                delay = self._delay_after_loss(request, lost, attempt, patient=patient)
                if delay is None:
                    raise self.lost(request, lost.cause, self.timeout if lost.sent else _CONNECT_S) from lost.cause
            else:
                if answer.status == 401 and not renewed and self._renew(answer, generation):
                    renewed = True
                    continue
                if not patient or not (_may_pass(request, answer) or self.is_starting(answer)):
                    return answer
                left = started + PATIENCE_S - time.monotonic()
                delay = max(_delay(attempt), _retry_after(answer))
                if delay > left:
                    return answer
            attempt += 1
            if self._closing.wait(delay):
                patient = False

    def stream(self, request: Request) -> tuple[Head, Connection]:
        """Return the head of the answer to *request* and the connection on which its body follows; the caller closes it.

        :raises OSError, BrokenAnswerError: no answer came. Nothing is tried again.
        """
        try:
            return self._send(request)
        except _LostError as lost:
            raise lost.cause from None

    def is_starting(self, answer: Answer) -> bool:
        """Tell whether *answer* is that of an API server which was away and has only just started: it may be another soon.

        Until it has read who may do what, it allows nobody anything, not even to ask whether it is ready.
        """
        if answer.status != 403 or self._ready:
            return False
        now = time.monotonic()
        if self._refusing_since is None:
            self._refusing_since = now
        if now - self._refusing_since > _START_S:
            return False  # this user never may ask that
        with contextlib.suppress(_LostError):
            if self._exchange(Request("GET", "/readyz", headers=(("Accept", "*/*"),))).status == 200:
                self._ready = True
                self._refusing_since = None
        return True

    def keep(self, connection: Connection) -> None:
        """Take back *connection*, on which a whole answer has been read."""
        if self._session is None or self._session[0] != connection.generation:
            session = getattr(connection.sock, "session", None)  # asked for once: it is copied each time
            self._session = (connection.generation, session) if session is not None else None
        if connection.reusable and not self._closing.is_set():
            connection.before_read = None
            self._idle.append(connection)
        else:
            connection.close()

    def lost(self, request: Request, cause: BaseException, waited: float = 0) -> ApiError:
        """Return the error for a request without an answer after *waited* seconds at most."""
        access, waited = self.access, min(waited or self.timeout, self.timeout)
        if isinstance(cause, ProxyRefusedError) and access.proxy is not None:
            why = f"the proxy {access.proxy.host}:{access.proxy.port} did not connect to it: {cause}"
        elif access.proxy is not None and isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):
            why = f"through the proxy {access.proxy.host}:{access.proxy.port}: {explain(cause, access.proxy.host, waited)}"
        else:
            why = explain(cause, access.host, waited)
        return ApiError(f"cannot {_doing(request)} at {access.name}: {why}")

    def refusal(self, request: Request, answer: Answer) -> ApiError:
        """Return the error that *answer*, whose status is 400 or more, stands for."""
        access, status = self.access, _status_object(answer.body)
        message = str(status.get("message") or _beginning(answer.body) or "it does not say why")
        for secret in access.credentials.secrets():
            message = message.replace(secret, "<redacted>")
        reason = str(status.get("reason") or "")
        causes = [cause for cause in (status.get("details") or {}).get("causes") or [] if isinstance(cause, dict)]
        if answer.status == 401:
            text = (
                f"{access.name} does not accept the credentials {access.credentials.description} (401 {message}): they are "
                "wrong or have expired; log in again or give others"
            )
        else:
            label = f"{answer.status} {reason}".strip()
            if "system:anonymous" in message:
                message += "; no credentials are given that it knows"
            text = f"{access.name} refused to {_doing(request)}: {message} ({label})"
        conflict = any(cause.get("reason") == FIELD_CONFLICT for cause in causes)
        return ApiError(
            text, status=answer.status, reason=reason, causes=causes, kind="conflict" if conflict else "kubernetes"
        )

    def _renew(self, answer: Answer, generation: int) -> bool:
        # through the API server's proxy a pod may answer 401 too; only the API server's own is a Status
        return bool(_status_object(answer.body)) and self.access.credentials.renew(generation)

    def _delay_after_loss(self, request: Request, lost: _LostError, attempt: int, *, patient: bool) -> float | None:
        """Seconds after which to try again, or ``None`` if that is of no use."""
        if is_permanent(lost.cause) or not (request.repeatable or not lost.sent):
            return None
        if lost.kept and attempt == 0:
            return 0.0  # the server had closed the connection since; that says nothing about it
        if not patient or self._away_since is None:
            return None
        patience = PATIENCE_S if self._answered else FIRST_PATIENCE_S
        delay = _delay(attempt)
        return delay if time.monotonic() + delay < self._away_since + patience else None

    def _exchange(self, request: Request) -> Answer:
        started = time.monotonic()
        head, connection = self._send(request)
        try:
            body = b"".join(connection.body(head))
        except (OSError, BrokenAnswerError, ValueError) as exc:
            connection.close()
            self._note_loss(started)
            raise _LostError(exc, sent=True) from exc
        self._away_since = None
        self.keep(connection)
        return Answer(head.status, head.headers, body)

    def _send(self, request: Request) -> tuple[Head, Connection]:
        access, started = self.access, time.monotonic()
        headers = access.headers()  # first: an exec plugin may give a certificate with the token
        target = access.prefix + request.path
        if access.proxy is not None and access.scheme == "http" and not access.proxy.socks:
            target = f"http://{_authority(access)}{target}"
            if access.proxy.authorization:
                headers = [*headers, ("Proxy-Authorization", access.proxy.authorization)]
        lines = [f"{request.method} {target} HTTP/1.1", f"Host: {_authority(access)}", "User-Agent: modelship"]
        lines += [f"{name}: {value}" for name, value in (*headers, *request.headers)]
        if request.body or request.method not in ("GET", "HEAD"):
            lines.append(f"Content-Length: {len(request.body)}")
        data = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + request.body
        try:
            connection = self._kept() or self._open()
        except (OSError, ProxyRefusedError, BrokenAnswerError, ValueError) as exc:
            self._note_loss(started)
            raise _LostError(exc, sent=False) from exc
        try:
            head = connection.send(data)
        except (OSError, BrokenAnswerError, ValueError) as exc:
            connection.close()
            self._ready = False
            if not connection.answers or isinstance(exc, TimeoutError):
                self._note_loss(started)
            raise _LostError(exc, sent=True, kept=connection.answers > 0) from exc
        if head.status == 407 and access.proxy is not None:
            connection.close()  # this is the proxy's response, not the API server's
            raise _LostError(access.proxy.unauthorized(), sent=False)
        self._answered = True
        return head, connection

    def _note_loss(self, started: float) -> None:
        self._ready = False
        self._refusing_since = None
        if self._away_since is None:
            self._away_since = started

    def _kept(self) -> Connection | None:
        generation = self.access.credentials.generation
        while True:
            try:
                connection = self._idle.pop()  # the one used last: the others may rest and be closed by the server
            except IndexError:
                return None
            if connection.generation == generation:
                if not connection.is_stale():
                    return connection
                self._ready = False  # whoever closed it may have been started anew since
            connection.close()

    def _open(self) -> Connection:
        access = self.access
        host, port = (access.proxy.host, access.proxy.port) if access.proxy else (access.host, access.port)
        sock, generation = dial(host, port, min(_CONNECT_S, self.timeout)), access.credentials.generation
        try:
            if access.proxy is not None and (access.scheme == "https" or access.proxy.socks):
                access.proxy.connect(sock, access.host, access.port)
            if access.scheme == "https":
                generation, context = access.ssl_context()
                made_with, session = self._session or (generation, None)
                if made_with != generation:
                    session = None  # else it spares both sides the certificates' arithmetic
                sock = context.wrap_socket(sock, server_hostname=access.tls_server_name, session=session)
            sock.settimeout(self.timeout)
        except BaseException:
            sock.close()
            raise
        return Connection(sock, generation)


def _may_pass(request: Request, answer: Answer) -> bool:
    """Tell whether the same request may be answered otherwise a little later."""
    if answer.status in BUSY:
        if answer.status == 500 and _NEVER in answer.body:
            return False
        return request.repeatable or answer.status in _NOT_DONE
    if answer.status == 403:
        return _NOT_YET in answer.body
    if answer.status != 409:
        return False
    status = _status_object(answer.body)
    details = status.get("details") or {}
    if details.get("kind") == "resourcequotas":
        return True  # two requests counted against one quota at once; nothing was done
    causes = details.get("causes") or []
    return request.contended and not any(cause.get("reason") == FIELD_CONFLICT for cause in causes)


def _delay(attempt: int) -> float:
    return float(min(_FIRST_DELAY_S * 2**attempt, _LONGEST_DELAY_S) * random.uniform(0.5, 1.0))  # noqa: S311 - no secret


def _retry_after(answer: Answer) -> float:
    value = answer.headers.get("retry-after", "")  # an API server gives seconds, never a date
    return float(value) if value.isdigit() else 0.0


def _status_object(body: bytes) -> dict[str, t.Any]:
    try:
        status = json.loads(body) if body[:1] == b"{" else None
    except ValueError:
        status = None
    return status if isinstance(status, dict) and status.get("kind") == "Status" else {}


def _beginning(body: bytes) -> str:
    return " ".join(body[:400].decode("utf-8", "replace").split())[:200]


def _authority(access: Access) -> str:
    host = f"[{access.host}]" if ":" in access.host else access.host
    return host if access.port == (443 if access.scheme == "https" else 80) else f"{host}:{access.port}"


_VERBS = {"GET": "read", "POST": "create", "PUT": "replace", "PATCH": "change", "DELETE": "delete"}


def _doing(request: Request) -> str:
    """Say what *request* does: C(apply deployments digits in namespace shop)."""
    path = request.path.partition("?")[0]
    parts = [part for part in path.split("/") if part]
    parts = parts[2:] if parts[:1] == ["api"] else parts[3:] if parts[:1] == ["apis"] else []
    where = ""
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        where, parts = f" in namespace {parts[1]}", parts[2:]
    return f"{request.verb or _VERBS.get(request.method, request.method)} {'/'.join(parts) or path}{where}"
