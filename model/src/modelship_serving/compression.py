# SPDX-License-Identifier: GPL-3.0-or-later
"""Decompression of gzip and deflate (RFC 1950 to 1952) with bounds on what comes out and on the work."""

from __future__ import annotations

import zlib

#: Of zlib: a gzip or a zlib header, told apart by the bytes; none of both.
_EITHER, _RAW = 47, -15
_MAGIC = b"\x1f\x8b"
#: A gzip file is a series of members, which may be empty: 20 bytes each, of far more work than 20 bytes of one.
_MOST_MEMBERS = 8192
#: What follows a member is copied with each: so much of it.
_PIECE = 4096


class TooLargeError(Exception):
    """What comes out is larger than the limit."""


class DamagedError(Exception):
    """The data is not what its coding says; the message says why."""


def decompress(data: bytes, limit: int, raw: bool = False) -> bytes:
    """Return what *data* holds: all members of a gzip file, or one zlib stream.

    :param limit: most bytes of the result.
    :param raw: it is a deflate stream without any header.
    :raises TooLargeError: there is more.
    :raises DamagedError: it is neither, cut off, followed by something else, or has more than 8192 members.
    """
    try:
        stream = zlib.decompressobj(_RAW if raw else _EITHER)
        found = stream.decompress(data, limit + 1)
        if len(found) > limit:
            raise TooLargeError
        if not stream.eof:
            raise DamagedError("it is cut off")
        rest = len(stream.unused_data)
        if not rest:
            return found
        if raw or not data.startswith(_MAGIC):
            raise DamagedError(f"{rest} bytes follow its end")
        return _further(data, len(data) - rest, found, limit)
    except zlib.error as exc:
        raise DamagedError(str(exc)) from None


def _further(data: bytes, place: int, first: bytes, limit: int) -> bytes:
    """Return the *first* member's content and that of those from *place* on."""
    view = memoryview(data)
    found = bytearray(first)
    members = 1
    while place < len(data):
        members += 1
        if members > _MOST_MEMBERS:
            raise DamagedError(f"it has more than {_MOST_MEMBERS} members")
        stream = zlib.decompressobj(31)
        while not stream.eof:
            part = view[place : place + _PIECE]
            if not part:
                raise DamagedError("it is cut off")
            found += stream.decompress(part, limit + 1 - len(found))
            if len(found) > limit:
                raise TooLargeError
            place += len(part) - len(stream.unused_data)
    return bytes(found)
