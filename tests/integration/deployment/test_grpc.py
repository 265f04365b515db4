"""The gRPC port of a deployment on a real Docker Engine, asked by tritonclient as it is."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
import typing as t

import pytest

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError

np = pytest.importorskip("numpy")
triton = pytest.importorskip("tritonclient.grpc")

pytestmark = pytest.mark.integration


def infer(client: t.Any, values: t.Any) -> t.Any:
    """Send *values* and return what comes back."""
    given = triton.InferInput("image", list(values.shape), "FP32")
    given.set_data_from_numpy(values)
    return client.infer("digits", [given]).as_numpy("image")


@pytest.mark.parametrize("proxied", [True, False])
def test_the_grpc_port_is_published_like_the_http_port(proxied: bool, deployment: t.Any, plain: t.Any) -> None:
    tested = deployment if proxied else plain
    options = tested.grpc_options(VERSION="1")
    outcome = tested.run(**options)
    address = outcome.result["deployment"]["grpc"]
    assert address == f"127.0.0.1:{tested.grpc_port}"
    assert tested.version() == "1"
    with contextlib.closing(triton.InferenceServerClient(address)) as client:
        assert client.is_server_live()
        assert client.get_server_metadata().version == "1"
        values = np.arange(600_000, dtype="float32").reshape(1, -1)  # more than the windows of HTTP/2
        assert (infer(client, values) == values).all()
    assert not tested.run(**options).changed
    tested.run(state="absent")
    with (
        contextlib.closing(triton.InferenceServerClient(address)) as client,
        pytest.raises(triton.InferenceServerException),
    ):
        client.is_server_live()


def test_grpc_is_turned_on_and_off_behind_the_same_proxy(deployment: t.Any) -> None:
    deployment.run()
    proxy = deployment.inspect(f"{deployment.name}-proxy")["Id"]
    options = deployment.grpc_options(VERSION="2")
    assert deployment.run(**options).changed
    with contextlib.closing(triton.InferenceServerClient(f"127.0.0.1:{deployment.grpc_port}")) as client:
        assert client.get_server_metadata().version == "2"
    assert deployment.inspect(f"{deployment.name}-proxy")["Id"] == proxy
    assert deployment.run().result["deployment"]["grpc"] is None
    with contextlib.closing(triton.InferenceServerClient(f"127.0.0.1:{deployment.grpc_port}")) as client:
        with pytest.raises(triton.InferenceServerException):
            client.is_server_live()


def test_a_redeployment_behind_the_proxy_loses_no_grpc_request(deployment: t.Any) -> None:
    options = deployment.grpc_options(VERSION="1", DELAY="0.05")
    deployment.run(**options, replicas=2)
    answers: collections.Counter[str] = collections.Counter()
    losses: list[str] = []
    end = threading.Event()

    def ask() -> None:
        with contextlib.closing(triton.InferenceServerClient(f"127.0.0.1:{deployment.grpc_port}")) as client:
            while not end.is_set():
                try:
                    answers[client.get_server_metadata().version] += 1
                except triton.InferenceServerException as exc:
                    losses.append(str(exc))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        deployment.run(**{**options, "environment": {**options["environment"], "VERSION": "2"}}, replicas=2)
        time.sleep(0.5)
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert losses == []
    assert answers["1"]
    assert answers["2"]


def test_a_taken_grpc_port_is_named_with_the_deployment_that_holds_it(deployment: t.Any, plain: t.Any) -> None:
    options = deployment.grpc_options()
    deployment.run(**options)
    expected = rf"port {deployment.grpc_port} on 127.0.0.1 is taken by the deployment {deployment.name} \("
    with pytest.raises(ModelshipError, match=expected) as caught:
        plain.run(check=True, image="", **options)
    assert caught.value.kind == "port"
    assert plain.names() == []
