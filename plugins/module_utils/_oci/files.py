# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and links of one's own in an image: the option ``files`` of ``image_build``."""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

from .._core.content import sha256_file
from .._core.errors import ModelshipError
from .._core.files import explained
from .tree import SYMLINK, Entry, Tree

#: Links to folders below /usr in a base of today: an entry below them would put a folder in the link's place.
_LINKS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
#: What the container runtime puts something else over.
_MOUNTED = ("dev", "proc", "sys")


@dataclasses.dataclass(frozen=True)
class HostFile:
    """One file or symbolic link.

    :param dest: path in the image, without the leading slash.
    :param src: file on the host; empty for a link.
    :param link: what the link points to; empty for a file.
    :param mode: permission bits of a file; 0 takes 0755 if its owner may run *src*, else 0644.
    """

    dest: str
    src: str = ""
    link: str = ""
    mode: int = 0

    def final_mode(self) -> int:
        """The permission bits in the image. Of the host's only the owner's right to execute counts: the rest is umask."""
        return self.mode or (0o755 if os.stat(self.src).st_mode & 0o100 else 0o644)

    def described(self) -> dict[str, t.Any]:
        """What the image's digest depends on; reads the whole file.

        :raises ModelshipError: the file cannot be read.
        """
        if self.link:
            return {"dest": f"/{self.dest}", "link": self.link}
        with explained(self.src):
            return {"dest": f"/{self.dest}", "sha256": sha256_file(self.src), "mode": f"{self.final_mode():04o}"}


def parse_files(given: t.Iterable[t.Mapping[str, t.Any]]) -> list[HostFile]:
    """Return the option ``files``, sorted by destination; nothing is read yet.

    :raises ModelshipError: an element is malformed, or two have the same destination.
    """
    found: dict[str, HostFile] = {}
    for number, element in enumerate(given):
        dest = _dest(f"files[{number}].dest", str(element["dest"]))
        src, link = element.get("src") or "", element.get("link") or ""
        if bool(src) == bool(link):
            raise ModelshipError(f"files[{number}]: give src or link for /{dest}, one of them")
        if link and element.get("mode"):
            raise ModelshipError(f"files[{number}].mode: the link /{dest} has no mode of its own: leave it out")
        if dest in found:
            raise ModelshipError(f"files[{number}].dest: /{dest} is named twice")
        found[dest] = HostFile(dest, src, link, _mode(f"files[{number}].mode", element.get("mode")))
    for dest in found:
        above = next((other for other in found if dest.startswith(other + "/")), None)
        if above:
            raise ModelshipError(f"files: /{above} cannot be a file and the folder of /{dest}")
    return [found[dest] for dest in sorted(found)]


def files_tree(files: t.Iterable[HostFile]) -> Tree:
    """Return the tree of *files*."""
    tree = Tree()
    for each in files:
        if each.link:
            tree.add(each.dest, Entry(SYMLINK, target=each.link))
        else:
            with explained(each.src):
                tree.add_path(each.dest, each.src, each.final_mode())
    return tree


def _dest(name: str, value: str) -> str:
    parts = value.removeprefix("/").split("/")
    if not value.startswith("/") or {"", ".", ".."} & set(parts):
        raise ModelshipError(f"{name}: '{value}' must be a path from the image's root, as in /usr/bin/program")
    if len(parts) > 1 and parts[0] in _LINKS:
        raise ModelshipError(f"{name}: '{value}' goes through a link of many bases: write /usr{value}")
    if parts[0] in _MOUNTED:
        raise ModelshipError(f"{name}: nothing of '{value}' would be seen, for /{parts[0]} is mounted over")
    return "/".join(parts)


def _mode(name: str, value: t.Any) -> int:
    if value is None:
        return 0
    if not re.fullmatch(r"0[1-7][0-7]{2}", str(value)):
        raise ModelshipError(f"{name}: '{value}' must be octal and in quotes, as in '0755'")
    return int(str(value), 8)
