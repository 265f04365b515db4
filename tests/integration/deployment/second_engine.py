"""A second Docker Engine with settings of its own, in a network and mount namespace of its own.

In the host's namespaces a second Engine would delete the first one's bridge and rules. The registry of the tests runs in there
too, on the same storage, because the images are pulled by digest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_USER = "nobody"
#: Where, in the Engine's network, the registry speaks plain HTTP at an address that is not loopback.
PLAIN_REGISTRY = "192.0.2.1"
#: Runs in the namespaces: the deployment, with options and check mode from stdin; prints what came of it.
_DEPLOY = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._core.runner import Context
from ansible_collections.modelship.core.plugins.modules.deployment import deploy
given = json.load(sys.stdin)
try:
    outcome = deploy(given["options"], Context(check=given["check"]))
    print(json.dumps({"changed": outcome.changed, "message": outcome.message, "result": outcome.result}))
except ModelshipError as exc:
    print(json.dumps({"error": exc.message, "kind": exc.kind, "details": exc.details}))
"""
_START = """
set -e
mount --make-rprivate /
mount --bind "$1/subid" /etc/subuid
mount --bind "$1/subid" /etc/subgid
ip link set lo up
ip addr add {plain}/32 dev lo
docker-registry serve "$1/registry.yml" >"$1/registry.log" 2>&1 &
REGISTRY_HTTP_ADDR={plain}:5000 docker-registry serve "$1/registry.yml" >"$1/plain.log" 2>&1 &
exec dockerd --config-file "$1/daemon.json" >"$1/engine.log" 2>&1
"""


@dataclasses.dataclass(frozen=True)
class SecondEngine:
    """An Engine that runs: its first process, and its socket."""

    process: subprocess.Popen[bytes]
    socket: Path

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self.process.pid), "-n", "-m", *command]

    def deploy(self, options: dict[str, t.Any], *, check: bool = False) -> dict[str, t.Any]:
        """Call the module's logic in the Engine's namespaces; return its outcome, or C(error), C(kind) and C(details)."""
        given = {"options": {**options, "docker_host": f"unix://{self.socket}"}, "check": check}
        done = subprocess.run(
            self._inside(sys.executable, "-c", _DEPLOY, str(ROOT / ".build")),
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return t.cast("dict[str, t.Any]", json.loads(done.stdout))

    def get(self, url: str) -> str:
        """GET *url* in the Engine's network."""
        script = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"
        return subprocess.run(
            self._inside(sys.executable, "-c", script, url), capture_output=True, text=True, check=True
        ).stdout

    def inspect(self, name: str) -> dict[str, t.Any]:
        """One container, long form."""
        told = self.docker("inspect", name)
        return t.cast("dict[str, t.Any]", json.loads(told)[0])

    def docker(self, *arguments: str) -> str:
        """Run the docker command on this Engine."""
        command = ["docker", "-H", f"unix://{self.socket}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def second_engine(folder: Path, registry: dict[str, t.Any], **settings: t.Any) -> t.Iterator[SecondEngine]:
    """Start an Engine with *settings* (as in daemon.json); stop it and delete all of it in the end.

    :param registry: configuration of the tests' registry.
    """
    for tool in ("dockerd", "docker", "nsenter", "unshare", "ip"):
        if not shutil.which(tool):
            pytest.skip(f"NOT TESTED, {tool} is not installed")
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED, only root can start a second Docker Engine")
    socket = folder / "engine.sock"
    given = {
        "hosts": [f"unix://{socket}"],
        "data-root": str(folder / "data"),
        "exec-root": str(folder / "exec"),
        "pidfile": str(folder / "engine.pid"),
        **settings,
    }
    (folder / "daemon.json").write_text(json.dumps(given))
    (folder / "registry.yml").write_text(json.dumps(registry))
    (folder / "subid").write_text(f"{_USER}:300000:65536\n")
    process = subprocess.Popen(
        ["unshare", "-n", "-m", "sh", "-c", _START.replace("{plain}", PLAIN_REGISTRY), "sh", str(folder)],
        start_new_session=True,
    )
    try:
        engine = SecondEngine(process, socket)
        for _attempt in range(150):
            with contextlib.suppress(subprocess.CalledProcessError):
                engine.docker("version")
                break
            if process.poll() is not None:
                break
            time.sleep(0.2)
        else:
            process.terminate()
        if process.poll() is not None:
            pytest.skip(f"NOT TESTED, a second Engine does not start: {(folder / 'engine.log').read_text()[-500:]}")
        yield engine
        for ident in engine.docker("ps", "-aq").split():
            engine.docker("rm", "-f", "-v", ident)
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        with contextlib.suppress(ProcessLookupError):  # the registry, and what an Engine that hangs has left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        subprocess.run(["rm", "-rf", str(folder / "data"), str(folder / "exec")], check=False)
