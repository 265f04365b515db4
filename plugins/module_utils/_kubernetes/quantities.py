# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Quantities in the API server's own canonical form, so that what is declared is what is read back.

The rules are those of ``k8s.io/apimachinery/pkg/api/resource``: no fraction, the greatest suffix that leaves a whole number.
"""

from __future__ import annotations

_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = ("", "k", "M", "G", "T", "P", "E")


def memory(size: int) -> str:
    """Return *size* bytes as a quantity: ``512Mi``, ``1536Mi``, ``1500``, ``2k``."""
    if size and size % 1024 == 0:
        return _suffixed(size, 1024, _BINARY)
    return _suffixed(size, 1000, _DECIMAL)


def cores(cpus: float) -> str:
    """Return *cpus* cores as a quantity: ``2``, ``1500m``; the server knows nothing finer than a thousandth."""
    thousandths = round(cpus * 1000)
    return f"{thousandths}m" if thousandths % 1000 else count(thousandths // 1000)


def count(number: int) -> str:
    """Return a whole *number* as a quantity: ``8``, ``1k``."""
    return _suffixed(number, 1000, _DECIMAL)


def _suffixed(number: int, base: int, suffixes: tuple[str, ...]) -> str:
    power = 0
    while number and number % base == 0 and power < len(suffixes) - 1:
        number //= base
        power += 1
    return f"{number}{suffixes[power]}"
