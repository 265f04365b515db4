"""What a run of ansible-playbook costs: the whole line when nothing changed, and building and pushing in a playbook."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from pathlib import Path

from ansible_collections.modelship.core.plugins.module_utils._oci.layout import Layout

from .figures import Figure
from .stand import BIN, KEPT, ROOT, BenchError, Clock, Stand, command, free_port

SECTION = "Whole line: provision, train, compress, evaluate, build, push, deploy, verify"
CONTESTANT = "none"
NAME = "ms-bench"
#: A model that is trained in seconds: what is measured does not depend on how good it is.
PARAMETERS = {"epochs": 2}
GATES = {"accuracy": 0.3, "accuracy_drop": 0.5, "latency_p99_ms": 5000}
NO_CHANGE_RUNS = 2

EMPTY = [{"hosts": "all", "gather_facts": False, "tasks": []}]


@dataclasses.dataclass(frozen=True)
class Line:
    """What the line has made, the served release, and what it took."""

    release: Path
    figures: list[Figure]


def playbook(path: Path | str, variables: dict[str, object], *options: str) -> str:
    """Run a playbook on this machine and return its output.

    :raises BenchError: it fails.
    """
    environment = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build"),
        "ANSIBLE_NOCOLOR": "1",
        "MODELSHIP_PROGRESS": "steps",
    }
    inventory = ROOT / "inventories" / "local"
    words = [BIN / "ansible-playbook", path, "-i", inventory, "-e", json.dumps(variables), *options]
    return command(*words, env=environment)


def written(stand: Stand, name: str, plays: list[dict[str, object]]) -> Path:
    """Return the path of a playbook with these *plays*."""
    path = stand.folder / f"{name}.yml"
    path.write_text(json.dumps(plays))  # JSON is YAML
    return path


def changed(output: str) -> int:
    """Return how many tasks changed something, by the recap."""
    found = re.search(r"changed=(\d+)", output.rsplit("PLAY RECAP", 1)[-1])
    if not found:
        raise BenchError(f"ansible-playbook printed no recap: {output[-300:]}")
    return int(found[1])


def measure(stand: Stand, trainer: str) -> Line:
    """Run the whole line (its first run trains; later benches find that release), then again when nothing changed.

    :raises BenchError: it fails, or the second run changes something.
    """
    registry, home = free_port(), KEPT / "line"
    stand.claim(registry)
    variables: dict[str, object] = {
        "modelship_home": str(home),
        "modelship_name": NAME,
        "modelship_port": free_port(),
        "modelship_registry": f"127.0.0.1:{registry}",
        "registry_port": registry,
        "monitoring_port": free_port(),
        "modelship_trainer_python": trainer,
        "modelship_parameters": PARAMETERS,
        "modelship_gates": GATES,
    }
    options = []
    venv = Path(trainer).parents[1]
    if venv.name == "venv":
        variables["trainer_home"] = str(venv.parent)
    else:
        # An interpreter that the role did not make is none for the role to look at.
        options = ["--skip-tags", "trainer"]
    books = ROOT / "playbooks"
    gone = {**variables, "modelship_deployments": [NAME]}
    # What the next bench uses again stays, and what this one did not start.
    stand.at_end(lambda: playbook(books / "destroy.yml", gone, "--skip-tags", "trainer,docker,home"))
    stand.say("line: first run of site.yml")
    playbook(books / "site.yml", variables, *options)
    empty = written(stand, "empty", EMPTY)
    clock = Clock()
    for number in range(NO_CHANGE_RUNS):
        stand.say(f"line: nothing changed, run {number + 1} of {NO_CHANGE_RUNS}")
        with clock("empty"):
            playbook(empty, variables)
        with clock("site"):
            output = playbook(books / "site.yml", variables, *options)
        if changed(output):
            raise BenchError(f"a second run of site.yml changed something:\n{output[-3000:]}")
    whole = clock.best("site")
    image = Layout(str(home / "images" / NAME)).stored(NAME)
    if image is None:
        raise BenchError(f"site.yml left no image of {NAME} in {home}")
    digest = str(image.config["config"]["Labels"]["io.modelship.release"])
    release = _release(home, digest)
    figures = [
        Figure(SECTION, "ansible-playbook site.yml, no change", "s", whole, None, ("20 s", whole <= 20)),
        Figure(SECTION, "  net of an empty playbook", "s", whole - clock.best("empty")),
    ]
    return Line(release, figures)


def _release(home: Path, digest: str) -> Path:
    found = list((home / "releases").glob(f"*/{digest.partition(':')[2]}"))
    if not found:
        raise BenchError(f"{home / 'releases'} has no release {digest}")
    return found[0]


def modules_playbook(stand: Stand, build: dict[str, object], push: dict[str, object]) -> Path:
    """Return a playbook that builds the release ``release`` and pushes it with the collection's modules."""
    tasks = [
        {"modelship.core.image_build": {**build, "release": "{{ release }}"}, "register": "built"},
        {"modelship.core.image_push": {**push, "digest": "{{ built.image.digest }}"}},
    ]
    return written(stand, f"modules-{os.getpid()}", [{"hosts": "all", "gather_facts": False, "tasks": tasks}])


def commands_playbook(stand: Stand, *argv: list[str]) -> Path:
    """Return a playbook that runs these command lines, as a playbook without a collection for them would."""
    tasks = [{"ansible.builtin.command": {"argv": words}} for words in argv]
    return written(stand, f"commands-{os.getpid()}", [{"hosts": "all", "gather_facts": False, "tasks": tasks}])
