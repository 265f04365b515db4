"""A real Docker Engine, a real registry and images made from Debian's packages, for the tests of deployments."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import typing as t
import urllib.request
import uuid
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelship.core.plugins.module_utils._core.content import canonical_json, sha256_bytes
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context, Outcome
from ansible_collections.modelship.core.plugins.module_utils._deployment.options import OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._docker.options import DOCKER_OPTIONS
from ansible_collections.modelship.core.plugins.modules.deployment import deploy

from ..load import Load

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
#: Runs the module's logic in a process of its own, which a test can kill.
_PROCESS = (
    "import json, sys; sys.path.insert(0, sys.argv[1])\n"
    "from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context\n"
    "from ansible_collections.modelship.core.plugins.modules.deployment import deploy\n"
    "deploy(json.load(sys.stdin), Context())\n"
)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclasses.dataclass
class Lab:
    """``image`` answers HTTP, ``proxy`` has HAProxy; both by digest in a registry of this session.

    ``configuration`` is the registry's.
    """

    api: t.Any
    registry: str
    image: str
    proxy: str
    configuration: dict[str, t.Any]

    def containers(self, name: str) -> list[dict[str, t.Any]]:
        """All containers of a deployment."""
        return list(self.api.containers(all=True, filters={"label": f"io.modelship.deployment={name}"}))


def _wait(port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=2).close()
            return
        time.sleep(0.05)
    pytest.fail("the registry does not start")


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Lab]:
    """Start a registry, make two images and push them; all of it goes away again."""
    docker = pytest.importorskip("docker", reason="the Docker SDK for Python is not installed")
    try:
        api = docker.APIClient(version="auto", timeout=60)
    except docker.errors.DockerException as exc:
        pytest.skip(f"NOT TESTED, no Docker Engine: {exc}")
    for tool in ("mmdebstrap", "docker-registry"):
        if not shutil.which(tool):
            pytest.skip(f"NOT TESTED, {tool} is not installed (Debian's package {tool})")
    folder = tmp_path_factory.mktemp("lab")
    port = free_port()
    registry = f"127.0.0.1:{port}"
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": registry},
        "log": {"level": "error"},
    }
    (folder / "registry.yml").write_text(json.dumps(config))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(folder / "registry.yml")], stdout=log, stderr=log)
    made: list[str] = []
    try:
        _wait(port)
        base = folder / "base.tar"
        # libstdc++: what the wheels of grpcio and numpy need, which a test may mount
        packages = "python3-minimal,libpython3.11-stdlib,haproxy,libstdc++6"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=extract", f"--include={packages}", "bookworm", str(base)], check=True
        )
        mark = uuid.uuid4().hex[:8]
        proxy = f"{registry}/ms-test-{mark}/haproxy"
        api.import_image_from_file(str(base), repository=proxy, tag="x")
        made.append(f"{proxy}:x")
        image = f"{registry}/ms-test-{mark}/serving"
        _build(api, f"{image}:x", f"{proxy}:x")
        made.append(f"{image}:x")
        digests = [_push(api, item) for item in (image, proxy)]
        yield Lab(api, registry, f"{image}@{digests[0]}", f"{proxy}@{digests[1]}", config)
    finally:
        process.terminate()
        process.wait(10)
        for item in reversed(made):
            with contextlib.suppress(docker.errors.APIError):
                inspected = api.inspect_image(item)
                for name in [*inspected["RepoTags"], *inspected["RepoDigests"]]:
                    with contextlib.suppress(docker.errors.APIError):
                        api.remove_image(name)


def _build(api: t.Any, tag: str, base: str) -> None:
    files = ("serving.py", "grpc_serving.py")
    dockerfile = f'FROM {base}\nCOPY {" ".join(files)} /\nUSER 65532:65532\nCMD ["python3", "/serving.py"]\n'
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name in files:
            tar.add(HERE / name, name)
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(dockerfile)
        tar.addfile(member, io.BytesIO(dockerfile.encode()))
    context.seek(0)
    for event in api.build(fileobj=context, custom_context=True, tag=tag, rm=True, decode=True):
        assert "error" not in event, event


def _push(api: t.Any, repository: str) -> str:
    for event in api.push(repository, tag="x", stream=True, decode=True):
        assert "error" not in event, event
        if "Digest" in event.get("aux", {}):
            return str(event["aux"]["Digest"])
    raise AssertionError("the push told no digest")


class Deployment:
    """One deployment under test: a name and a port of its own, and the module's logic called with options."""

    def __init__(self, lab: Lab, proxied: bool) -> None:
        self.lab = lab
        self.name = f"ms-test-{uuid.uuid4().hex[:8]}"
        self.port = free_port()
        self.grpc_port = 0
        self.proxied = proxied

    def options(self, **options: t.Any) -> dict[str, t.Any]:
        """The module's parameters, validated and with its defaults."""
        given: dict[str, t.Any] = {"name": self.name, "image": self.lab.image, "port": self.port, "drain_seconds": 5}
        given["health"] = {"start_deadline": 20}
        if self.proxied:
            given["proxy"] = {"image": self.lab.proxy}
        given.update(options)
        checked = ArgumentSpecValidator({**OPTIONS, **DOCKER_OPTIONS}).validate(given)
        assert not checked.error_messages
        return dict(checked.validated_parameters)

    def run(self, *, check: bool = False, **options: t.Any) -> Outcome:
        """Call the module's logic."""
        return deploy(self.options(**options), Context(check=check))

    def process(self, **options: t.Any) -> subprocess.Popen[bytes]:
        """Start the module's logic in another process."""
        process = subprocess.Popen(
            [sys.executable, "-c", _PROCESS, str(ROOT / ".build")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(self.options(**options)).encode())
        process.stdin.close()
        return process

    def version(self) -> str | None:
        """What is being served: the variable VERSION of the container that answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/health/ready", timeout=5) as answer:
            return t.cast("str | None", json.load(answer)["version"])

    def grpc_options(self, **environment: str) -> dict[str, t.Any]:
        """Options that turn gRPC on, at a port that is free now; the packages for it are this interpreter's own."""
        triton = pytest.importorskip("tritonclient.grpc")
        if sys.version_info[:2] != (3, 11):
            pytest.skip("NOT TESTED: the packages of this interpreter do not run in Debian 12's Python 3.11")
        self.grpc_port = free_port()
        site = Path(triton.__file__).parents[2]
        variables = {"MODELSHIP_GRPC_PORT": str(self.grpc_port), "PYTHONPATH": "/site", **environment}
        return {"environment": variables, "volumes": [f"{site}:/site:ro"]}

    def names(self) -> list[str]:
        """Names of its containers, sorted."""
        return sorted(item["Names"][0].lstrip("/") for item in self.lab.containers(self.name))

    def inspect(self, name: str) -> dict[str, t.Any]:
        """One container, long form."""
        return t.cast("dict[str, t.Any]", self.lab.api.inspect_container(name))


@pytest.fixture
def deployment(lab: Lab) -> t.Iterator[Deployment]:
    """A deployment behind a proxy."""
    yield from _deployment(lab, proxied=True)


@pytest.fixture
def plain(lab: Lab) -> t.Iterator[Deployment]:
    """A deployment without a proxy."""
    yield from _deployment(lab, proxied=False)


def _deployment(lab: Lab, *, proxied: bool) -> t.Iterator[Deployment]:
    made = Deployment(lab, proxied)
    try:
        yield made
    finally:
        for item in lab.containers(made.name):
            lab.api.remove_container(item["Id"], force=True)
        label = {"label": f"io.modelship.deployment={made.name}"}
        for network in lab.api.networks(filters=label):
            lab.api.remove_network(network["Id"])
        for volume in lab.api.volumes(filters=label)["Volumes"] or []:
            lab.api.remove_volume(volume["Name"])


@pytest.fixture
def load() -> t.Callable[[int], Load]:
    """Eight clients of a port of this machine, which tell the versions of the containers that answer."""
    return lambda port: Load([("127.0.0.1", port)], {"image": [1] * 784}, "version")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release folder as far as verification reads it, whose golden answers the image under test gives."""
    inputs = [[float(place)] * 4 for place in range(3)]
    outputs = [[0.91 if place == (4 * sample) % 10 else 0.01 for place in range(10)] for sample in range(3)]
    golden = {
        "inputs": {"image": inputs},
        "outputs": {"probabilities": outputs},
        "tolerance": {"absolute": 0.02, "classes": "equal"},
    }
    raw = canonical_json(golden)
    manifest = {
        "schema": "modelship.release/1",
        "name": "sums",
        "signature": {"inputs": [{"name": "image", "dtype": "float32", "shape": [-1, 4]}]},
        "files": {"golden.json": {"sha256": sha256_bytes(raw).partition(":")[2], "size": len(raw)}},
    }
    text = canonical_json(manifest)
    folder = tmp_path / sha256_bytes(text).partition(":")[2]
    folder.mkdir()
    (folder / "golden.json").write_bytes(raw)
    (folder / "release.json").write_bytes(text)
    return folder
