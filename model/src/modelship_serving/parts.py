# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts that a picture's file is made of, looked at before a decoder does.

A decoder works on each of them, and a small file can have so many that this takes minutes: scans of a JPEG, each of which
passes over all of the picture, or millions of comments.
"""

from __future__ import annotations

import re
import struct

from .errors import InvalidInputError, RequestError

#: Parts of a file; in one of 8 MB those of usual writers are 8 KB or larger.
MOST_PARTS = 4096
#: Scans of a progressive JPEG; usual ones have about ten.
MOST_SCANS = 64
#: Bytes that belong to no part, before the first scan.
_MOST_STRAY = 4096

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_chunk = struct.Struct(">I4s")
#: What is needed to draw the picture upright; texts, profiles and animations are not, and some of those have to be unpacked.
_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND"})
#: The next marker of a JPEG: neither filling, nor a zero that tells data from markers, nor a mark within a scan.
_marker = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]").search
_ALONE, _END, _SCAN = frozenset({0x01, 0xD8}), 0xD9, 0xDA


def needed(data: bytes) -> tuple[bytes, int]:
    """Return what is needed of the file of a PNG or JPEG picture, and the number of parts that it has.

    What is cut off or otherwise damaged is left to the decoder to find.

    :raises RequestError: 415, it is neither; 400, it has more parts or scans than a picture needs.
    """
    if data.startswith(PNG):
        return _of_png(data)
    if data.startswith(JPEG):
        return data, _of_jpeg(data)
    raise RequestError(415, "body: neither a PNG nor a JPEG picture")


def _of_png(data: bytes) -> tuple[bytes, int]:
    """Go over the chunks (https://www.w3.org/TR/png-3/#5Chunk-layout)."""
    kept, place, count = [PNG], len(PNG), 0
    while place + 8 <= len(data):
        length, kind = _chunk.unpack_from(data, place)
        end = place + length + 12
        count += 1
        if count > MOST_PARTS:
            raise _too_many(f"{MOST_PARTS} parts")
        if kind in _NEEDED:
            kept.append(data[place:end])
        place = end
        if kind == b"IEND":
            break
    return b"".join(kept), count


def _of_jpeg(data: bytes) -> int:
    """Go over the segments (ITU-T T.81, section B.1.1): a marker, mostly a length, and within a scan data until the next one."""
    place, count, scans, stray = 2, 0, 0, 0
    while (found := _marker(data, place)) is not None:
        if not scans:
            stray += found.start() - place
        kind, place = data[found.end() - 1], found.end()
        if kind == _END:
            break
        count += 1
        scans += kind == _SCAN
        if scans > MOST_SCANS:
            raise _too_many(f"{MOST_SCANS} scans")
        if count > MOST_PARTS or stray > _MOST_STRAY:
            raise _too_many(f"{MOST_PARTS} parts")
        if kind not in _ALONE:
            place += int.from_bytes(data[place : place + 2])
    return count


def _too_many(what: str) -> RequestError:
    return InvalidInputError(f"body: the picture's file has more than {what}: save it again as PNG or JPEG")
