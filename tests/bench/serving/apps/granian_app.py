"""Granian's own protocol, RSGI: the body is read, and whatever it holds, one answer is given, as long as a real one."""

from __future__ import annotations

import json
from typing import Any

_BODY = json.dumps(
    {"result": 7, "label": "7", "probabilities": [0.00390625] * 10, "release": "sha256:" + 64 * "0"}
).encode()
_HEADERS = [("content-type", "application/json")]


async def app(_scope: Any, protocol: Any) -> None:
    await protocol()
    protocol.response_bytes(200, _HEADERS, _BODY)
