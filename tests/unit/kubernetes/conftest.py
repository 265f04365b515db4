"""Certificates, and an HTTPS server on loopback that answers as a test tells it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from .scripted_server import Pki, Scripted, make_pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is needed to make certificates")
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def api_server(pki: Pki) -> Iterator[Scripted]:
    server = Scripted(pki)
    yield server
    server.stop()
