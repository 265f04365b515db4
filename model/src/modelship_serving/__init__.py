# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves releases of a model over HTTP and gRPC: ``python3 -m modelship_serving``.

Reading order: ``settings`` (environment), ``release`` and ``versions`` (what is served, verified), ``tensors`` (JSON numbers
to arrays, with errors that name the field), ``backends`` (LiteRT, ONNX Runtime), ``batching`` (the queue) and ``model`` (all
of these together); ``wire`` (the syntax of HTTP/1.1), ``http`` (requests and responses), ``connections`` and ``eviction``
(over sockets), ``context`` and ``app`` (routes, errors, counters); ``simple`` and ``v2`` (the two protocols), ``extras``
(page, documentation, explanations); ``metrics``, ``drift``, ``shadow``; ``listener`` and ``server`` (processes, signals,
draining); ``security`` (who may ask, TLS), ``rpc`` (gRPC).
"""
