# Copyright: (c) 2026, the modelship authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of an evaluation: one self-contained HTML file."""

from __future__ import annotations
