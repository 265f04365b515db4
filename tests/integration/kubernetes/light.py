"""What the tests of failures need: a small deployment, a webhook that refuses, tokens that have expired."""

from __future__ import annotations

import base64
import contextlib
import copy
import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from ansible_collections.modelship.core.plugins.module_utils._core.errors import ModelshipError
from ansible_collections.modelship.core.plugins.module_utils._kubernetes import backend
from ansible_collections.modelship.core.plugins.module_utils._kubernetes.client import Api
from tests.cluster.engine import docker
from tests.cluster.fixture import RunningCluster
from tests.cluster.settings import CONTROL_PLANE

from .declared import Declared, Object
from .serving import Built

ROOT = Path(__file__).resolve().parents[3]
#: A name server answers HTTP on this path once it serves.
_COREFILE = ".:5353 {\n  health :8080\n}\n"


def light(api: Api, cluster: RunningCluster, namespace: str, folder: Path, collections: Path) -> Declared:
    """A deployment of two small pods from an image that all nodes have: CoreDNS."""
    names = [
        name
        for node in api.list("v1", "Node", None)[0]
        for image in node["status"].get("images") or ()
        for name in image.get("names") or ()
        if "coredns@sha256:" in name
    ]
    if not names:
        pytest.skip("NOT TESTED: no node has the image of CoreDNS, which these tests deploy")
    made = Declared(api, cluster.kubeconfig, namespace, Built(names[0], "", "", []), folder, collections)
    return made.declare(
        verify=None,
        user="65532:65532",
        drain_seconds=0,
        limits={"memory": "64m", "cpus": 0.1},
        health={"path": "/health", "start_deadline": 20},
        kubernetes={
            "rollout": {"deadline": 40, "max_surge": "100%", "pre_stop_seconds": 0},
            "config_files": {"/Corefile": _COREFILE},
        },
    )


def failure(digits: Declared, **changes: t.Any) -> ModelshipError:
    """Run it with *changes* and return the one clear error that it must end with."""
    with pytest.raises(ModelshipError) as caught:
        digits.run(**changes)
    assert "\n" not in caught.value.message
    return caught.value


def started(digits: Declared, **changes: t.Any) -> subprocess.Popen[str]:
    """The module as a process of its own, as Ansible starts it."""
    given = copy.copy(digits).declare(**changes).options
    run = subprocess.Popen(
        [sys.executable, "-m", "ansible_collections.modelship.core.plugins.modules.deployment"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".build")},
    )
    assert run.stdin is not None
    run.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": given}))
    run.stdin.close()
    run.stdin = None
    return run


def ended(run: subprocess.Popen[str]) -> dict[str, t.Any]:
    """What the module returns."""
    output, errors = run.communicate(timeout=120)
    assert output, errors
    return dict(json.loads(output))


def eventually(what: str, ready: Callable[[], t.Any], seconds: float = 60) -> t.Any:
    """Return what *ready* returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.1)
    return found


def after_apply(monkeypatch: pytest.MonkeyPatch, act: Callable[[Object], None]) -> None:
    """Have runs in this process call *act* with each object that they have written; no other one goes on before it ends."""
    lock = threading.Lock()

    class Watched(Api):
        def apply(self, obj: Object, **options: t.Any) -> Object:
            result = super().apply(obj, **options)
            if not options.get("dry_run"):
                with lock:
                    act(obj)
            return result

    monkeypatch.setattr(backend, "Api", Watched)


@contextlib.contextmanager
def webhook(
    address: str, folder: Path, message: str = "", patch: Callable[[Object], t.Any] | None = None
) -> Iterator[tuple[Object, list[str]]]:
    """An HTTPS server at *address* that admits nothing; yield its ``clientConfig`` and the names it was asked about.

    :param patch: it admits everything instead, with the JSON patch that this returns for an object.
    """
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", "/CN=webhook", "-addext", f"subjectAltName=IP:{address}"),
            *("-keyout", "key.pem", "-out", "certificate.pem"),
        ],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            review = json.loads(self.rfile.read(int(self.headers["content-length"])))
            asked.append(review["request"].get("name", ""))
            verdict = {"uid": review["request"]["uid"], "allowed": False, "status": {"code": 403, "message": message}}
            if patch is not None:
                operations = json.dumps(patch(review["request"]["object"])).encode()
                verdict = {"uid": review["request"]["uid"], "allowed": True, "patchType": "JSONPatch"}
                verdict["patch"] = base64.b64encode(operations).decode()
            body = json.dumps({**review, "request": None, "response": verdict}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: t.Any) -> None:
            """Be quiet."""

    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        bundle = base64.b64encode((folder / "certificate.pem").read_bytes()).decode()
        yield {"url": f"https://{address}:{server.server_address[1]}/", "caBundle": bundle}, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def applied(api: Api, *objects: Object) -> Iterator[None]:
    """Have *objects* in the cluster, as somebody else's."""
    for obj in objects:
        api.apply(obj, manager="test")
    try:
        yield
    finally:
        for obj in objects:
            api.delete(obj)


def kubeconfig_of(cluster: RunningCluster, user: Object, path: Path) -> str:
    """Write the cluster's kubeconfig with another *user* to *path*, and return that."""
    config = yaml.safe_load(Path(cluster.kubeconfig).read_text())
    config["users"] = [{"name": each["name"], "user": user} for each in config["users"]]
    path.write_text(yaml.safe_dump(config))
    return str(path)


def expired_token(cluster: RunningCluster, namespace: str, account: str, folder: Path) -> str:
    """A token of a service account as the API server itself would have made it, which expired an hour ago."""
    key = folder / "sa.key"
    key.write_text(docker("exec", CONTROL_PLANE.container, "cat", "/etc/kubernetes/pki/sa.key"))
    head, body, _signature = cluster.kubectl("create", "token", account, f"--namespace={namespace}").strip().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    for name in ("exp", "iat", "nbf"):
        claims[name] -= 7200
    signed = f"{head}.{_encoded(json.dumps(claims).encode())}"
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(key)], input=signed.encode(), capture_output=True, check=True
    )
    key.unlink()
    return f"{signed}.{_encoded(done.stdout)}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def login_program(folder: Path, *tokens: str) -> Object:
    """A kubeconfig user whose exec plugin gives these tokens one after the other, then the last one; ``calls`` counts."""
    (folder / "tokens.json").write_text(json.dumps(tokens))
    (folder / "calls").write_text("0")
    program = folder / "login.py"
    program.write_text(
        "import json, pathlib\n"
        "here = pathlib.Path(__file__).parent\n"
        "number = int((here / 'calls').read_text())\n"
        "(here / 'calls').write_text(str(number + 1))\n"
        "tokens = json.loads((here / 'tokens.json').read_text())\n"
        "status = {'token': tokens[min(number, len(tokens) - 1)]}\n"
        "version = 'client.authentication.k8s.io/v1'\n"
        "print(json.dumps({'apiVersion': version, 'kind': 'ExecCredential', 'status': status}))\n"
    )
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(program)],
            "interactiveMode": "Never",
        }
    }
