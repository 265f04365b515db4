# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The model world: trains, imports, compresses and evaluates model projects, as a separate process of JSON in, JSON out.

The orchestration side never imports this package; it runs ``python -m modelship_model COMMAND`` (docs/formats.md).
"""

from __future__ import annotations

__version__ = "0.1.0"
