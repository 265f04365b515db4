"""``python -m tests.cluster build|up|down|status``: the test cluster on this machine.

``build`` only fills the cache: programs, images, the nodes' operating system. ``up`` does that too where it is needed.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import sys

from . import settings
from .cluster import Cluster
from .cluster import down as remove_cluster
from .engine import ClusterError, say


def main() -> int:
    """Do what the command line says; 1 where that fails or, for ``status``, where there is no usable cluster."""
    # So that a SIGTERM ends what runs as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = sys.argv[1:]
    if len(wanted) != 1 or wanted[0] not in COMMANDS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return COMMANDS[wanted[0]]()
    except ClusterError as exc:
        say(f"ERROR: {exc}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next `up` goes on, `down` removes what is there")
        return 130


def build() -> int:
    """Fill the cache, unless the user has a cluster."""
    if not _is_given():
        Cluster().build()
    return 0


def up() -> int:
    """Bring the cluster up, unless the user has one."""
    if not _is_given():
        Cluster().up()
    return 0


def _is_given() -> bool:
    given = settings.users_kubeconfig()
    if given:
        say(f"KUBECONFIG is set: using the cluster of {given}, building nothing")
    return bool(given)


def down() -> int:
    """Remove the cluster."""
    say("removed" if remove_cluster() else "there is none")
    return 0


def status() -> int:
    """Show how to use the cluster, and what is wrong with it."""
    cluster = Cluster()
    found = cluster.problems()
    for problem in found:
        say(problem)
    if not found:
        print(json.dumps(dataclasses.asdict(cluster.facts()), indent=2))
    return bool(found)


COMMANDS = {"build": build, "up": up, "down": down, "status": status}

if __name__ == "__main__":
    sys.exit(main())
