# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who we are for the API server: tokens, certificates and passwords, renewed when they expire."""

from __future__ import annotations

import base64
import threading
import time
import typing as t

from .kubeconfig import Entry, Selected, file_or_data, read_bytes, wrong

#: A token is renewed this many seconds before it expires, so that it does not expire on its way.
_EARLY_S = 10.0
#: How long a token file's content is used before it is read again (the kubelet rotates them well ahead of time).
_TOKEN_FILE_S = 60.0

Headers = list[tuple[str, str]]


class Credentials:
    """What is sent to the API server to tell who asks.

    :param selected: context of a kubeconfig.
    :param token: bearer token that replaces whatever the kubeconfig says.
    :raises ModelshipError: what the kubeconfig names cannot be used.
    """

    def __init__(self, selected: Selected, token: str = "") -> None:
        user = selected.user
        self._selected = selected
        self._lock = threading.Lock()
        self._expires: float | None = None
        self._authorization = ""
        #: Counts renewals, so that threads refused at once renew only once.
        self.generation = 0
        #: For messages: what kind of credentials these are.
        self.description = f"of user '{selected.user_name}'" if selected.user_name else "given"
        #: Word for what is, or will be, shown to the server; empty where nothing is.
        self.kind = ""
        self.certificate = file_or_data(user, "client-certificate")
        self.key = file_or_data(user, "client-key")
        self._impersonation = _impersonation(user)
        self._renewal: t.Callable[[], None] | None = None
        if token:
            self._authorization, self.description = _bearer(token, "of option api_token"), "of option api_token"
            self.kind = "token"
        elif user.get("auth-provider"):
            self._renewal, self.kind = self._legacy, "token of the auth-provider"
        elif user.get("token"):
            self._authorization, self.kind = _bearer(str(user["token"]), self.description), "token"
        elif user.get("tokenFile"):
            self._renewal, self.kind = self._token_file, "token of the tokenFile"
        elif user.get("exec"):
            self._renewal, self.kind = self._exec, "credentials of the exec plugin"
        elif user.get("username") is not None and user.get("password") is not None:
            pair = f"{user['username']}:{user['password']}".encode()
            self._authorization, self.kind = f"Basic {base64.b64encode(pair).decode()}", "password"
        elif self.certificate:
            self.kind = "client certificate"
        else:
            self.description = "(none are given)"

    @property
    def renewable(self) -> bool:
        """Whether asking again may give other credentials."""
        return self._renewal is not None

    def secrets(self) -> list[str]:
        """What must never be part of a message."""
        return [part for part in self._authorization.split(" ")[1:] if part]

    def headers(self) -> Headers:
        """Return the headers that tell who asks; expired ones are renewed before."""
        if self._renewal is not None and (not self._authorization or self._expired()):
            with self._lock:
                if self._expired() or not self.generation:
                    self._renew()
        lines: Headers = [("Authorization", self._authorization)] if self._authorization else []
        return lines + self._impersonation

    def renew(self, generation: int) -> bool:
        """Get new credentials, unless another thread has since *generation*; ``False`` where none can be got."""
        if self._renewal is None:
            return False
        with self._lock:
            if self.generation == generation:
                self._renew()
        return True

    def _expired(self) -> bool:
        return self._expires is not None and time.time() >= self._expires

    def _renew(self) -> None:
        if self._renewal is not None:
            self._renewal()
            self.generation += 1

    def _token_file(self) -> None:
        path = self._selected.user["tokenFile"]
        token = read_bytes(path, "tokenFile").decode("utf-8", "replace")
        self._authorization = _bearer(token, f"in tokenFile {path} ({self._selected.source})")
        self._expires = time.time() + _TOKEN_FILE_S

    def _exec(self) -> None:
        from .exec_plugin import run_plugin

        answer = run_plugin(self._selected)
        self._authorization = _bearer(answer.token, "of the exec plugin") if answer.token else ""
        if answer.certificate:
            self.certificate, self.key = answer.certificate, answer.key
        self._expires = None if answer.expires is None else answer.expires - _EARLY_S

    def _legacy(self) -> None:
        name = self._selected.user["auth-provider"].get("name")
        try:
            from kubernetes import client, config
        except ImportError as exc:
            raise wrong(
                f"user '{self._selected.user_name}' ({self._selected.source}) uses the auth-provider '{name}', which only the "
                "Python package kubernetes knows: install it, or use an exec plugin (kubelogin, gke-gcloud-auth-plugin)"
            ) from exc
        configuration = client.Configuration()
        entry: Entry = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "clusters": [{"name": "it", "cluster": {"server": self._selected.cluster["server"]}}],
            "users": [{"name": "it", "user": {"auth-provider": self._selected.user["auth-provider"]}}],
        }
        try:
            load: t.Any = config.load_kube_config_from_dict
            load(entry, client_configuration=configuration, persist_config=False)
        except Exception as exc:  # whatever a provider's library raises
            raise wrong(
                f"auth-provider '{name}' of user '{self._selected.user_name}' fails: {type(exc).__name__}"
            ) from exc
        self._authorization = str(configuration.api_key.get("BearerToken") or "")
        if not self._authorization:
            raise wrong(f"auth-provider '{name}' of user '{self._selected.user_name}' gives no token: log in again")
        self._expires = time.time() + _TOKEN_FILE_S


def _bearer(token: str, which: str) -> str:
    stripped = token.strip()
    if not stripped:
        raise wrong(f"the token {which} is empty")
    if not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise wrong(f"the token {which} is none: it holds characters that no token has")
    return f"Bearer {stripped}"


def _impersonation(user: Entry) -> Headers:
    lines: Headers = []
    if user.get("as"):
        lines.append(("Impersonate-User", str(user["as"])))
    if user.get("as-uid"):
        lines.append(("Impersonate-Uid", str(user["as-uid"])))
    lines += [("Impersonate-Group", str(group)) for group in user.get("as-groups") or []]
    for name, values in (user.get("as-user-extra") or {}).items():
        lines += [(f"Impersonate-Extra-{name}", str(value)) for value in values]
    return lines
