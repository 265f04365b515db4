"""CustomResourceDefinitions that others install, out of pinned Go modules: the Gateway API's and the Prometheus Operator's."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import yaml

from . import settings
from .engine import run

#: Where each kind's definition is: Go module and file.
FILES = {
    "HTTPRoute": ("sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
    "ServiceMonitor": (
        "github.com/prometheus-operator/prometheus-operator",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
}


@functools.cache
def definition(kind: str) -> dict[str, Any]:
    """The definition of *kind*, one of :data:`FILES`. Go keeps the module (a few MB) in its cache and checks its sum.

    :raises ClusterError: Go is not installed, or cannot get the module.
    """
    module, file = FILES[kind]
    environment = {key: value for key, value in os.environ.items() if key != "GOWORK"}
    environment |= {"GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    told = run("go", "mod", "download", "-json", module, env=environment, cwd=settings.HERE / "go" / "definitions")
    found: dict[str, Any] = yaml.load((Path(json.loads(told)["Dir"]) / file).read_text(), yaml.CSafeLoader)
    return found
