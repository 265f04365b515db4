"""Waiting on a real cluster: what becomes ready, what never will, and connections that end meanwhile."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.progress import Progress
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import pods
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.access import load_access
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.nudge import nudge
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.pods import current_pods
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.wait import health, wait, wait_gone

pytestmark = pytest.mark.integration

Object = dict[str, t.Any]

#: Far beyond what any of these needs: what fails "at once" must fail long before.
LONG_S = 120.0
ABSENT = "127.0.0.1:1/modelship/absent:none"


@pytest.fixture(scope="module")
def api(cluster: t.Any) -> Iterator[Api]:
    with Api(load_access({"kubeconfig": str(cluster.kubeconfig)})) as found:
        yield found


@pytest.fixture
def namespace(cluster: t.Any) -> Iterator[str]:
    with cluster.namespace() as name:
        yield name


def on_the_nodes(api: Api, word: str) -> str:
    """The name of an image with *word* in it that the kubelets have already."""
    names = [
        name
        for node in api.list("v1", "Node", None)[0]
        for image in node["status"].get("images") or ()
        for name in image.get("names") or ()
        if word in name and "@" not in name
    ]
    if not names:
        pytest.skip(f"no node has an image with '{word}' in its name")
    return names[0]


@pytest.fixture(scope="module")
def pause(api: Api) -> str:
    return on_the_nodes(api, "pause")


@pytest.fixture(scope="module")
def coredns(api: Api) -> str:
    """A program that ends with an error and says why, if its configuration is missing."""
    return on_the_nodes(api, "coredns")


def pod_template(image: str, labels: dict[str, str], **container: t.Any) -> Object:
    spec = container.pop("pod", {})
    return {
        "metadata": {"labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "serve", "image": image, "imagePullPolicy": "IfNotPresent", **container}],
            **spec,
        },
    }


def deployment(namespace: str, image: str, *, name: str = "digits", replicas: int = 2, **rest: t.Any) -> Object:
    spec = rest.pop("spec", {})
    labels = {"modelship.io/deployment": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            **spec,
            "template": pod_template(image, labels, **rest),
        },
    }


def job(namespace: str, image: str, arguments: list[str], **pod: t.Any) -> Object:
    template = pod_template(image, {}, args=arguments, pod={"restartPolicy": "Never", **pod})
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "train", "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": template},
    }


def settle(api: Api, *objects: Object, deadline: float = LONG_S) -> list[Object]:
    live = [api.apply(obj) for obj in objects]
    wait(api, live, deadline_s=deadline, progress=Progress())
    return live


def failure(api: Api, *objects: Object, deadline: float = LONG_S) -> ModelshipError:
    begun = time.monotonic()
    with pytest.raises(ModelshipError) as caught:
        settle(api, *objects, deadline=deadline)
    assert time.monotonic() - begun < LONG_S / 2, "it did not fail at once"
    assert caught.value.kind == "unhealthy"
    assert "\n" not in caught.value.message
    return caught.value


def test_ready_means_that_the_new_pods_run_and_the_old_ones_do_not_count(api: Api, namespace: str, pause: str) -> None:
    live = settle(api, deployment(namespace, pause))
    first = {pod["metadata"]["name"] for pod in current_pods(api, live[0])}
    assert len(first) == 2
    changed = deployment(namespace, pause, env=[{"name": "REVISION", "value": "2"}])
    live = settle(api, changed)
    second = current_pods(api, live[0])
    assert len(second) == 2
    assert not first & {pod["metadata"]["name"] for pod in second}
    found = health(api, live)[0]
    assert (found["state"], len([row for row in found["pods"] if row["ready"]])) == ("ready", 2)
    assert all(row["address"] and row["node"] for row in found["pods"])


def test_a_missing_image_fails_at_once_while_what_was_there_serves(api: Api, namespace: str, pause: str) -> None:
    settle(api, deployment(namespace, pause))
    error = failure(api, deployment(namespace, ABSENT))
    assert f"cannot get the image {ABSENT}" in error.message
    assert "What to do:" in error.message
    assert any(event["reason"] in ("Failed", "BackOff") for event in error.details["events"])
    assert sum(row["ready"] for row in error.details["pods"]) == 2
    live = [api.apply(deployment(namespace, ABSENT))]
    assert [deed.rpartition(" (")[2] for deed in nudge(api, live)] == ["ImagePullBackOff) is made anew"]
    # the way back is not judged by what is being taken away
    settle(api, deployment(namespace, pause))


def test_a_container_that_crashes_fails_at_once_with_its_last_log_lines(api: Api, namespace: str, coredns: str) -> None:
    error = failure(api, deployment(namespace, coredns, args=["-conf", "/absent"]))
    assert "container serve ends again and again: exit code 1" in error.message
    assert any("/absent" in line for line in error.details["log"])
    assert error.details["log"][-1].strip() in error.message


def test_an_init_container_that_crashes_fails_at_once(api: Api, namespace: str, coredns: str, pause: str) -> None:
    init = {"name": "fetch", "image": coredns, "imagePullPolicy": "IfNotPresent", "args": ["-conf", "/absent"]}
    error = failure(api, deployment(namespace, pause, pod={"initContainers": [init]}))
    assert "container fetch ends again and again" in error.message
    assert any("/absent" in line for line in error.details["log"])


def test_a_missing_config_map_fails_soon_and_a_secret_that_comes_late_does_not(
    api: Api, namespace: str, pause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "late", "namespace": namespace}}
    threading.Timer(2.0, api.apply, [late]).start()
    settle(api, deployment(namespace, pause, replicas=1, envFrom=[{"secretRef": {"name": "late"}}]))
    monkeypatch.setattr(pods, "CONFIGURATION_GRACE_S", 1.0)
    error = failure(api, deployment(namespace, pause, replicas=1, envFrom=[{"configMapRef": {"name": "absent"}}]))
    assert 'CreateContainerConfigError: configmap "absent" not found' in error.message


def test_an_exceeded_quota_fails_soon_and_a_raised_one_repairs(api: Api, namespace: str, pause: str) -> None:
    quota: Object = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "small", "namespace": namespace},
        "spec": {"hard": {"pods": "1"}},
    }
    api.apply(quota)
    error = failure(api, deployment(namespace, pause))
    assert "exceeded quota: small" in error.message
    time.sleep(10)  # the ReplicaSet's controller waits longer and longer
    api.apply({**quota, "spec": {"hard": {"pods": "4"}}})
    live = [api.apply(deployment(namespace, pause))]
    assert nudge(api, live) == [f"Deployment {namespace}/digits tries again to make its pods"]
    begun = time.monotonic()
    wait(api, live, deadline_s=LONG_S, progress=Progress())
    assert time.monotonic() - begun < 10
    assert nudge(api, live) == []


def test_refused_pods_of_a_stateful_set_fail_soon(api: Api, namespace: str, pause: str) -> None:
    quota = {"metadata": {"name": "none", "namespace": namespace}, "spec": {"hard": {"pods": "0"}}}
    api.apply({"apiVersion": "v1", "kind": "ResourceQuota", **quota})
    labels = {"app": "cache"}
    error = failure(
        api,
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "cache", "namespace": namespace},
            "spec": {
                "replicas": 1,
                "serviceName": "cache",
                "selector": {"matchLabels": labels},
                "template": pod_template(pause, labels),
            },
        },
    )
    assert "exceeded quota: none" in error.message


def test_a_deadline_of_the_deployment_is_its_failure(api: Api, namespace: str, pause: str) -> None:
    probe = {"httpGet": {"port": 1, "path": "/"}, "periodSeconds": 1}
    spec = {"progressDeadlineSeconds": 5}
    error = failure(api, deployment(namespace, pause, replicas=1, spec=spec, readinessProbe=probe))
    assert "ProgressDeadlineExceeded" in error.message
    assert "runs, not ready yet" in error.message
    assert any("Readiness probe failed" in event["message"] for event in error.details["events"])


def test_a_pod_that_no_node_takes_is_waited_for(api: Api, namespace: str, pause: str) -> None:
    begun = time.monotonic()
    error = failure(api, deployment(namespace, pause, pod={"nodeSelector": {"absent": "yes"}}), deadline=4)
    assert time.monotonic() - begun < 5
    assert "is not ready after 4 s" in error.message
    assert "no node takes it" in error.message


def test_a_job_that_fails_is_a_failure_and_one_that_succeeds_is_ready(api: Api, namespace: str, coredns: str) -> None:
    error = failure(api, job(namespace, coredns, ["-conf", "/absent"]))
    assert "failed: BackoffLimitExceeded" in error.message
    assert "exit code 1" in error.message
    assert any("/absent" in line for line in error.details["log"])
    failed = api.get("batch/v1", "Job", namespace, "train")
    assert failed is not None
    api.delete(failed)
    wait_gone(api, [failed], deadline_s=LONG_S, progress=Progress())
    settle(api, job(namespace, coredns, ["-version"]))


def test_many_kinds_at_once(api: Api, namespace: str, pause: str, coredns: str) -> None:
    labels = {"app": "agent"}
    agent = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": pod_template(pause, labels)},
    }
    cache = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "cache", "namespace": namespace},
        "spec": {
            "replicas": 2,
            "serviceName": "cache",
            "selector": {"matchLabels": {"app": "cache"}},
            "template": pod_template(pause, {"app": "cache"}),
        },
    }
    bare = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "namespace": namespace}}
    bare["spec"] = pod_template(pause, {})["spec"]
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": namespace}}
    objects = [deployment(namespace, pause), agent, cache, bare, config, job(namespace, coredns, ["-version"])]
    live = settle(api, *objects)
    assert {entry["state"] for entry in health(api, live)} == {"ready"}
    for obj in live:
        api.delete(obj)
    wait_gone(api, live, deadline_s=LONG_S, progress=Progress())
    assert api.list("v1", "Pod", namespace)[0] == []


def test_what_hangs_in_its_finalizer_is_named(api: Api, namespace: str) -> None:
    metadata = {"name": "held", "namespace": namespace, "finalizers": ["modelship.io/test"]}
    obj = api.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    api.delete(obj)
    begun = time.monotonic()
    with pytest.raises(ModelshipError, match=r"waits for its finalizers modelship\.io/test"):
        wait_gone(api, [obj], deadline_s=1.0, progress=Progress())
    assert 1.0 <= time.monotonic() - begun < 1.5
    path = api.path("v1", "ConfigMap", namespace, "held")
    release = threading.Timer(
        0.5,
        lambda: api.request(
            "PATCH", path, body={"metadata": {"finalizers": None}}, content_type="application/merge-patch+json"
        ),
    )
    release.start()
    wait_gone(api, [obj], deadline_s=LONG_S, progress=Progress())


class Relay:
    """A TCP relay before the API server, whose connections can be cut and that can refuse new ones."""

    def __init__(self, host: str, port: int) -> None:
        self.upstream = (host, port)
        self.sockets: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self.listener.accept()
                if not self.open:
                    client.close()
                    continue
                server = socket.create_connection(self.upstream)
                self.sockets += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        """Cut all connections."""
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self.sockets.clear()

    def close(self) -> None:
        self.listener.close()
        self.cut()


@pytest.fixture
def relay(api: Api, cluster: t.Any, tmp_path: t.Any) -> Iterator[tuple[Relay, Api]]:
    """A relay, and the API through it."""
    host, _colon, port = api.access.server.partition("://")[2].rstrip("/").rpartition(":")
    found = Relay(host, int(port))
    config = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    for each in config["clusters"]:
        each["cluster"]["server"] = f"https://127.0.0.1:{found.port}"
        each["cluster"].setdefault("tls-server-name", "kubernetes")
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    with Api(load_access({"kubeconfig": str(path)})) as through:
        yield found, through
    found.close()


def slow(namespace: str, pause: str, seconds: int) -> Object:
    """A Deployment that is ready after *seconds*."""
    return deployment(
        namespace, pause, replicas=1, spec={"minReadySeconds": seconds, "progressDeadlineSeconds": seconds + 600}
    )


def test_watches_that_end_lose_nothing(relay: tuple[Relay, Api], namespace: str, pause: str) -> None:
    between, api = relay
    live = [api.apply(slow(namespace, pause, 4))]
    timers = [threading.Timer(seconds, between.cut) for seconds in (0.5, 1.0, 2.0, 3.0)]
    for timer in timers:
        timer.start()
    begun = time.monotonic()
    wait(api, live, deadline_s=LONG_S, progress=Progress())
    assert 3.0 < time.monotonic() - begun < 30
    assert health(api, live)[0]["state"] == "ready"


def test_an_api_server_that_is_away_for_a_while_is_waited_for(
    relay: tuple[Relay, Api], namespace: str, pause: str
) -> None:
    between, api = relay
    live = [api.apply(slow(namespace, pause, 2))]

    def go_away() -> None:
        between.open = False
        between.cut()

    def come_back() -> None:
        between.open = True

    timers = [threading.Timer(0.5, go_away), threading.Timer(6.0, come_back)]
    for timer in timers:
        timer.start()
    begun = time.monotonic()
    wait(api, live, deadline_s=LONG_S, progress=Progress())
    assert 5.0 < time.monotonic() - begun < 30


def test_an_api_server_that_stays_away_ends_the_wait_at_its_deadline(
    relay: tuple[Relay, Api], namespace: str, pause: str
) -> None:
    between, api = relay
    live = [api.apply(slow(namespace, pause, 600))]

    def go_away() -> None:
        between.open = False
        between.cut()

    threading.Timer(1.0, go_away).start()
    begun = time.monotonic()
    with pytest.raises(ModelshipError, match=r"is not ready after 4 s.*does not answer now") as caught:
        wait(api, live, deadline_s=4.0, progress=Progress())
    assert time.monotonic() - begun < 8.0
    assert caught.value.kind == "unhealthy"
