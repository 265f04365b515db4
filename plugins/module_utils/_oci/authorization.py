# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Authorization at a registry: Basic, and tokens of the service that the registry names.

Source: the token protocol of the distribution project (``spec/auth/token.md``); RFC 7617 (Basic).
"""

from __future__ import annotations

import base64
import json
import threading
import typing as t
import urllib.parse

from .._http.challenge import Challenge, parse_challenges
from .._http.connection import Response
from .._http.origin import Origin, parse_origin, resolve
from .._http.retry import may_pass

#: Advice where neither the user nor the network is at fault.
_CONFIGURATION = "correct the registry's configuration"

#: Fetches a URL; the headers are for its origin only.
Fetch = t.Callable[[str, dict[str, str]], Response]


class Problem(t.NamedTuple):
    """Why a challenge could not be met.

    :param predicate: of the registry, as in "names a token service that cannot be used".
    :param advice: what to do; empty where the credentials are to be checked.
    :param transient: it may be another a little later.
    """

    predicate: str
    advice: str = ""
    transient: bool = False


class Met(t.NamedTuple):
    """What came of a challenge.

    :param retry: the request is worth another attempt.
    :param problem: why it is not; ``None`` where the credentials were sent already.
    """

    retry: bool
    problem: Problem | None = None


class Authorization:
    """Credentials for the registry *origin*; safe to use from several threads.

    :param username: empty: anonymous.
    """

    def __init__(self, origin: Origin, username: str, password: str, fetch: Fetch) -> None:
        self._origin = origin
        self._username = username
        self._password = password
        self._fetch = fetch
        self._basic = False
        self._tokens: dict[tuple[str, ...], str] = {}
        self._lock = threading.Lock()

    def header(self, scopes: tuple[str, ...]) -> str:
        """Return the value of ``Authorization`` for a request that needs *scopes*; empty until a challenge asked for one."""
        with self._lock:
            token = self._tokens.get(scopes)
        if token:
            return f"Bearer {token}"
        return self._credentials() if self._basic else ""

    def meet(self, response: Response, scopes: tuple[str, ...], sent: str) -> Met:
        """Do what one of the challenges of the 401 *response* asks for.

        :param sent: value of ``Authorization`` that the request had.
        :raises ConnectionFailedError: the token service did not respond.
        """
        challenges = parse_challenges(response.headers.get_all("WWW-Authenticate") or [])
        if not challenges:
            text = "asks for credentials without saying how to send them (no WWW-Authenticate)"
            return Met(False, None if sent else Problem(text))
        problem: Problem | None = None
        for challenge in (each for each in challenges if each.scheme == "bearer"):
            problem = self._get_token(challenge, scopes)
            if not problem:
                return Met(True)
        if any(each.scheme == "basic" for each in challenges):
            if self._username and not sent.startswith("Basic "):
                self._basic = True
                with self._lock:
                    self._tokens.pop(scopes, None)
                return Met(True)
            return Met(False, problem)
        if not problem:
            schemes = ", ".join(dict.fromkeys(each.scheme.capitalize() for each in challenges))
            problem = Problem(f"asks for authentication by {schemes}; only Basic and Bearer are supported")
        return Met(False, problem)

    def redacted(self, text: str) -> str:
        """Return *text* without the password, in case a server repeats it."""
        for secret in filter(None, (self._password, self._username and self._credentials()[6:])):
            text = text.replace(secret, "<redacted>")
        return text

    def _credentials(self) -> str:
        return "Basic " + base64.b64encode(f"{self._username}:{self._password}".encode()).decode()

    def _get_token(self, challenge: Challenge, scopes: tuple[str, ...]) -> Problem | None:
        """Get a token for *scopes*; return why there is none, or ``None``."""
        realm, service = challenge.parameters.get("realm", ""), challenge.parameters.get("service")
        try:
            realm = resolve(realm, realm)
            origin = parse_origin(realm)
        except ValueError as exc:
            return Problem(f"names a token service that cannot be used ({exc})", _CONFIGURATION)
        if origin.scheme == "http" and self._origin.scheme == "https" and self._username:
            return Problem(
                f"names the token service {origin}, to which no password is sent, because it has no TLS", _CONFIGURATION
            )
        asked = scopes or tuple(filter(None, [challenge.parameters.get("scope")]))
        query = urllib.parse.urlencode(
            ([("service", service)] if service else []) + [("scope", each) for each in asked]
        )
        url = realm + ("&" if "?" in realm else "?") + query if query else realm
        response = self._fetch(url, {"Authorization": self._credentials()} if self._username else {})
        if response.status in (401, 403) and self._username:
            return Problem(f"has a token service, {origin}, that refuses the credentials of '{self._username}'")
        if response.status != 200:
            predicate = f"has a token service, {origin}, that responds with {response.status}"
            if may_pass(response.status):
                return Problem(predicate, "see its log, then run again", transient=True)
            return Problem(predicate, "" if response.status in (401, 403) else _CONFIGURATION)
        token = _token(response.body)
        if not token:
            return Problem(f"has a token service, {origin}, whose response holds no token", _CONFIGURATION)
        with self._lock:
            self._tokens[scopes] = token
        return None


def _token(body: bytes) -> str:
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    token = (values.get("token") or values.get("access_token")) if isinstance(values, dict) else ""
    # it becomes part of a header
    return token if isinstance(token, str) and token.isascii() and token.isprintable() else ""
