# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ``config`` object of an image: what the base says, what a serving image needs, and what the user says, in that order."""

from __future__ import annotations

import re
import typing as t

from .._core.errors import ModelshipError
from .._core.values import texts, variables

APP = "opt/modelship/app"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USER = "65532:65532"
#: Label with the Debian packages of a bootstrapped base, as ``libc6=2.41-12 zlib1g=…``.
PACKAGES = "io.modelship.packages"


def image_settings(
    base: t.Mapping[str, t.Any],
    given: t.Mapping[str, t.Any],
    *,
    name: str,
    python: str | None,
    serves: bool,
    libraries: bool,
    release_digest: str,
    release_name: str,
    packages: t.Mapping[str, str] | None = None,
) -> dict[str, t.Any]:
    """Return the ``config`` object (OCI image specification 1.1, ``config.md``).

    :param base: the base image's.
    :param given: the option ``config``.
    :param python: the interpreter of the default entrypoint.
    :param serves: the image has a serving runtime.
    :param libraries: the image has Python dependencies or a runtime.
    :param packages: the Debian packages of its base, with their versions.
    """
    environment = dict(item.partition("=")[::2] for item in base.get("Env") or [])
    environment.setdefault("PATH", _PATH)
    if libraries:
        # Nothing can be written beside the sources: the root file system is read-only.
        environment.update({"PYTHONPATH": "/opt/modelship/app:/opt/modelship/lib", "PYTHONDONTWRITEBYTECODE": "1"})
    environment.update(variables(given.get("env"), "config.env"))
    settings: dict[str, t.Any] = {"User": given.get("user") or USER}
    settings["Env"] = [f"{key}={value}" for key, value in sorted(environment.items())]
    entrypoint = given.get("entrypoint")
    if entrypoint is None and serves:
        entrypoint = [python or "/usr/bin/python3", "-m", "modelship_serving"]
    if entrypoint is not None or given.get("cmd") is not None:
        # A new entrypoint does not go with the base's command.
        settings["Entrypoint"] = list(entrypoint if entrypoint is not None else base.get("Entrypoint") or [])
        settings["Cmd"] = list(given.get("cmd") or [])
    else:
        settings["Entrypoint"] = list(base.get("Entrypoint") or [])
        settings["Cmd"] = list(base.get("Cmd") or [])
    settings["WorkingDir"] = given.get("working_dir") or base.get("WorkingDir") or "/"
    settings["StopSignal"] = given.get("stop_signal") or base.get("StopSignal") or ""
    ports = given.get("exposed_ports")
    if ports is None:
        ports = ["8080/tcp"] if serves else sorted(base.get("ExposedPorts") or {})
    settings["ExposedPorts"] = {_port(str(port)): {} for port in ports}
    labels = dict(base.get("Labels") or {})
    labels.update({"org.opencontainers.image.title": name, "io.modelship.name": release_name or name})
    labels.pop("io.modelship.release", None)
    if release_digest:
        labels["io.modelship.release"] = release_digest
    if packages:
        labels[PACKAGES] = " ".join(f"{package}={version}" for package, version in sorted(packages.items()))
    labels.update(texts(given.get("labels"), "config.labels"))
    settings["Labels"] = labels
    return {key: value for key, value in settings.items() if value}


def _port(text: str) -> str:
    match = re.fullmatch(r"(\d{1,5})(?:/(tcp|udp|sctp))?", text)
    if not match or not 0 < int(match.group(1)) < 65536:
        raise ModelshipError(f"config.exposed_ports: '{text}' must be PORT or PORT/tcp, PORT from 1 to 65535")
    return text if match.group(2) else f"{text}/tcp"
