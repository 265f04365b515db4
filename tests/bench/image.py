"""Images compared: this collection's against a plain Dockerfile on Debian, each with a registry of its own, in turns.

Both images hold the same wheels, the same serving runtime and the same release. The plain one is built as one would write it:
Debian's minbase with Python and pip, ``pip install``, the runtime, the model last. What is in the contestant's favour: its base
image and its wheels are at hand before the clock starts, while this collection's build from an empty cache downloads both.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.modelship.core.plugins.module_utils._core.content import canonical_json, sha256_bytes
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.module_utils._oci.builders import build_image
from ansible_collections.modelship.core.plugins.module_utils._oci.push import push_image
from ansible_collections.modelship.core.plugins.modules import image_build, image_push

from .figures import Figure, smaller
from .serving import first_answer, sample
from .stand import ROOT, Stand, command, free_port, timed

SECTION = "Image"
CONTESTANT = "plain Dockerfile on Debian minbase (its base and its wheels are at hand; ours downloads them)"
ROUNDS = 2
#: model-only changes a round
CHANGES = 4
#: containers of each image that are started in the end
STARTS = 6

REQUIREMENTS = ROOT / "model" / "locks" / "serving-litert.txt"
EXCLUDES = ROOT / "model" / "locks" / "serving-excludes.txt"
RUNTIME = ROOT / "model" / "src" / "modelship_serving"

DOCKERFILE = """\
FROM {base}
COPY requirements.txt /requirements.txt
RUN python3 -m pip install --break-system-packages --no-cache-dir --no-deps --no-index --find-links {wheels} -r /requirements.txt
COPY modelship_serving /app/modelship_serving
ENV PYTHONPATH=/app MODELSHIP_RELEASE=/release
EXPOSE 8080
USER 65532:65532
CMD ["python3", "-m", "modelship_serving"]
COPY release /release
"""


def changed_release(release: Path, number: int, folder: Path) -> Path:
    """Return a copy of *release* with another model of the same size of change: what a retraining gives, without training.

    The model gets a few bytes at its end, which its format overlooks, and the manifest names the new content.
    """
    target = folder / f"change-{number}"
    shutil.copytree(release, target)
    manifest = json.loads((target / "release.json").read_text())
    model = target / manifest["model"]["path"]
    model.write_bytes(model.read_bytes() + b"change %08d" % number)
    data = model.read_bytes()
    manifest["files"][manifest["model"]["path"]] = {"sha256": sha256_bytes(data).partition(":")[2], "size": len(data)}
    manifest["model"]["size"] = len(data)
    text = canonical_json(manifest)
    (target / "release.json").write_bytes(text)
    return target.rename(folder / sha256_bytes(text).partition(":")[2])


class Ours:
    """``image_build`` and ``image_push``, called as their modules call them, with a cache and a layout of their own."""

    title = "modelship"

    def __init__(self, stand: Stand, folder: Path, host: str) -> None:
        self._folder = folder
        self.repository = f"{host}/modelship"
        self._digest = ""
        self.image: dict[str, Any] = {}

    def options(self, release: Path) -> dict[str, object]:
        """The options of ``image_build``."""
        return {
            "name": "bench",
            "dest": str(self._folder / "image"),
            "cache": str(self._folder / "cache"),
            "base": {"bootstrap": {"suite": "bookworm"}},
            "requirements": str(REQUIREMENTS),
            "requirements_exclude": [str(EXCLUDES)],
            "runtime": str(RUNTIME),
            "python_interpreter": sys.executable,
            "release": str(release),
        }

    def build(self, release: Path) -> None:
        """Build from whatever the cache has."""
        self.image = build_image(_checked(image_build.OPTIONS, self.options(release)), Context()).result["image"]

    def push(self) -> None:
        """Push what was built last."""
        options = {"layout": self.image["layout"], "digest": self.image["digest"], "repository": self.repository}
        push_image(_checked({**image_push.OPTIONS, **image_build.REGISTRY_OPTIONS}, options), Context())

    def runnable(self) -> str:
        """Pull the image, so that the Engine has it as it has the contestant's."""
        reference = f"{self.repository}@{self.image['digest']}"
        command("docker", "pull", "-q", reference)
        return reference

    def wheels(self) -> list[Path]:
        """The wheels that went into the image."""
        return sorted((self._folder / "cache").rglob("*.whl"))


class Plain:
    """``docker build`` and ``docker push``."""

    title = "plain Dockerfile"

    def __init__(self, stand: Stand, folder: Path, host: str, base: str, wheels: str) -> None:
        self._context = folder / "context"
        self._context.mkdir(parents=True)
        (self._context / "Dockerfile").write_text(DOCKERFILE.format(base=base, wheels=wheels))
        shutil.copy(REQUIREMENTS, self._context / "requirements.txt")
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(RUNTIME, self._context / "modelship_serving", ignore=ignored)
        self._label = stand.label
        self.tag = f"{host}/plain:latest"

    def prepare(self, release: Path) -> None:
        """Put the release into the build's context."""
        shutil.rmtree(self._context / "release", ignore_errors=True)
        shutil.copytree(release, self._context / "release")

    def build(self, *options: str) -> None:
        """Build; the Engine takes from its cache what has not changed, but for ``--no-cache``."""
        command(
            *("docker", "build", "-q", "--force-rm", "--network", "host", "--label", self._label, *options),
            *("-t", self.tag, self._context),
        )

    def push(self) -> None:
        """Push what was built last."""
        command("docker", "push", "-q", self.tag)


def _checked(spec: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    result = ArgumentSpecValidator(spec).validate(options)
    if result.error_messages:
        raise AssertionError(result.error_messages)
    return dict(result.validated_parameters)


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve *folder* on loopback: where the plain Dockerfile's pip finds its wheels, without a layer that holds them."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()


def _plain_base(stand: Stand) -> str:
    archive, tag = stand.folder / "base.tar", f"ms-bench-base:{os.getpid()}"
    command("mmdebstrap", "-q", "--variant=minbase", "--include=python3,python3-pip", "bookworm", archive)
    stand.at_end(lambda: command("docker", "rmi", "-f", tag))
    command("docker", "import", "--change", f"LABEL {stand.label}", archive, tag)
    archive.unlink()
    return tag


def measure(stand: Stand, release: Path) -> tuple[list[Figure], dict[str, list[float]]]:
    """Build, push and start both images; return the rows and all single times, in seconds.

    :raises BenchError: a step fails.
    """
    stand.say("image: Debian minbase for the plain Dockerfile")
    base: list[str] = []
    times: dict[str, list[float]] = {"plain base": [timed(lambda: base.append(_plain_base(stand)))]}

    def clock(name: str, action: Any) -> None:
        times.setdefault(name, []).append(timed(action))

    wheelhouse = stand.folder / "wheels"
    wheelhouse.mkdir()
    body = sample(release)
    with _served(wheelhouse) as link:
        for number in range(ROUNDS):
            last = number == ROUNDS - 1
            folder = stand.folder / f"round-{number}"
            with stand.registry() as host:
                ours = Ours(stand, folder / "ours", host)
                plain = Plain(stand, folder / "plain", host, base[0], link)
                plain.prepare(release)
                stand.say(f"image, round {number + 1} of {ROUNDS}: from empty, modelship")
                clock("ours build", lambda: ours.build(release))
                clock("ours push", ours.push)
                for wheel in ours.wheels():
                    shutil.copy(wheel, wheelhouse)
                stand.say(f"image, round {number + 1} of {ROUNDS}: from empty, plain Dockerfile")
                clock("plain build", lambda: plain.build("--no-cache"))
                clock("plain push", plain.push)
                stand.say(f"image, round {number + 1} of {ROUNDS}: {CHANGES} changes of the model alone, no change")
                for change in range(CHANGES):
                    changed = changed_release(release, number * CHANGES + change, folder)
                    clock("ours rebuild", lambda: ours.build(changed))
                    clock("ours repush", ours.push)
                    plain.prepare(changed)
                    clock("plain rebuild", plain.build)
                    clock("plain repush", plain.push)
                    clock("ours same", lambda: (ours.build(changed), ours.push()))
                    clock("plain same", lambda: (plain.build(), plain.push()))
                if last:
                    network = _network(stand)
                    images = {"ours": ours.runnable(), "plain": plain.tag}
                    for start in range(STARTS):
                        stand.say(f"image: start {start + 1} of {STARTS} of a container of each")
                        for name, image in images.items():
                            clock(f"{name} start", lambda: _start(stand, image, network, body))
                    sizes = {name: _size(image) for name, image in images.items()}
                    packed = {"ours": ours.image["size"] / 1e6, "plain": _packed(host, "plain")}
            shutil.rmtree(folder, ignore_errors=True)
    return _figures(times, sizes, packed), times


def _network(stand: Stand) -> str:
    # Of our own, as a deployment has one: the Engine's default bridge may be switched off.
    name = f"ms-bench-{os.getpid()}"
    command("docker", "network", "create", "--label", stand.label, name)
    return name


def _start(stand: Stand, image: str, network: str, body: bytes) -> None:
    port = free_port()
    container = command(
        *("docker", "run", "-d", "--read-only", "--label", stand.label, "--network", network),
        *("-p", f"127.0.0.1:{port}:8080", image),
    ).strip()

    def alive() -> str | None:
        running = command("docker", "inspect", "-f", "{{.State.Running}}", container).strip() == "true"
        return None if running else f"the container of {image} ended: " + command("docker", "logs", container)[-500:]

    first_answer(port, body, alive)


def _size(image: str) -> float:
    return int(command("docker", "image", "inspect", "-f", "{{.Size}}", image)) / 1e6


def _packed(host: str, repository: str) -> float:
    accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    request = urllib.request.Request(f"http://{host}/v2/{repository}/manifests/latest", headers=accept)
    with urllib.request.urlopen(request) as answer:
        manifest = json.load(answer)
    return sum(int(part["size"]) for part in [*manifest["layers"], manifest["config"]]) / 1e6


def _figures(times: dict[str, list[float]], sizes: dict[str, float], packed: dict[str, float]) -> list[Figure]:
    best = {name: min(values) for name, values in times.items()}
    start = best["ours start"]
    return [
        Figure(SECTION, "size in the Engine", "MB", sizes["ours"], sizes["plain"], ("190 MB", sizes["ours"] <= 190)),
        smaller(SECTION, "size in the registry", "MB", packed["ours"], packed["plain"]),
        smaller(SECTION, "build from empty", "s", best["ours build"], best["plain build"]),
        smaller(SECTION, "push to an empty registry", "s", best["ours push"], best["plain push"]),
        Figure(SECTION, "container start to first answer", "s", start, best["plain start"], ("1.5 s", start <= 1.5)),
        smaller(SECTION, "rebuild after a model-only change", "s", best["ours rebuild"], best["plain rebuild"]),
        smaller(SECTION, "push after a model-only change", "s", best["ours repush"], best["plain repush"]),
        smaller(SECTION, "build and push, nothing changed", "s", best["ours same"], best["plain same"]),
    ]
