# SPDX-License-Identifier: GPL-3.0-or-later
"""API keys: a file with one ``name sha256:<hex>`` a line, the SHA-256 of a key that itself is written nowhere.

A plain hash is right for keys that are random (``openssl rand -hex 32``); it would not be for passwords that people choose.
A name may have several keys, so that one can be replaced without an interruption.
"""

from __future__ import annotations

import re

from ..errors import StartError
from .watch import reason

_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._@-]{0,63})\s+sha256:([0-9a-fA-F]{64})")
_MOST_BYTES = 1 << 20


class Keys:
    """The keys of a file.

    :raises StartError: it cannot be read, has no key, or a line is none; the message names the setting and the line.
    """

    def __init__(self, path: str) -> None:
        self._keys = {digest: name for name, digest in _read(path)}

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, digest: bytes) -> str | None:
        """Return whose key has the SHA-256 *digest*.

        A look into a dictionary: its time does not depend on the number of keys, and tells nothing of them, as nobody can
        choose keys by parts of their SHA-256.
        """
        return self._keys.get(digest)


def _read(path: str) -> list[tuple[str, bytes]]:
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read(_MOST_BYTES)
    except OSError as exc:
        raise StartError(f"MODELSHIP_API_KEYS='{path}' cannot be read: {reason(exc)}") from exc
    except UnicodeDecodeError as exc:
        raise StartError(f"MODELSHIP_API_KEYS='{path}' is no text file: {exc}") from exc
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if not match:
            # The line itself is not shown: whoever wrote the key there in place of its hash would find it in the logs.
            raise StartError(
                f"MODELSHIP_API_KEYS='{path}' line {number} is no key: write 'name sha256:<64 hexadecimal digits>'; "
                'printf %s "$KEY" | sha256sum prints them'
            )
        keys.append((match[1], bytes.fromhex(match[2])))
    if not keys:
        raise StartError(f"MODELSHIP_API_KEYS='{path}' has no keys: nobody could ask; add one or unset the variable")
    return keys
