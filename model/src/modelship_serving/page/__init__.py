# SPDX-License-Identifier: GPL-3.0-or-later
"""The page for people, at ``/``, and the documentation, at ``/docs``."""
