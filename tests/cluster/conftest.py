"""The fixture ``cluster``."""

from __future__ import annotations

from tests.cluster.fixture import cluster

__all__ = ["cluster"]
