# SPDX-License-Identifier: GPL-3.0-or-later
"""The two kinds of failure: one that ends the process at start, one that is reported to a client."""

from __future__ import annotations

import concurrent.futures


class StartError(Exception):
    """The server cannot start; its message is the one line that the user sees on stderr (exit code 1)."""


class RequestError(Exception):
    """A request that fails.

    :param status: the HTTP status.
    :param message: one line that names the field and says what was expected.
    :param header: one more header of the response.
    :cvar reason: the label in ``modelship_rejected_total`` where the status alone does not decide it.
    """

    reason = ""

    def __init__(self, status: int, message: str, header: tuple[str, str] | None = None) -> None:
        super().__init__(message)
        self.header = header
        self.status = status
        self.message = message


class InvalidInputError(RequestError):
    """A well-formed request whose input does not fit the model: 400, as the Open Inference Protocol has it, counted by itself."""

    reason = "invalid"

    def __init__(self, message: str) -> None:
        super().__init__(400, message)


class KeysPendingError(RequestError):
    """The token's key is not known yet and is being fetched; :meth:`.security.gate.Gate.admit_later` waits for it."""

    def __init__(self, fetch: concurrent.futures.Future[None]) -> None:
        super().__init__(503, "token: its key is being fetched, ask again", ("retry-after", "1"))
        self.fetch = fetch
