# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of images in registries: ``host[:port]/repository[:tag][@sha256:…]``.

Source: the grammar of the distribution project's ``reference`` package.
"""

from __future__ import annotations

import dataclasses
import re

from .._core.content import parse_digest
from .._core.errors import ModelshipError

_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_HOST = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(?::[0-9]{1,5})?")


@dataclasses.dataclass(frozen=True)
class Reference:
    """An image's name; *tag* and *digest* may be empty."""

    host: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """``host/repository``."""
        return f"{self.host}/{self.repository}"

    @property
    def wanted(self) -> str:
        """What to ask the registry for: the digest where there is one, else the tag."""
        return self.digest or self.tag or "latest"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Read an image's name. One without a host is Docker's own registry's.

    :raises ModelshipError: it is malformed.
    """
    rest, _unused, digest = text.partition("@")
    if digest:
        parse_digest(digest)
    first, slash, remainder = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host, path = first, remainder
    else:
        host, path = "docker.io", rest
    path, colon, tag = path.rpartition(":") if ":" in path else (path, "", "")
    if host == "docker.io":
        host = "registry-1.docker.io"
        path = path if "/" in path else f"library/{path}"
    if not _HOST.fullmatch(host) or not _REPOSITORY.fullmatch(path) or (colon and not _TAG.fullmatch(tag)):
        raise ModelshipError(
            f"'{text}' is no image reference: it must be host[:port]/repository[:tag][@sha256:…], lower case"
        )
    return Reference(host, path, tag, digest)


def parse_repository(text: str) -> str:
    """Return *text* if it is a repository's name without its registry, as in ``models/digits``.

    :raises ModelshipError: it is not.
    """
    if not _REPOSITORY.fullmatch(text):
        raise ModelshipError(
            f"'{text}' is not the name of a repository: give it without host, tag and digest, lower case, as in models/digits"
        )
    return text


def parse_tag(text: str) -> str:
    """Return *text* if it is a tag.

    :raises ModelshipError: it is none.
    """
    if not _TAG.fullmatch(text):
        raise ModelshipError(f"'{text}' is no tag: letters, digits, '_', '.', '-', at most 128, none of '.-' first")
    return text
