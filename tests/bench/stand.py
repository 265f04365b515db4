"""What the bench makes for itself and takes back in any case: a folder, registries, containers, images."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: What later runs use again: the trained model, the naive app's libraries; and the figures of the last run.
KEPT = ROOT / ".cache" / "bench"
BIN = Path(sys.executable).parent


class BenchError(Exception):
    """A figure cannot be measured; the message says why."""


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Clock:
    """``with clock(name):`` takes the time of the body.

    :ivar times: seconds, by name, in the order they were taken.
    """

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.times.setdefault(name, []).append(time.perf_counter() - began)

    def best(self, name: str) -> float:
        """Return the shortest time called *name*."""
        return min(self.times[name])


def command(*words: str | Path, env: Mapping[str, str] | None = None, stdin: str = "") -> str:
    """Run a program and return what it wrote to stdout.

    :param stdin: what it reads.
    :raises BenchError: it is not installed, or it failed; the message has its last lines.
    """
    argv = [str(word) for word in words]
    environment = {**os.environ, **(env or {})}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, input=stdin)
    except OSError as exc:
        raise BenchError(f"{argv[0]} cannot be run ({exc.strerror}): `make stand` installs it") from exc
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise BenchError(f"{' '.join(argv[:4])} … ended with {done.returncode}:\n{tail}")
    return done.stdout


class Stand:
    """The throwaway things of one run. Leaving the context removes them, also after a failure or an interrupt.

    :ivar folder: for files; removed at the end.
    :ivar label: ``key=value``, on each container and image made here.
    """

    def __init__(self) -> None:
        self._exit = contextlib.ExitStack()
        self._began = time.monotonic()
        self._ports: list[int] = []
        self.label = f"io.modelship.bench={os.getpid()}-{int(time.time())}"

    def __enter__(self) -> Stand:
        KEPT.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="run-", dir=KEPT))
        self._exit.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._exit.callback(self._remove_docker_things)
        return self

    def __exit__(self, *exc: object) -> None:
        self.say("cleaning up")
        self._exit.close()

    def at_end(self, action: Callable[[], object]) -> None:
        """Call *action* when the run ends, before what was made earlier is removed."""

        def quietly() -> None:
            try:
                action()
            except Exception as exc:  # noqa: BLE001 - whatever it was, the rest has to be removed too
                print(f"clean-up: {exc}", file=sys.stderr)

        self._exit.callback(quietly)

    def say(self, text: str) -> None:
        """Tell who watches what is being done."""
        print(f"[{time.monotonic() - self._began:4.0f} s] {text}", file=sys.stderr, flush=True)

    def claim(self, port: int) -> None:
        """Images of a registry on *port* of this machine count as made here."""
        self._ports.append(port)

    @contextlib.contextmanager
    def registry(self) -> Iterator[str]:
        """Run an empty registry; yield ``host:port``."""
        port = free_port()
        self.claim(port)
        folder = Path(tempfile.mkdtemp(prefix="registry-", dir=self.folder))
        settings = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(folder)}},
            "http": {"addr": f"127.0.0.1:{port}"},
        }
        config = folder / "config.yml"
        config.write_text(json.dumps(settings))  # JSON is YAML
        try:
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
        except OSError as exc:
            raise BenchError("docker-registry is not installed: `make stand` installs it") from exc
        try:
            for _ in range(400):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if process.poll() is not None:
                    raise BenchError(f"docker-registry ended: {(folder / 'log').read_text()[-500:]}")
                time.sleep(0.05)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)
            shutil.rmtree(folder, ignore_errors=True)

    def _remove_docker_things(self) -> None:
        if subprocess.run(["docker", "version"], capture_output=True).returncode:
            return
        containers = command("docker", "ps", "-aq", "--filter", f"label={self.label}").split()
        if containers:
            command("docker", "rm", "-f", *containers)
        networks = command("docker", "network", "ls", "-q", "--filter", f"label={self.label}").split()
        if networks:
            command("docker", "network", "rm", *networks)
        images = set(command("docker", "images", "-aq", "--no-trunc", "--filter", f"label={self.label}").split())
        for line in command("docker", "images", "-a", "--no-trunc", "--format", "{{.Repository}} {{.ID}}").splitlines():
            repository, ident = line.split()
            if any(repository.startswith(f"127.0.0.1:{port}/") for port in self._ports):
                images.add(ident)
        for ident in images:
            # One may have gone with another that was made of it.
            subprocess.run(["docker", "rmi", "-f", ident], capture_output=True)
