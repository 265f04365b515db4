"""What applying many objects to a cluster costs: this collection's task, ``kubectl``, and ``kubernetes.core``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .figures import Figure
from .runs import EMPTY, written
from .stand import BIN, KEPT, ROOT, BenchError, Clock, Stand, command

SECTION = "Kubernetes: 100 ConfigMaps and 100 Deployments of 0 replicas, in one task, net of an empty task"
CONTESTANT = "kubectl apply --server-side of the same file"
IN_PLAYBOOK = "Kubernetes: the same objects, in a playbook, net of an empty task"
IN_PLAYBOOK_CONTESTANT = "one task kubernetes.core.k8s with the same list; a loop, an object each"
LOCK = ROOT / "requirements" / "bench-kubernetes.txt"
TURNS = 3
#: So many objects are applied one by one; the rest is reckoned from them.
LOOPED = 12
STARTS = 8
SIZES = (10, 100, 1000)
#: Any image by digest: nothing of it runs.
IMAGE = f"registry.invalid/none@sha256:{'0' * 64}"


def measure(stand: Stand) -> list[Figure]:
    """Measure on the cluster of ``KUBECONFIG``, else on the test cluster, which goes again if it was not there before.

    :raises BenchError: there is no cluster, or a contestant fails.
    """
    kubeconfig = os.environ.get("KUBECONFIG")
    if kubeconfig:
        return compare(stand, kubeconfig, "kubectl")
    harness = [sys.executable, "-m", "tests.cluster"]
    there = subprocess.run([*harness, "status"], capture_output=True, cwd=ROOT).returncode == 0
    stand.say("kubernetes: bringing the test cluster up")
    try:
        if subprocess.run([*harness, "up"], cwd=ROOT).returncode:
            raise BenchError("the test cluster does not come up: see above")
        facts = json.loads((ROOT / ".cache" / "cluster" / "facts.json").read_text())
        return compare(stand, facts["kubeconfig"], facts["kubectl"])
    finally:
        if not there:
            subprocess.run([*harness, "down"], cwd=ROOT)


def compare(stand: Stand, kubeconfig: str, kubectl: str) -> list[Figure]:
    """Apply and apply again, in turns, each turn in a new namespace.

    :raises BenchError: a contestant fails, or changes something when it applies again.
    """
    bench = _Bench(stand, kubeconfig, kubectl)
    try:
        return list(_figures(_times(stand, bench, kubectl)))
    finally:
        bench.remove()


def _times(stand: Stand, bench: _Bench, kubectl: str) -> Clock:
    clock = Clock()
    for turn in range(TURNS):
        stand.say(f"kubernetes: turn {turn + 1} of {TURNS}")
        with clock("empty"):
            bench.play([{"ansible.builtin.ping": {}}])
        for again in ("", " again"):
            with clock("ours" + again):
                changed = bench.play([ours(f"ms-bench-ours-{turn}", objects(200))])
            bench.check(changed, again)
        space = bench.namespace(f"ms-bench-kubectl-{turn}")
        manifest = stand.folder / "objects.json"
        manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects(200, space))}))
        for again in ("", " again"):
            with clock("kubectl" + again):
                command(kubectl, "apply", "--server-side", "-f", manifest, env=bench.environment)
        space = bench.namespace(f"ms-bench-core-{turn}")
        for again in ("", " again"):
            with clock("core" + again):
                bench.play([core(list(objects(200, space)))])
    stand.say("kubernetes: one task an object")
    space = bench.namespace("ms-bench-loop")
    loop = {**core("{{ item }}"), "loop": list(objects(LOOPED, space))}
    with clock("loop"):
        bench.play([loop])
    stand.say("kubernetes: starting the module")
    absent = {"name": "ms-bench-nothing", "target": "kubernetes", "namespace": "ms-bench-nothing", "state": "absent"}
    numbers = list(range(STARTS))
    for _turn in range(2):
        with clock("pings"):
            bench.play([{"ansible.builtin.ping": {}, "loop": numbers}])
        with clock("starts"):
            bench.play([{"modelship.core.deployment": absent, "loop": numbers}])
    for size in SIZES:
        stand.say(f"kubernetes: {size} objects")
        for again in ("", " again"):
            with clock(f"{size}{again}"):
                bench.play([ours(f"ms-bench-size-{size}", objects(size))])
    return clock


def objects(count: int, namespace: str = "") -> Iterator[dict[str, Any]]:
    """Return *count* objects, half ConfigMaps and half Deployments of 0 replicas."""
    place = {"namespace": namespace} if namespace else {}
    for number in range(count):
        name = f"object-{number}"
        if number % 2:
            data = {"number": str(number)}
            yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **place}, "data": data}
            continue
        labels = {"app": name}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": IMAGE}]}}
        spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
        yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, **place}, "spec": spec}


def ours(namespace: str, extra: Iterator[dict[str, Any]]) -> dict[str, Any]:
    """Return our task: the objects, and the deployment that they belong to."""
    kubernetes = {"wait": False, "extra_resources": list(extra)}
    options = {"name": "bench", "target": "kubernetes", "namespace": namespace, "image": IMAGE}
    return {"modelship.core.deployment": {**options, "kubernetes": kubernetes}}


def core(definition: Any) -> dict[str, Any]:
    """Return a task of kubernetes.core."""
    return {
        "kubernetes.core.k8s": {
            "apply": True,
            "server_side_apply": {"field_manager": "ansible"},
            "definition": definition,
        }
    }


class _Bench:
    def __init__(self, stand: Stand, kubeconfig: str, kubectl: str) -> None:
        self.stand = stand
        self.kubectl = kubectl
        collections = _collections(stand)
        self.environment = {
            "KUBECONFIG": kubeconfig,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": f"{ROOT / '.build'}:{collections}",
            "ANSIBLE_NOCOLOR": "1",
            "MODELSHIP_PROGRESS": "off",
        }
        command(kubectl, "get", "--raw", "/readyz", env=self.environment)

    def play(self, tasks: list[dict[str, Any]]) -> bool:
        """Run *tasks* in a playbook of their own; tell whether they changed something."""
        path = written(self.stand, "kubernetes", [{**EMPTY[0], "tasks": tasks}])
        inventory = ROOT / "inventories" / "local"
        output = command(BIN / "ansible-playbook", path, "-i", inventory, env=self.environment)
        return "changed=0" not in output.rsplit("PLAY RECAP", 1)[-1]

    def namespace(self, name: str) -> str:
        """Make a namespace."""
        command(self.kubectl, "create", "namespace", name, env=self.environment)
        return name

    def check(self, changed: bool, again: str) -> None:
        """Make sure that a first run changed something, and a second one nothing."""
        if changed == bool(again):
            raise BenchError(f"deployment: {'a second run changed something' if changed else 'nothing was applied'}")

    def remove(self) -> None:
        """Delete the namespaces that were made, without waiting."""
        found = command(self.kubectl, "get", "namespaces", "-o", "name", env=self.environment).split()
        gone = [name for name in found if name.startswith("namespace/ms-bench-")]
        if gone:
            command(self.kubectl, "delete", *gone, "--wait=false", env=self.environment)


def _collections(stand: Stand) -> Path:
    """Return the folder with kubernetes.core, as the package ``ansible`` has it."""
    target = KEPT / "collections"
    marker = target / LOCK.name
    if marker.exists() and marker.read_bytes() == LOCK.read_bytes():
        return target
    stand.say("kubernetes: fetching kubernetes.core")
    shutil.rmtree(target, ignore_errors=True)
    pip = [
        BIN / "python",
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "--require-hashes",
        "--disable-pip-version-check",
    ]
    command(*pip, "-r", LOCK, "-d", stand.folder)
    with zipfile.ZipFile(next(stand.folder.glob("ansible-*.whl"))) as wheel:
        members = [name for name in wheel.namelist() if name.startswith("ansible_collections/kubernetes/core/")]
        wheel.extractall(target, members)
    shutil.copy(LOCK, marker)
    return target


def _figures(clock: Clock) -> Iterator[Figure]:
    empty = clock.best("empty")

    def net(name: str) -> float:
        return clock.best(name) - empty

    for again, what in (("", "first"), (" again", "again, no change")):
        mine, other = net("ours" + again), clock.best("kubectl" + again)
        yield Figure(SECTION, what, "s", mine, other, ("no slower", mine <= other))
    for again, what in (("", "first"), (" again", "again, no change")):
        mine, other = net("ours" + again), net("core" + again)
        yield Figure(IN_PLAYBOOK, what, "s", mine, other, ("3 x", other >= 3 * mine))
    each = net("loop") / LOOPED * 200
    yield Figure(
        IN_PLAYBOOK,
        f"one task an object (reckoned from {LOOPED})",
        "s",
        net("ours"),
        each,
        ("15 x", each >= 15 * net("ours")),
    )
    start = (clock.best("starts") - clock.best("pings")) / STARTS
    yield Figure(IN_PLAYBOOK, "start of the module, over an empty one", "s", start, None, ("0.3 s", start <= 0.3))
    for again, what in (("", "first"), (" again", "again, no change")):
        few, many = (net(f"{size}{again}") for size in SIZES[1:])
        slope = (many - few) / (SIZES[2] - SIZES[1])
        yield Figure(
            IN_PLAYBOOK,
            f"{SIZES[2]} objects, {what}",
            "s",
            many,
            None,
            ("linear", many <= 1.25 * few * SIZES[2] / SIZES[1]),
        )
        yield Figure(IN_PLAYBOOK, "  each further object", "ms", slope * 1000)
        yield Figure(IN_PLAYBOOK, f"  {SIZES[1]} objects", "s", few)
        yield Figure(IN_PLAYBOOK, f"  {SIZES[0]} objects", "s", net(f"{SIZES[0]}{again}"))
