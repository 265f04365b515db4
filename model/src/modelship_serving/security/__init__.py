# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may ask, and how often: TLS, client certificates, API keys, JWT, a rate limit. All off until a setting turns it on."""
