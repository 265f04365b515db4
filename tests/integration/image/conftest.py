"""A real registry on a free port of this machine, plain, with credentials, or with TLS."""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

USER, PASSWORD = "deployer", "correct horse"
#: bcrypt of PASSWORD, the only form that the registry reads.
HTPASSWD = f"{USER}:$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n"


@dataclasses.dataclass
class Registry:
    """A running docker-registry."""

    host: str
    folder: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> dict[str, object]:
        """Return the JSON answer of the (plain) registry to ``GET path``."""
        request = urllib.request.Request(
            f"http://{self.host}{path}", headers={"Accept": "application/vnd.oci.image.manifest.v1+json"}
        )
        with urllib.request.urlopen(request) as answer:
            document: dict[str, object] = json.load(answer)
        return document


Start = Callable[..., Registry]


@pytest.fixture(scope="session")
def start_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start registries: with *auth* for ``USER``, *tls* (a certificate and its key), *more* settings."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("NO REGISTRY: docker-registry (Debian package docker-registry) is not installed")
    running: list[Registry] = []

    def start(
        *, auth: bool = False, tls: tuple[Path, Path] | None = None, more: dict[str, object] | None = None
    ) -> Registry:
        folder = tmp_path_factory.mktemp("registry")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
            "http": {"addr": f"127.0.0.1:{port}"}
            | ({"tls": {"certificate": str(tls[0]), "key": str(tls[1])}} if tls else {}),
        }
        if auth:
            (folder / "htpasswd").write_text(HTPASSWD)
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}}
        config |= more or {}
        # JSON is YAML.
        (folder / "config.yml").write_text(json.dumps(config))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=log, stderr=log)
        running.append(Registry(f"127.0.0.1:{port}", folder, process))
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return running[-1]
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        raise AssertionError("the registry did not start")

    yield start
    for registry in running:
        registry.process.terminate()
        registry.process.wait(10)


@pytest.fixture(scope="session")
def registry(start_registry: Start) -> Registry:
    """One plain registry for the session; tests take repositories of their own."""
    return start_registry()
