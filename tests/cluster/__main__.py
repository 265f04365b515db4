"""``python -m tests.cluster up|down|status``: the test cluster on this machine."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

from .cluster import Cluster
from .engine import ClusterError, say


def main() -> int:
    """Do what the command line says; 1 where that fails or, for ``status``, where there is no usable cluster."""
    # So that a SIGTERM ends what runs as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    wanted = sys.argv[1:]
    if len(wanted) != 1 or wanted[0] not in ("up", "down", "status"):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return {"up": up, "down": down, "status": status}[wanted[0]]()
    except ClusterError as exc:
        say(f"ERROR: {exc}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; the next `up` goes on, `down` removes what is there")
        return 130


def up() -> int:
    """Bring the cluster up, unless the user has one."""
    given = os.environ.get("KUBECONFIG")
    if given and Path(given).resolve() != own_kubeconfig():
        say(f"KUBECONFIG is set: using the cluster of {given}, building nothing")
        return 0
    Cluster().up()
    return 0


def down() -> int:
    """Remove the cluster."""
    say("removed" if Cluster().down() else "there is none")
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


def own_kubeconfig() -> Path:
    """Where ``up`` writes the kubeconfig."""
    from . import settings

    return (settings.state() / "kubeconfig").resolve()


if __name__ == "__main__":
    sys.exit(main())
