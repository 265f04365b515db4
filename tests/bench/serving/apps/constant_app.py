"""The limit: the serving runtime's own HTTP server, answering whatever it is asked with one answer.

``constant_app.py PORT [model]``. The answer is as long as a real one, and made ready beforehand; nothing is routed, parsed,
counted or inferred. With ``model`` the model is run on zeros first: what no server that runs it can go below.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from collections.abc import Callable
from typing import Any

from modelship_serving.connections import Connections
from modelship_serving.http import Request
from modelship_serving.settings import Settings

_BODY = json.dumps(
    {"result": 7, "label": "7", "probabilities": [0.00390625] * 10, "release": "sha256:" + 64 * "0"}
).encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmodelship-release: sha256:%b\r\n"
    b"x-request-id: 0123456789abcdef0123\r\ncontent-length: %d\r\n\r\n%b" % (64 * b"0", len(_BODY), _BODY)
)


class Constant:
    """What the connections take for an application."""

    draining = False

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run

    def begin(self) -> None: ...

    def admit(self, request: Request) -> Any: ...

    def answer(self, request: Request, route: Any = None) -> bytes:  # noqa: ARG002
        self._run()
        return _ANSWER

    def refuse(self, request: Request, error: Exception) -> bytes:  # noqa: ARG002
        raise error

    def left(self, request: Request, route: Any = None) -> None: ...


def ignore(what: Any) -> None:
    """Count nothing."""


async def main() -> None:
    run: Callable[[], object] = dict
    if len(sys.argv) > 2:
        import numpy as np
        from litert_model import Model

        model = Model()
        run = functools.partial(model, np.zeros(model.shape, np.float32))
    connections = Connections(Constant(run), Settings(), ignore, ignore)
    server = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", int(sys.argv[1]), backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
