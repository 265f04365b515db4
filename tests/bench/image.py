"""Images compared: this collection's against a plain Dockerfile on Debian, in turns, by the same Engine and registry.

Both images hold the same wheels, the same serving runtime and the same release. The plain one is built as one would write it:
Debian's minbase with Python and pip, ``pip install``, the runtime, the model last. In its favour: it installs only the few
wheels that this collection's lock names (pip by itself would bring more). Ours compresses its layers when it builds, the
Engine when it pushes; so building and pushing are also shown together.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import statistics
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
from ansible_collections.modelship.core.plugins.module_utils._oci.options import REGISTRY_OPTIONS
from ansible_collections.modelship.core.plugins.module_utils._oci.push import push_image
from ansible_collections.modelship.core.plugins.modules import image_build, image_push

from . import runs
from .figures import Figure, smaller
from .serving import first_answer, sample
from .stand import ROOT, Clock, Stand, command, free_port

SECTION = "Image"
CONTESTANT = "plain Dockerfile: Debian minbase, pip install, same wheels, same runtime, model last"
IN_PLAYBOOK = "Image, by ansible-playbook, net of an empty playbook"
IN_PLAYBOOK_CONTESTANT = "the plain Dockerfile by two tasks of ansible.builtin.command"
ROUNDS = 2
#: model-only changes a round
CHANGES = 4
#: containers of each image that are started in the end
STARTS = 12
#: runs of each playbook
PLAYS = 3

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
    """Return a copy of *release* with another model: what a retraining gives, without training.

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

    def __init__(self, folder: Path, host: str) -> None:
        self.repository = f"{host}/modelship"
        self.cache = folder / "cache"
        self._base = {
            "name": "bench",
            "dest": str(folder / "image"),
            "cache": str(self.cache),
            "base": {"bootstrap": {"suite": "bookworm"}},
        }
        self.image: dict[str, Any] = {}

    def options(self, release: Path | None) -> dict[str, object]:
        """The options of ``image_build``; without a release those of the base alone."""
        if release is None:
            return dict(self._base)
        return {
            **self._base,
            "requirements": str(REQUIREMENTS),
            "requirements_exclude": [str(EXCLUDES)],
            "runtime": str(RUNTIME),
            "python_interpreter": sys.executable,
            "release": str(release),
        }

    def build(self, release: Path | None) -> None:
        """Build from whatever the cache has."""
        self.image = build_image(_checked(image_build.OPTIONS, self.options(release)), Context()).result["image"]

    def push(self) -> None:
        """Push what was built last."""
        options = {"layout": self.image["layout"], "digest": self.image["digest"], "repository": self.repository}
        push_image(_checked({**image_push.OPTIONS, **REGISTRY_OPTIONS}, options), Context())

    def runnable(self) -> str:
        """Pull the image, so that the Engine has it as it has the contestant's."""
        reference = f"{self.repository}@{self.image['digest']}"
        command("docker", "pull", "-q", reference)
        return reference


class Plain:
    """``docker build`` and ``docker push``."""

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
        command(*self.build_words(*options))

    def push(self) -> None:
        """Push what was built last."""
        command(*self.push_words())

    def build_words(self, *options: str) -> list[str]:
        """The command line that builds."""
        # The host's network, because the wheels are served on loopback.
        words = ["docker", "build", "-q", "--force-rm", "--network", "host", "--label", self._label, *options]
        return [*words, "-t", self.tag, str(self._context)]

    def push_words(self) -> list[str]:
        """The command line that pushes."""
        return ["docker", "push", "-q", self.tag]


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


def _plain_base(stand: Stand, tag: str) -> None:
    archive = stand.folder / "base.tar"
    command("mmdebstrap", "-q", "--variant=minbase", "--include=python3,python3-pip", "bookworm", archive)
    stand.at_end(lambda: command("docker", "rmi", "-f", tag))
    command("docker", "import", "--change", f"LABEL {stand.label}", archive, tag)
    archive.unlink()


def _plain_wheels(folder: Path) -> None:
    command(
        *(
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
        ),
        *("--only-binary=:all:", "--python-version", "3.11", "-d", folder, "-r", REQUIREMENTS),
    )


def measure(stand: Stand, release: Path) -> tuple[list[Figure], dict[str, list[float]]]:
    """Build, push and start both images; return the rows and all single times, in seconds.

    :raises BenchError: a step fails.
    """
    clock = Clock()
    base, wheelhouse = f"ms-bench-base:{os.getpid()}", stand.folder / "wheels"
    wheelhouse.mkdir()
    stand.say("image: Debian minbase and wheels for the plain Dockerfile")
    with clock("plain base"):
        _plain_base(stand, base)
    with clock("plain wheels"):
        _plain_wheels(wheelhouse)
    with _served(wheelhouse) as link:
        for number in range(ROUNDS):
            folder = stand.folder / f"round-{number}"
            what = f"image, round {number + 1} of {ROUNDS}"
            with stand.registry() as host:
                ours = Ours(folder / "ours", host)
                plain = Plain(stand, folder / "plain", host, base, link)
                plain.prepare(release)
                stand.say(f"{what}: from nothing, modelship")
                with clock("ours from nothing"):
                    ours.build(release)
                stand.say(f"{what}: base and wheels at hand, modelship")
                ready = Ours(folder / "ready", host)
                ready.build(None)
                shutil.copytree(ours.cache / "wheels", ready.cache / "wheels", dirs_exist_ok=True)
                with clock("ours build"):
                    ready.build(release)
                with clock("ours push"):
                    ours.push()
                stand.say(f"{what}: base and wheels at hand, plain Dockerfile")
                with clock("plain build"):
                    plain.build("--no-cache")
                with clock("plain push"):
                    plain.push()
                stand.say(f"{what}: the model alone changed {CHANGES} times, then nothing")
                for change in range(CHANGES):
                    changed = changed_release(release, number * CHANGES + change, folder)
                    with clock("ours rebuild"):
                        ours.build(changed)
                    with clock("ours repush"):
                        ours.push()
                    plain.prepare(changed)
                    with clock("plain rebuild"):
                        plain.build()
                    with clock("plain repush"):
                        plain.push()
                    with clock("ours same"):
                        ours.build(changed)
                        ours.push()
                    with clock("plain same"):
                        plain.build()
                        plain.push()
                if number == ROUNDS - 1:
                    sizes = _sizes(ours, plain, host)
                    _starts(stand, ours, plain, sample(release), clock)
                    _plays(stand, ours, plain, release, clock)
            shutil.rmtree(folder, ignore_errors=True)
    return _figures(clock.times, sizes), clock.times


def _starts(stand: Stand, ours: Ours, plain: Plain, body: bytes, clock: Clock) -> None:
    network, image = _network(stand), ours.runnable()
    stand.say(f"image: {STARTS} containers of each")
    images = [("ours start", image), ("plain start", plain.tag)]
    for _ in range(STARTS):
        for name, started in images:
            with clock(name):
                _start(stand, started, network, body)
        images.reverse()


def _plays(stand: Stand, ours: Ours, plain: Plain, release: Path, clock: Clock) -> None:
    modules = runs.modules_playbook(
        stand, ours.options(release), {"layout": ours.image["layout"], "repository": ours.repository}
    )
    commands = runs.commands_playbook(stand, plain.build_words(), plain.push_words())
    empty = runs.written(stand, "empty", runs.EMPTY)
    for number in range(PLAYS):
        stand.say(f"image: in a playbook, {number + 1} of {PLAYS}")
        changed = changed_release(release, 1000 + number, stand.folder)
        variables: dict[str, object] = {"release": str(changed)}
        with clock("play empty"):
            runs.playbook(empty, variables)
        for what in ("changed", "same"):
            with clock(f"play ours {what}"):
                runs.playbook(modules, variables)
            if what == "changed":
                plain.prepare(changed)
            with clock(f"play plain {what}"):
                runs.playbook(commands, variables)


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


def _sizes(ours: Ours, plain: Plain, host: str) -> dict[str, float]:
    """Megabytes, both by the same measure: what the Engine says of an image, and what the registry holds of it."""
    sizes = {}
    for name, image in (("ours", ours.runnable()), ("plain", plain.tag)):
        sizes[name] = int(command("docker", "image", "inspect", "-f", "{{.Size}}", image)) / 1e6
    for name, reference in (
        ("ours", f"modelship/manifests/{ours.image['digest']}"),
        ("plain", "plain/manifests/latest"),
    ):
        accept = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
        request = urllib.request.Request(f"http://{host}/v2/{reference}", headers={"Accept": accept})
        with urllib.request.urlopen(request) as answer:
            manifest = json.load(answer)
        sizes[f"{name} packed"] = sum(int(part["size"]) for part in [*manifest["layers"], manifest["config"]]) / 1e6
    return sizes


def _figures(times: dict[str, list[float]], sizes: dict[str, float]) -> list[Figure]:
    best = {name: min(values) for name, values in times.items()}
    prepared = best["plain base"] + best["plain wheels"]
    # Mostly the Engine's own work, which varies more than the contestants differ: not the best but the median.
    start, plain_start = statistics.median(times["ours start"]), statistics.median(times["plain start"])
    size, packed = sizes["ours"], sizes["ours packed"]
    net = {name: value - best["play empty"] for name, value in best.items() if name.startswith("play ")}
    changed, same = "model-only change: rebuild and push", "nothing changed: build and push"
    return [
        Figure(
            SECTION,
            "size in the Engine",
            "MB",
            size,
            sizes["plain"],
            ("less, 150 MB", size <= min(150, sizes["plain"])),
        ),
        Figure(
            SECTION,
            "size in the registry",
            "MB",
            packed,
            sizes["plain packed"],
            ("less, 60 MB", packed <= min(60, sizes["plain packed"])),
        ),
        smaller(
            SECTION, "from nothing: base, wheels, build", "s", best["ours from nothing"], prepared + best["plain build"]
        ),
        smaller(SECTION, "build, base and wheels at hand", "s", best["ours build"], best["plain build"]),
        smaller(
            SECTION,
            "  and push to an empty registry",
            "s",
            best["ours build"] + best["ours push"],
            best["plain build"] + best["plain push"],
        ),
        smaller(SECTION, "push alone", "s", best["ours push"], best["plain push"]),
        Figure(
            SECTION,
            "container start to first answer",
            "s",
            start,
            plain_start,
            ("less, 0.5 s", start <= min(0.5, plain_start)),
        ),
        smaller(SECTION, "model-only change: rebuild", "s", best["ours rebuild"], best["plain rebuild"]),
        smaller(SECTION, "model-only change: push", "s", best["ours repush"], best["plain repush"]),
        smaller(SECTION, same, "s", best["ours same"], best["plain same"]),
        Figure(IN_PLAYBOOK, changed, "s", net["play ours changed"], net["play plain changed"]),
        Figure(IN_PLAYBOOK, same, "s", net["play ours same"], net["play plain same"]),
    ]
