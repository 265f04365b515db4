"""The serving runtime's gRPC through the proxy's own configuration: a real HAProxy and tritonclient, without Docker."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
import typing as t
from pathlib import Path

import pytest

from ansible_collections.modelship.core.plugins.module_utils._deployment.declaration import Declaration
from ansible_collections.modelship.core.plugins.module_utils._docker import proxy as proxies
from tests.integration.tiny import GREEN, RED, TOLERANCE, Server, expected, free_port, served, tiny_release

np = pytest.importorskip("numpy")
triton = pytest.importorskip("tritonclient.grpc")

pytestmark = pytest.mark.integration

#: The proxy's address: another one than the server's, because both use the same gRPC port.
PROXY = "127.0.0.9"
TOKEN = "0123456789abcdef"
OPTIONS = proxies.ProxyOptions(image=f"haproxy@sha256:{'0' * 64}", timeout=10)


class Proxied(t.NamedTuple):
    """A server and the HAProxy in front of it."""

    server: Server
    declaration: Declaration
    process: subprocess.Popen[bytes]
    folder: Path

    def reload(self, name: str) -> None:
        """Have HAProxy take a configuration in which the server has another name."""
        config = proxies.render(self.declaration, OPTIONS, {name: "127.0.0.1"})
        (self.folder / proxies.CONFIG_FILE).write_text(config.text)
        self.process.send_signal(signal.SIGUSR2)
        _wait(self.declaration, config)


def _wait(declaration: Declaration, config: proxies.ProxyConfig) -> None:
    deadline = time.monotonic() + 15
    while proxies.running_config(declaration.host_ip, declaration.port, TOKEN) != config.digest:
        assert time.monotonic() < deadline, "HAProxy does not take its configuration"
        time.sleep(0.05)


@pytest.fixture
def proxied(tmp_path: Path) -> t.Iterator[Proxied]:
    if not shutil.which("haproxy"):
        pytest.skip("NOT TESTED, haproxy is not installed (Debian's package haproxy)")
    grpc_port = free_port()
    release = tiny_release(tmp_path, "onnx")
    with served(release, MODELSHIP_HOST="127.0.0.1", MODELSHIP_GRPC_PORT=str(grpc_port)) as server:
        declaration = Declaration(
            name="tiny",
            image="",
            host_ip=PROXY,
            port=free_port(),
            container_port=server.port,
            environment={"MODELSHIP_GRPC_PORT": str(grpc_port)},
        )
        config = proxies.render(declaration, OPTIONS, {"tiny-g1-1": "127.0.0.1"})
        path = tmp_path / proxies.CONFIG_FILE
        path.write_text(config.text)
        environment = {**os.environ, proxies.TOKEN_VARIABLE: TOKEN}
        process = subprocess.Popen(["haproxy", "-W", "-db", "-f", str(path)], env=environment)
        try:
            _wait(declaration, config)
            yield Proxied(server, declaration, process, tmp_path)
        finally:
            process.terminate()
            process.wait(10)


def _given(pixels: list[float]) -> t.Any:
    tensor = triton.InferInput("image", [1, 2, 2, 1], "FP32")
    tensor.set_data_from_numpy(np.array(pixels, "float32").reshape(1, 2, 2, 1))
    return tensor


def test_the_runtime_answers_grpc_through_the_proxy(proxied: Proxied) -> None:
    address = proxied.declaration.grpc_address
    assert address == f"{PROXY}:{proxied.declaration.grpc_port}"
    with contextlib.closing(triton.InferenceServerClient(address)) as client:
        assert client.is_server_ready()
        for pixels in (GREEN, RED):
            found = client.infer("tiny", [_given(pixels)]).as_numpy("probabilities")
            assert found[0] == pytest.approx(expected(pixels), abs=TOLERANCE)
        with pytest.raises(triton.InferenceServerException, match="NOT_FOUND"):
            client.infer("huge", [_given(RED)])


def test_a_reload_of_the_proxy_loses_no_grpc_request(proxied: Proxied) -> None:
    losses: list[str] = []
    asked = [0]
    end = threading.Event()

    def ask() -> None:
        with contextlib.closing(triton.InferenceServerClient(proxied.declaration.grpc_address)) as client:
            while not end.is_set():
                try:
                    client.infer("tiny", [_given(GREEN)])
                    asked[0] += 1
                except triton.InferenceServerException as exc:
                    losses.append(str(exc))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for generation in range(2, 6):
            time.sleep(0.3)
            proxied.reload(f"tiny-g{generation}-1")
        time.sleep(0.3)
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert losses == []
    assert asked[0] > 100
