# SPDX-License-Identifier: GPL-3.0-or-later
"""What a request's body is: its media type, its compression, a file in a form; and the compression of answers."""

from __future__ import annotations

import re
import zlib

from .compression import DamagedError, TooLargeError, decompress
from .errors import InvalidInputError, RequestError
from .http import Request, Response

#: Media types of a JSON body; the second is what ``curl -d`` sends when told nothing.
_JSON_TYPES = frozenset({"application/json", "application/x-www-form-urlencoded", ""})
#: Answers smaller than this are not compressed: it would cost more time than it saves.
_COMPRESS_FROM = 1024
#: Parts of a form, and bytes of the headers of each.
_MOST_PARTS, _MOST_HEAD = 100, 8192
#: A parameter's name, and its value: in quotes, where it may hold all (RFC 9110, section 5.6.6), or without.
_parameters = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^";]*))').findall


def media_type(request: Request) -> str:
    """Return the media type of the body in lower case, without parameters; "" where none is given."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def is_json(media: str) -> bool:
    """Return whether a body of this media type is taken for JSON."""
    return media in _JSON_TYPES or media.endswith("+json")


def unexpected_type(request: Request, expected: str) -> RequestError:
    """Return the 415 for a body that is not of the *expected* media types."""
    return RequestError(415, f"content-type '{request.headers.get('content-type', '')[:80]}': expected {expected}")


def content(request: Request, limit: int) -> bytes:
    """Return the body, decompressed where ``content-encoding`` is ``gzip`` (of any number of members) or ``deflate``.

    See RFC 9110, section 8.4.1.

    :param limit: most bytes of the decompressed body.
    :raises RequestError: 415, another coding; 413, more than *limit*; 400, damaged.
    """
    coding = request.headers.get("content-encoding")
    kind = "identity" if coding is None else coding.strip().lower()
    if kind == "identity":
        return request.body
    if kind not in ("gzip", "x-gzip", "deflate"):
        raise RequestError(415, f"content-encoding '{kind[:80]}': expected gzip, deflate or identity")
    body = request.body
    # "deflate" is zlib's format, but some clients send the bare stream.
    bare = kind == "deflate" and (len(body) < 2 or body[0] & 15 != 8 or int.from_bytes(body[:2]) % 31 != 0)
    try:
        return decompress(body, limit, bare)
    except TooLargeError:
        raise RequestError(413, f"body: more than {limit} bytes when decompressed (MODELSHIP_MAX_BODY_BYTES)") from None
    except DamagedError as exc:
        raise RequestError(400, f"body: not {kind}: {exc}") from None


def compressed(request: Request, response: Response) -> Response:
    """Compress *response* where the client takes that and it is worth it."""
    accepted = request.headers.get("accept-encoding")
    if accepted is None or len(response.body) < _COMPRESS_FROM:
        return response
    kind = _choose(accepted)
    if kind is not None:
        stream = zlib.compressobj(1, zlib.DEFLATED, 31 if kind == "gzip" else 15)
        response.body = stream.compress(response.body) + stream.flush()
        response.headers = [*response.headers, ("content-encoding", kind), ("vary", "accept-encoding")]
    return response


def _choose(accepted: str) -> str | None:
    """Return ``gzip`` or ``deflate`` out of an ``accept-encoding`` header, the one the client likes best."""
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        name, _separator, parameters = part.partition(";")
        weight = 1.0
        if "q=" in parameters:
            try:
                weight = float(parameters.partition("q=")[2])
            except ValueError:
                weight = 0.0
        weights[name.strip()] = weight
    best = max(("gzip", "deflate"), key=lambda name: weights.get(name, 0.0))
    return best if weights.get(best, 0.0) > max(0.0, weights.get("identity", 0.0)) else None


def form_file(request: Request, body: bytes) -> tuple[str, bytes]:
    """Return the name and the content of the one file in a ``multipart/form-data`` body (RFC 7578).

    :raises RequestError: 400, not such a body, no file or several.
    """
    boundary = _parameter(request.headers.get("content-type", ""), "boundary")
    if not 1 <= len(boundary) <= 70:  # RFC 2046, section 5.1.1
        raise RequestError(400, "content-type: multipart/form-data needs a boundary")
    # A whole line: what a part holds may well begin like it.
    line = re.compile(rb"\r\n--%b(--)?[ \t]*(?=\r\n|\Z)" % re.escape(boundary.encode("latin-1", "replace")))
    body = b"\r\n" + body
    files: list[tuple[str, bytes]] = []
    start, count = -1, 0
    for found in line.finditer(body):
        if start >= 0:
            files += _file(body, start, found.start())
        if found[1]:
            break
        start, count = found.end(), count + 1
        if count > _MOST_PARTS:
            raise InvalidInputError(f"body: more than {_MOST_PARTS} parts in the form")
    else:
        raise RequestError(400, "body: not a whole multipart/form-data body")
    if len(files) != 1:
        raise InvalidInputError(f"body: expected one picture in the form, got {len(files)}")
    return files[0]


def _file(body: bytes, start: int, end: int) -> list[tuple[str, bytes]]:
    """Return the name and the content of the part between *start* and *end* if it is a file."""
    place = body.find(b"\r\n\r\n", start, min(end, start + _MOST_HEAD))
    headers: dict[str, str] = {}
    for text in body[start : max(start, place)].decode("utf-8", "replace").split("\r\n")[1:]:
        name, _colon, value = text.partition(":")
        headers[name.strip().lower()] = value.strip()
    disposition = headers.get("content-disposition", "")
    if not disposition:
        raise RequestError(400, "body: a part of the form has no content-disposition")
    if "filename" in disposition or headers.get("content-type", "").startswith("image/"):
        return [(_parameter(disposition, "name"), body[place + 4 : end])]
    return []


def _parameter(header: str, name: str) -> str:
    """Return a parameter of a header, "" where it has none of that name."""
    for key, quoted, plain in _parameters(header):
        if key.lower() == name:
            return re.sub(r"\\(.)", r"\1", quoted) or plain.strip()
    return ""


def query_value(request: Request, name: str) -> str | None:
    """Return the last value of *name* in the query, ``None`` where it is not there."""
    if not request.query:
        return None
    import urllib.parse

    found: str | None = dict(urllib.parse.parse_qsl(request.query, keep_blank_values=True)).get(name)
    return found
