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
import typing as t
import urllib.parse

from .._core.content import parse_digest, sha256_bytes
from .._core.errors import ModelshipError
from .._core.files import explained
from .descriptors import MANIFEST_TYPES
from .layers import settle
from .transport import Access, FileBody, Transport

_CHUNK = 1 << 20


class Repository:
    """The repository *name* of the registry *host*.

    :param push: ask for the right to write as well.
    """

    def __init__(self, host: str, name: str, access: Access, *, push: bool = False) -> None:
        self.name = name
        self.transport = Transport(host, access)
        self._scope = f"repository:{name}:{'pull,push' if push else 'pull'}"

    def check(self) -> None:
        """Check that a registry answers at all.

        :raises ModelshipError: nothing answers, or not a registry, or the credentials are refused.
        """
        answer = self.transport.request("GET", "/v2/", expect=range(200, 500), scope=self._scope)
        version = answer.headers.get("Docker-Distribution-Api-Version", "")
        if answer.status in (401, 403):
            # The registry may still let this repository be used; if not, the next request says so.
            if version or answer.headers.get("WWW-Authenticate"):
                self.transport.request("HEAD", self._path("manifests/latest"), expect=(200, 404), scope=self._scope)
                return
        elif answer.status == 200 and (version or answer.body.strip() in (b"", b"{}")):
            return
        elif b"HTTP request to an HTTPS server" in answer.body:
            raise ModelshipError(
                f"the registry {self.transport.host} speaks TLS: set plain_http: false", kind="registry_tls"
            )
        raise ModelshipError(
            f"{self.transport.host} is not a registry: GET /v2/ answers {answer.status}; check host and port",
            kind="not_a_registry",
        )

    def _path(self, rest: str) -> str:
        return f"/v2/{self.name}/{rest}"

    def has_blob(self, digest: str, size: int) -> bool:
        """Tell whether the repository has the blob *digest*."""
        answer = self.transport.request("HEAD", self._path(f"blobs/{digest}"), expect=(200, 404), scope=self._scope)
        length = answer.headers.get("Content-Length")
        return answer.status == 200 and (length is None or int(length) == size)

    def manifest_digest(self, reference: str) -> str:
        """Return the digest that the tag or digest *reference* names, or ``""``."""
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        path = self._path(f"manifests/{reference}")
        answer = self.transport.request("HEAD", path, expect=(200, 404), headers=headers, scope=self._scope)
        if answer.status == 404:
            return ""
        digest = answer.headers.get("Docker-Content-Digest")
        return digest or self.manifest(reference)[0]

    def manifest(self, reference: str) -> tuple[str, bytes, str]:
        """Return digest, bytes and media type of the manifest that *reference* names.

        :raises ModelshipError: it is not there, or its bytes are not what the digest says.
        """
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        path = self._path(f"manifests/{reference}")
        answer = self.transport.request("GET", path, expect=(200, 404), headers=headers, scope=self._scope)
        if answer.status == 404:
            raise ModelshipError(
                f"{self.transport.host}/{self.name} has no '{reference}': check repository, tag or digest",
                kind="not_found",
            )
        digest = sha256_bytes(answer.body)
        if ":" in reference and digest != reference:
            raise ModelshipError(
                f"the registry {self.transport.host} gives another manifest than {reference}", kind="hash_mismatch"
            )
        return digest, answer.body, answer.headers.get_content_type()

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> None:
        """Store the manifest *data* under a digest or tag."""
        path = self._path(f"manifests/{reference}")
        headers = {"Content-Type": media_type}
        self.transport.request("PUT", path, expect=(201,), headers=headers, body=data, scope=self._scope)

    def upload(
        self,
        path: str,
        digest: str,
        size: int,
        report: t.Callable[[int], None] | None = None,
        mount_from: t.Sequence[str] = (),
    ) -> bool:
        """Bring the file *path* into the repository as the blob *digest*; tell whether bytes had to be sent.

        A broken upload is begun anew, as often as the transport allows.

        :param mount_from: repositories of the same registry that may have the blob already.
        """
        for source in mount_from:
            query = urllib.parse.urlencode({"mount": digest, "from": source})
            answer = self._post(f"blobs/uploads/?{query}")
            if answer.status == 201:
                return False
            with contextlib.suppress(ModelshipError):
                self.transport.request("DELETE", answer.headers["Location"], expect=(204,), scope=self._scope)
        attempts = self.transport.access.attempts
        for attempt in range(attempts):
            answer = self._post("blobs/uploads/")
            url = answer.headers.get("Location", "")
            url += ("&" if "?" in url else "?") + urllib.parse.urlencode({"digest": digest})
            # 404: the session is gone, as after a restart of the registry; the next one starts from zero.
            final = attempt == attempts - 1
            answer = self.transport.request(
                "PUT",
                url,
                expect=(201,) if final else (201, 404),
                headers={"Content-Type": "application/octet-stream"},
                body=FileBody(path, size, report),
                scope=self._scope,
            )
            if answer.status == 201:
                break
        return True

    def _post(self, rest: str) -> t.Any:
        return self.transport.request("POST", self._path(rest), expect=(201, 202), scope=self._scope)

    def download(self, digest: str, size: int, target: str, report: t.Callable[[int], None] | None = None) -> None:
        """Fetch the blob *digest* into the file *target*, checked.

        :raises ModelshipError: it is not there, or what came is not what the digest says.
        """
        folder = os.path.dirname(target)
        with explained(folder):
            os.makedirs(folder, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=".new-")
            os.close(handle)

        def sink(response: http.client.HTTPResponse) -> bytes:
            seen, done = hashlib.sha256(), 0
            with open(temporary, "wb") as stream:
                while chunk := response.read(_CHUNK):
                    seen.update(chunk)
                    with explained(temporary):
                        stream.write(chunk)
                    done += len(chunk)
                    if report is not None:
                        report(done)
            if done != size:
                raise http.client.IncompleteRead(b"", size - done)
            return seen.hexdigest().encode()

        try:
            answer = self.transport.request(
                "GET", self._path(f"blobs/{digest}"), expect=(200,), scope=self._scope, sink=sink
            )
            if answer.body.decode() != parse_digest(digest):
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
        answer = self.transport.request("GET", self._path(f"blobs/{digest}"), expect=(200,), scope=self._scope)
        if sha256_bytes(answer.body) != digest:
            raise ModelshipError(
                f"the registry {self.transport.host} gives other bytes than {digest}", kind="hash_mismatch"
            )
        return answer.body
