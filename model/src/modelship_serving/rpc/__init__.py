# SPDX-License-Identifier: GPL-3.0-or-later
"""The Open Inference Protocol V2 over gRPC, with nothing but the standard library; imported only when its port is set.

Reading order: ``server`` (listener, draining), ``service`` (the calls), ``messages`` on ``protobuf`` (their wire format),
``calls`` (gRPC on top of HTTP/2), ``http2`` (connections), ``incoming`` and ``outgoing`` (requests and answers), ``frames``,
``hpack`` (header compression).
"""
