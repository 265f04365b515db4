# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Platforms as OCI names them: ``linux/amd64``, ``linux/arm64/v8``."""

from __future__ import annotations

import dataclasses
import platform as host
import typing as t

from .._core.errors import ModelshipError

_NAMES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le",
          "s390x": "s390x", "riscv64": "riscv64", "i686": "386"}  # fmt: skip
_DEBIAN = {"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}


@dataclasses.dataclass(frozen=True)
class Platform:
    """What an image runs on; *variant* may be empty."""

    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return f"linux/{self.architecture}" + (f"/{self.variant}" if self.variant else "")

    @property
    def debian(self) -> str:
        """Debian's name of the architecture."""
        return _DEBIAN.get(self.architecture, self.architecture)

    def as_document(self) -> dict[str, str]:
        """Return the ``platform`` object of a descriptor."""
        document = {"architecture": self.architecture, "os": "linux"}
        if self.variant:
            document["variant"] = self.variant
        return document

    def matches(self, document: t.Any) -> bool:
        """Tell whether a descriptor's ``platform`` object is this platform."""
        if not isinstance(document, dict) or document.get("os") != "linux":
            return False
        variant = self.variant or document.get("variant", "")
        return document.get("architecture") == self.architecture and document.get("variant", variant) == variant


def parse_platform(text: str | None) -> Platform:
    """Read ``linux/ARCHITECTURE[/VARIANT]``; nothing means this host.

    :raises ModelshipError: it is another operating system or malformed.
    """
    if not text:
        return Platform(_NAMES.get(host.machine(), host.machine()))
    system, _unused, rest = text.partition("/")
    architecture, _unused, variant = rest.partition("/")
    if system != "linux" or not architecture:
        raise ModelshipError(f"platform: '{text}' must be linux/ARCHITECTURE[/VARIANT], as in linux/amd64")
    return Platform(architecture, variant)
