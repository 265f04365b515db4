# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves one release over HTTP: ``python3 -m modelship_serving``.

Reading order: ``settings`` (environment), ``release`` (what is served, verified), ``tensors`` (JSON numbers to arrays, with
errors that name the field), ``backends`` (LiteRT, ONNX Runtime), ``model`` (both together), ``simple`` and ``v2`` (the two
protocols), ``metrics``, ``app`` (HTTP), ``server`` (processes, signals, draining).
"""
