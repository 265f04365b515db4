# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The retry policy: which failures may pass, how often a request is sent again, and how long to wait before that."""

from __future__ import annotations

import dataclasses
import email.utils
import random
import time
import typing as t

from .errors import is_permanent

#: Statuses that may be others a little later (RFC 9110 section 15, RFC 6585).
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
#: The longest wait that a server may ask for, in seconds.
MOST_WAIT_S = 30.0


@dataclasses.dataclass(frozen=True)
class Retry:
    """How often a request is sent, and the waits between.

    :param attempts: the first one included.
    :param first_wait_s: seconds before the second attempt; each wait after that is *factor* times the one before.
    """

    attempts: int = 4
    first_wait_s: float = 0.15
    factor: float = 3.0

    def wait_s(self, attempt: int, retry_after: float | None = None) -> float:
        """Return the seconds to wait before *attempt* (0 is the first), at least *retry_after*, but 30 at most."""
        if not attempt:
            return 0.0
        # not all clients of a server that has just started again at the same instant
        wait = self.first_wait_s * self.factor ** (attempt - 1) * random.uniform(0.8, 1.2)  # noqa: S311 - no secret
        return min(max(wait, retry_after or 0.0), MOST_WAIT_S)


def may_pass(problem: BaseException | int) -> bool:
    """Return whether a retry may help after *problem*, an exception or an HTTP status."""
    return problem in TRANSIENT if isinstance(problem, int) else not is_permanent(problem)


def retry_after(headers: t.Any) -> float | None:
    """Return the seconds that the header ``Retry-After`` asks for (a number or a date), or ``None``.

    :param headers: has ``get``; names in lower case, or of any case where it does not tell them apart.
    """
    value = str(headers.get("retry-after") or "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
