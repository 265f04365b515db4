# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user declares of a deployment, the same for every target."""

from __future__ import annotations

import dataclasses
import ipaddress
import math
import re
import typing as t

from .._core.content import parse_digest
from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.runner import Outcome
from .._core.values import text, texts, variables
from .._endpoint.credentials import Credentials, credentials_of

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)i?b?", re.IGNORECASE)
#: Where a replica finds its certificate, named as in a Secret of type kubernetes.io/tls.
TLS_FOLDER = "/run/modelship/tls"
#: What the path of a URL may hold so that it can stand in a proxy's configuration as it is.
_PATH = re.compile(r"/[A-Za-z0-9!$%&()*+,./:;<=>?@\[\]^_`{|}~-]*")
_GRPC_PORT = "MODELSHIP_GRPC_PORT"
#: 2^31 - 1 milliseconds.
_MOST_SECONDS = 2_147_483
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclasses.dataclass(frozen=True)
class Limits:
    """Upper bounds of one container: ``memory`` in bytes, ``cpus`` in cores, ``pids``.

    ``None`` is the target's default, which may be no bound; 0 is no bound.
    """

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None


@dataclasses.dataclass(frozen=True)
class Health:
    """How a replica tells that it is ready: a 2xx answer on ``path``; times in seconds."""

    path: str = "/v2/health/ready"
    interval: float = 0.2
    start_deadline: float = 60.0
    timeout: float = 2.0


@dataclasses.dataclass(frozen=True)
class Verification:
    """Golden answers that a new replica must give before it gets traffic: a release folder, the protocol, credentials."""

    release: str
    protocol: str = "v2"
    credentials: Credentials = dataclasses.field(default_factory=Credentials)


@dataclasses.dataclass(frozen=True)
class Https:
    """Certificate and key (``tls.crt``, ``tls.key``) of the replicas, which take them anew when they change.

    :param secret: the Kubernetes Secret that has them.
    :param folder: the folder of the Engine's host that has them.
    :param client_ca: whether clients must show a certificate that ``ca.crt`` beside them has signed.
    """

    secret: str | None = None
    folder: str | None = None
    client_ca: bool = False

    @property
    def environment(self) -> dict[str, str]:
        """What tells the serving runtime where they are (docs/formats.md)."""
        files = {"CERT": "tls.crt", "KEY": "tls.key", **({"CLIENT_CA": "ca.crt"} if self.client_ca else {})}
        return {f"MODELSHIP_TLS_{name}": f"{TLS_FOLDER}/{file}" for name, file in files.items()}


@dataclasses.dataclass(frozen=True)
class Declaration:
    """One deployment as declared; see the module C(deployment) for the options' meanings."""

    name: str
    image: str
    replicas: int = 1
    workers: int = 1
    host_ip: str = "127.0.0.1"
    port: int = 5000
    container_port: int = 8080
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    limits: Limits = Limits()
    health: Health = Health()
    read_only: bool = True
    user: str | None = None
    cap_drop: tuple[str, ...] = ("ALL",)
    no_new_privileges: bool = True
    tmpfs: tuple[str, ...] = ("/tmp",)  # noqa: S108 - a path inside the container
    volumes: tuple[str, ...] = ()
    restart_policy: str = "unless-stopped"
    drain_seconds: int = 10
    labels: dict[str, str] = dataclasses.field(default_factory=dict)
    verification: Verification | None = None
    https: Https | None = None

    @property
    def digest(self) -> str:
        """The image's digest, ``sha256:…``."""
        return self.image.rpartition("@")[2]

    @property
    def container_environment(self) -> dict[str, str]:
        """The replica's environment: what the serving runtime reads (docs/formats.md), then the user's own, who wins."""
        return {
            "MODELSHIP_PORT": str(self.container_port),
            "MODELSHIP_WORKERS": str(self.workers),
            "MODELSHIP_DRAIN_SECONDS": str(self.drain_seconds),
            **(self.https.environment if self.https else {}),
            **self.environment,
        }

    @property
    def scheme(self) -> str:
        """How replicas are asked: C(https) where the serving runtime has a certificate, declared here or by hand."""
        return "https" if self.container_environment.get("MODELSHIP_TLS_CERT") else "http"

    @property
    def grpc_port(self) -> int | None:
        """The port on which replicas answer gRPC too, where the environment turns that on."""
        given = self.container_environment.get(_GRPC_PORT, "")
        return int(given) or None if _is_number(given) else None

    def replica_url(self, address: str) -> str:
        """Return the base URL of the replica at *address* itself."""
        return f"{self.scheme}://{address}:{self.container_port}"

    @property
    def address(self) -> str:
        """Host under which this machine itself reaches the published port."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host_ip, self.host_ip)  # noqa: S104
        return f"[{host}]" if ":" in host else host

    @property
    def url(self) -> str:
        """The deployment's base URL, as seen from its host."""
        return f"{self.scheme}://{self.address}:{self.port}"

    @property
    def grpc_address(self) -> str | None:
        """Host and port of gRPC as seen from this host, for target docker; ``None`` where it is not turned on."""
        return f"{self.address}:{self.grpc_port}" if self.grpc_port else None

    @property
    def published(self) -> list[int]:
        """The ports of the host, for target docker: HTTP, and gRPC where it is turned on."""
        return [self.port, *([self.grpc_port] if self.grpc_port else [])]


def declare(parameters: t.Mapping[str, t.Any], *, image_known: bool = True) -> Declaration:
    """Make a declaration of a module's parameters (defaults filled in by the argument spec).

    Values are in the form in which targets return them, so that what is declared can be compared with what is live.

    :param image_known: without it the image may be missing, and is empty then.
    :raises ModelshipError: a value cannot be right; the message names it.
    """
    name = check_name(parameters["name"])
    image = parameters.get("image") or ""
    values: dict[str, t.Any] = {
        "name": name,
        "image": image_by_digest(image, "image") if image or image_known else "",
    }
    for key in ("replicas", "workers", "port", "container_port", "drain_seconds"):
        values[key] = _number(key, parameters[key], 0 if key == "drain_seconds" else 1)
    check_seconds("drain_seconds", values["drain_seconds"])
    for key in ("port", "container_port"):
        if values[key] > 65535:
            raise ModelshipError(f"{key} {values[key]} is no port: it must be 1 to 65535")
    for key in ("read_only", "no_new_privileges", "restart_policy"):
        values[key] = parameters[key]
    values["host_ip"] = _host_ip(parameters["host_ip"])
    values["user"] = text(parameters["user"], "user") if parameters["user"] else None
    values["cap_drop"] = tuple(dict.fromkeys(map(capability, parameters["cap_drop"] or ())))
    values["tmpfs"] = _tmpfs(parameters["tmpfs"] or ())
    values["volumes"] = tuple(dict.fromkeys(text(item, "volumes") for item in parameters["volumes"] or ()))
    values["environment"] = variables(parameters["environment"], "environment")
    values["labels"] = _labels(parameters["labels"])
    values["limits"] = limits_of(parameters.get("limits"), "limits")
    values["health"] = health_of(parameters) or Health()
    values["verification"] = verification_of(parameters)
    values["https"] = https_of(parameters)
    declaration = Declaration(**values)
    _check_grpc(declaration, on_docker=parameters["target"] == "docker")
    if declaration.scheme == "https" and parameters.get("proxy"):
        raise ModelshipError(
            "https cannot be used with proxy, which speaks plain HTTP to the containers and to clients: leave one of them out"
        )
    return declaration


def health_of(parameters: t.Mapping[str, t.Any]) -> Health | None:
    """Return the option C(health); ``None`` where it is not given.

    :raises ModelshipError: its path is none, or a time is negative or not finite.
    """
    if parameters.get("health") is None:
        return None
    health = Health(**{key: value for key, value in parameters["health"].items() if value is not None})
    if not health.path.startswith("/"):
        raise ModelshipError(f"health.path '{health.path}' must begin with /")
    if not _PATH.fullmatch(health.path):
        raise ModelshipError(
            f"health.path {health.path!r} has a character that no path of a URL has: write it percent-encoded"
        )
    for option in ("interval", "start_deadline", "timeout"):
        value = getattr(health, option)
        if not math.isfinite(value) or value < 0 or (option == "timeout" and value == 0):
            least = "more than 0" if option == "timeout" else "0 or more"
            raise ModelshipError(f"health.{option} {value:g} is refused: it must be {least} seconds")
        check_seconds(f"health.{option}", value)
    return health


def limits_of(given: t.Mapping[str, t.Any] | None, option: str) -> Limits:
    """Return limits; what is not given stays ``None``.

    :param option: its name, for the error.
    :raises ModelshipError: one is negative, not a number, or not a size.
    """
    given = given or {}
    memory, cpus, pids = (given.get(name) for name in ("memory", "cpus", "pids"))
    if cpus is not None:
        if not math.isfinite(cpus) or cpus < 0:
            raise ModelshipError(f"{option}.cpus {cpus:g} is refused: it must be a number of cores, or 0 for no limit")
        cpus = round(cpus * 1e9) / 1e9 or cpus  # a Docker Engine counts in billionths
    if pids is not None and pids < 0:
        raise ModelshipError(f"{option}.pids {pids} is refused: it must be at least 1, or 0 for no limit")
    return Limits(memory=None if memory is None else parse_size(memory, f"{option}.memory"), cpus=cpus, pids=pids)


def capability(name: str) -> str:
    """Return the name of a capability as a Docker Engine writes it: upper case, without C(CAP_)."""
    return name.upper().removeprefix("CAP_")


def _is_number(given: str) -> bool:
    return given.isascii() and given.isdecimal()


def _host_ip(given: str) -> str:
    if given == "localhost":
        return "127.0.0.1"
    try:
        address = ipaddress.ip_address(given.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ModelshipError(
            f"host_ip '{given}' is not an IP address: give one of this host, 127.0.0.1 for itself alone, 0.0.0.0 for all"
        ) from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id:
            raise ModelshipError(
                f"host_ip '{given}' has a zone, which is not supported: give an address that needs none"
            )
        address = address.ipv4_mapped or address
    if address.is_multicast or str(address) == "255.255.255.255":
        raise ModelshipError(f"host_ip {address} is not the address of one host: give one of this host, or 127.0.0.1")
    return str(address)


def _labels(given: t.Mapping[str, t.Any]) -> dict[str, str]:
    found = texts(given, "labels")
    for name in found:
        if name.startswith("io.modelship."):
            raise ModelshipError(f"label {name} is reserved: labels must not begin with io.modelship.")
        if not name or "=" in name:
            raise ModelshipError(f"labels: '{name}' cannot be the name of a label: it must not be empty nor have a '='")
    return found


def _tmpfs(given: t.Iterable[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    for item in given:
        path, _colon, options = text(item, "tmpfs").partition(":")
        path = path.rstrip("/")
        if not path.startswith("/"):
            raise ModelshipError(f"tmpfs '{item}' must begin with the absolute path of a directory in the container")
        if path in found:
            raise ModelshipError(f"'{path}' is mounted twice: name it once in tmpfs")
        found[path] = f"{path}:{options}" if options else path
    return tuple(found.values())


def _check_grpc(declaration: Declaration, *, on_docker: bool) -> None:
    given = declaration.environment.get(_GRPC_PORT, "")
    port = declaration.grpc_port
    option = f"environment.{_GRPC_PORT}"
    if (given and not _is_number(given)) or (port or 0) > 65535:
        raise ModelshipError(f"{option} '{given}' is not a port: it must be 1 to 65535, or 0 for none")
    if port == declaration.container_port:
        raise ModelshipError(f"{option} and container_port are both {port}: HTTP and gRPC need a port each")
    if on_docker and port == declaration.port:
        raise ModelshipError(
            f"{option} and port are both {port}, and both are published on the host: HTTP and gRPC need a port each"
        )


def verification_of(parameters: t.Mapping[str, t.Any]) -> Verification | None:
    """Return the option C(verify); ``None`` where it is not given.

    :raises ModelshipError: its credentials exclude each other.
    """
    verify = parameters.get("verify")
    if not verify:
        return None
    return Verification(verify["release"], verify.get("protocol") or "v2", credentials_of(verify))


def https_of(parameters: t.Mapping[str, t.Any]) -> Https | None:
    """Return the option C(https); ``None`` where it is not given.

    :raises ModelshipError: it lacks what the target needs, or has what only the other one knows.
    """
    if not parameters.get("https"):
        return None
    https = Https(**{name: value for name, value in parameters["https"].items() if value is not None})
    on_docker = parameters["target"] == "docker"
    wanted, other = ("folder", "secret") if on_docker else ("secret", "folder")
    if getattr(https, other):
        raise ModelshipError(f"https.{other} is not for target {parameters['target']}: give https.{wanted}")
    if not getattr(https, wanted):
        raise ModelshipError(f"https.{wanted} is missing: target {parameters['target']} has the certificate from there")
    if https.folder and not https.folder.startswith("/"):
        raise ModelshipError(f"https.folder '{https.folder}' must be an absolute path on the Engine's host")
    if https.client_ca and not on_docker and parameters.get("verify"):
        raise ModelshipError(
            "verify cannot be used with https.client_ca on target kubernetes: the API server shows no certificate to a pod; "
            "leave out verify, and use endpoint_verify with client_cert on the Service's own address"
        )
    return https


def unknown_images(parameters: t.Mapping[str, t.Any]) -> list[str]:
    """Return the options that ought to name an image and are empty."""
    proxy = parameters.get("proxy")
    return [
        *([] if parameters.get("image") else ["image"]),
        *(["proxy.image"] if proxy is not None and not proxy.get("image") else []),
    ]


def not_known_yet(
    parameters: t.Mapping[str, t.Any], declaration: Declaration, unknown: list[str], unreachable: str | None
) -> Outcome:
    """Return what check mode reports where an image has no digest yet, because the task that builds it did not run.

    :param unreachable: why the target could not be asked; ``None`` where it was, or is not asked.
    """
    name, target = declaration.name, parameters["target"]
    url: str | None = None
    own: dict[str, t.Any]
    if target == "docker":
        url = declaration.url
        own = {"proxy": None, "strategy": None, "grpc": declaration.grpc_address, "unreachable": unreachable}
    else:
        own = {"namespace": parameters.get("namespace"), "revision": None, "service": None, "objects": []}
    known = {"name": name, "target": target, "state": "present", "image": declaration.image or None}
    rest: dict[str, t.Any] = {"digest": None, "release": None, "url": url, "replicas": [], "previous": None}
    why = f"{' and '.join(unknown)} cannot be known before the image is built and pushed"
    where = f" at {url}" if url else ""
    difference = Difference(f"deployment {name}")
    difference.add("image", None, "unknown until built")
    return Outcome(
        changed=True,
        difference=difference,
        result={"deployment": {**known, **rest, **own, "reasons": [why]}},
        message=f"{name} would be deployed{where}: {why}" + (f"; {unreachable}" if unreachable else ""),
    )


def check_name(name: str) -> str:
    """Return *name* if it can name a deployment.

    :raises ModelshipError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise ModelshipError(
            f"name '{name}' is refused: it must be lower-case letters, digits and '-', 1 to 48 characters, "
            "and begin and end with a letter or digit"
        )
    return name


def image_by_digest(image: str | None, option: str) -> str:
    """Return *image* if it is ``repository@sha256:…``.

    :raises ModelshipError: it is named by a tag, or not at all.
    """
    if not image:
        raise ModelshipError(f"{option} is missing: give repository@sha256:…")
    repository, at, digest = image.partition("@")
    if not at or not repository or any(letter.isspace() for letter in repository):
        raise ModelshipError(
            f"{option} '{image}' is not named by its digest: a tag can move, so only repository@sha256:… is deployed. "
            "image_push returns it; of an image already pulled, "
            f"docker image inspect --format '{{{{index .RepoDigests 0}}}}' {image} prints it"
        )
    parse_digest(digest)
    return image


def parse_size(given: str | int, option: str) -> int:
    """Return the bytes of ``512m``, ``2GiB`` or a number.

    :raises ModelshipError: *given* is no size.
    """
    match = _SIZE.fullmatch(str(given).strip())
    if not match:
        raise ModelshipError(f"{option} '{given}' is no size: write 512m or 2g")
    exact = float(match[1]) * _UNITS[match[2].lower()]
    if 0 < exact < 1 or exact >= 1 << 63:
        raise ModelshipError(f"{option} '{given}' is refused: it must be at least one byte, and less than 8 EiB")
    return int(exact)


def check_seconds(option: str, value: float) -> None:
    """Make sure that a time can be counted in milliseconds, as HAProxy and the system's timers do.

    :raises ModelshipError: it is longer.
    """
    if value > _MOST_SECONDS:
        raise ModelshipError(f"{option} {value:.15g} is refused: it must be at most {_MOST_SECONDS} seconds (24 days)")


def _number(name: str, value: int, least: int) -> int:
    if value < least:
        raise ModelshipError(f"{name} {value} is refused: it must be at least {least}")
    return value
