# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A registry's repositories: what is there, upload, download. Source: OCI distribution specification 1.1."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import tempfile
import time
import typing as t
import urllib.parse

from .._core.content import is_digest, parse_digest, sha256_bytes
from .._core.errors import ModelshipError
from .._core.files import explained
from .._http.connection import Response
from .descriptors import MANIFEST_TYPES
from .layers import settle
from .transport import Access, FileBody, Transport, speaks_tls

_CHUNK = 1 << 20
#: Statuses by which ``/v2/`` tells what is there; redirects are followed.
_ANY = frozenset(range(200, 500)) - {301, 302, 303, 307, 308, 408, 425, 429}
#: Statuses with which registries and their proxies refuse ``HEAD`` where they support ``GET``.
_NO_HEAD = (400, 405, 501)
#: Statuses of what was stored: 201 by the specification, but some registries and proxies respond with others.
_STORED = (200, 201, 202, 204)
#: The session of an upload is gone or out of step, as after a restart of the registry or a broken connection.
_SESSION_LOST = (404, 416)


class Repository:
    """The repository *name* of the registry *host*.

    :param push: ask for the right to write as well.
    """

    def __init__(self, host: str, name: str, access: Access, *, push: bool = False) -> None:
        self.name = name
        self.transport = Transport(host, access)
        self._scope = f"repository:{name}:{'pull,push' if push else 'pull'}"
        self._unmountable: set[str] = set()

    def check(self) -> None:
        """Check that a registry is there.

        :raises ModelshipError: nothing responds, or not a registry, or the credentials are refused.
        """
        response = self.transport.request("GET", "/v2/", expect=_ANY, scope=self._scope)
        version = response.headers.get("Docker-Distribution-Api-Version", "")
        if response.status in (401, 403):
            # The registry may still let this repository be used; if not, the next request says so.
            if version or response.headers.get("WWW-Authenticate"):
                self.manifest_digest("latest")
                return
        elif response.status == 200 and (version or response.body.strip() in (b"", b"{}")):
            return
        elif speaks_tls(response):
            raise ModelshipError(
                f"the registry {self.transport.host} speaks TLS: set plain_http: false", kind="registry_tls"
            )
        raise ModelshipError(
            f"{self.transport.host} is not a registry: it responds to GET /v2/ with {response.status}"
            f"{self.transport.through()}; check host and port",
            kind="not_a_registry",
        )

    def _path(self, rest: str) -> str:
        return f"/v2/{self.name}/{rest}"

    def has_blob(self, digest: str, size: int) -> bool:
        """Return whether the repository has the blob *digest*; ``False`` also where the registry cannot say so.

        Storage to which a registry redirects may refuse ``HEAD`` with 403, for the URL was signed for ``GET``.
        """
        response = self.transport.request(
            "HEAD", self._path(f"blobs/{digest}"), expect=(200, 403, 404, *_NO_HEAD), scope=self._scope
        )
        return response.status == 200 and response.headers.get("Content-Length", str(size)) == str(size)

    def manifest_digest(self, reference: str) -> str:
        """Return the digest that the tag or digest *reference* names, or ``""``."""
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        path = self._path(f"manifests/{reference}")
        response = self.transport.request(
            "HEAD", path, expect=(200, 404, *_NO_HEAD), headers=headers, scope=self._scope
        )
        if response.status == 404:
            return ""
        digest = response.headers.get("Docker-Content-Digest", "").strip()
        if response.status == 200 and is_digest(digest):
            return digest
        try:
            return self.manifest(reference)[0]
        except ModelshipError as exc:
            if exc.kind != "not_found":
                raise
            return ""

    def manifest(self, reference: str) -> tuple[str, bytes, str]:
        """Return digest, bytes and media type of the manifest that *reference* names.

        :raises ModelshipError: it is not there, or its bytes are not what the digest says.
        """
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        path = self._path(f"manifests/{reference}")
        response = self.transport.request("GET", path, expect=(200, 404), headers=headers, scope=self._scope)
        if response.status == 404:
            raise ModelshipError(
                f"{self.transport.host}/{self.name} has no '{reference}': check repository, tag or digest",
                kind="not_found",
            )
        digest = sha256_bytes(response.body)
        if ":" in reference and digest != reference:
            raise ModelshipError(
                f"the registry {self.transport.host} gives another manifest than {reference}", kind="hash_mismatch"
            )
        return digest, response.body, response.headers.get_content_type()

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> None:
        """Store the manifest *data* under a digest or tag."""
        path = self._path(f"manifests/{reference}")
        headers = {"Content-Type": media_type}
        self.transport.request("PUT", path, expect=_STORED, headers=headers, body=data, scope=self._scope)

    def upload(
        self,
        path: str,
        digest: str,
        size: int,
        report: t.Callable[[int], None] | None = None,
        mount_from: t.Sequence[str] = (),
    ) -> bool:
        """Bring the file *path* into the repository as the blob *digest*; return whether bytes had to be sent.

        An upload that breaks is started again in a new session, as often as the access allows.

        :param mount_from: repositories of the same registry that may have the blob already. Where it cannot be mounted from
            any of them, for whatever reason, it is uploaded.
        """
        if any(self._mount(digest, source) for source in mount_from):
            return False
        attempts = self.transport.access.attempts
        for attempt in range(attempts):
            time.sleep(self.transport.retry.wait_s(attempt))
            session = self._post("blobs/uploads/", (self._scope,))
            url = self.transport.location(session)
            url += ("&" if "?" in url else "?") + urllib.parse.urlencode({"digest": digest})
            final = attempt == attempts - 1
            try:
                response = self.transport.request(
                    "PUT",
                    url,
                    expect=_STORED if final else (*_STORED, *_SESSION_LOST),
                    headers={"Content-Type": "application/octet-stream"},
                    body=FileBody(path, size, report),
                    scope=self._scope,
                    # what has arrived of it would be in the way of a second attempt in the same session
                    attempts=1,
                )
            except ModelshipError as exc:
                if final or exc.kind != "registry_unreachable":
                    raise
                continue
            if response.status in _STORED:
                break
        return True

    def _mount(self, digest: str, source: str) -> bool:
        """Mount the blob *digest* from the repository *source*; return whether it worked."""
        if source in self._unmountable:
            return False
        query = urllib.parse.urlencode({"mount": digest, "from": source})
        try:
            response = self._post(f"blobs/uploads/?{query}", (self._scope, f"repository:{source}:pull"), attempts=1)
        except ModelshipError as exc:
            if exc.kind != "registry":
                self._unmountable.add(source)  # it is not about this blob: the others would be refused too
            return False
        if response.status == 201:
            return True
        with contextlib.suppress(ModelshipError):
            url = self.transport.location(response)
            self.transport.request("DELETE", url, expect=(204,), scope=self._scope, attempts=1)
        return False

    def _post(self, rest: str, scopes: tuple[str, ...], attempts: int | None = None) -> Response:
        return self.transport.request("POST", self._path(rest), expect=(201, 202), scope=scopes, attempts=attempts)

    def download(self, digest: str, size: int, target: str, report: t.Callable[[int], None] | None = None) -> None:
        """Fetch the blob *digest* into the file *target*, checked.

        :raises ModelshipError: it is not there, or what came is not what the digest says.
        """
        folder = os.path.dirname(target)
        with explained(folder):
            os.makedirs(folder, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
            os.close(handle)

        def sink(source: http.client.HTTPResponse) -> bytes:
            seen, done = hashlib.sha256(), 0
            with explained(temporary):
                stream = open(temporary, "wb")  # noqa: SIM115 - below
            with stream:
                while chunk := source.read(_CHUNK):
                    seen.update(chunk)
                    with explained(temporary):
                        stream.write(chunk)
                    done += len(chunk)
                    if done > size:
                        raise ModelshipError(
                            f"the registry {self.transport.host} gives more than the {size} bytes of {digest}",
                            kind="hash_mismatch",
                        )
                    if report is not None:
                        report(done)
            if done != size:
                raise http.client.IncompleteRead(b"", size - done)
            return seen.hexdigest().encode()

        try:
            response = self.transport.request(
                "GET", self._path(f"blobs/{digest}"), expect=(200,), scope=self._scope, sink=sink
            )
            if response.body.decode() != parse_digest(digest):
                raise ModelshipError(
                    f"the registry {self.transport.host} gives other bytes than {digest}: they were damaged on their way",
                    kind="hash_mismatch",
                )
            with explained(target):
                settle(temporary)
                os.replace(temporary, target)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)

    def blob_json(self, digest: str) -> bytes:
        """Return the (small) JSON blob *digest*, checked."""
        response = self.transport.request("GET", self._path(f"blobs/{digest}"), expect=(200,), scope=self._scope)
        if sha256_bytes(response.body) != digest:
            raise ModelshipError(
                f"the registry {self.transport.host} gives other bytes than {digest}", kind="hash_mismatch"
            )
        return response.body
