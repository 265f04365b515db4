# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a user declares of a deployment, the same for every target."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from .._core.content import parse_digest
from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.runner import Outcome
from .._endpoint.credentials import Credentials, credentials_of

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)i?b?", re.IGNORECASE)
#: Where a replica finds its certificate, named as in a Secret of type kubernetes.io/tls.
TLS_FOLDER = "/run/modelship/tls"
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclasses.dataclass(frozen=True)
class Limits:
    """Upper bounds of one replica: ``memory`` in bytes, ``cpus`` in cores, ``pids``; ``None`` is no bound."""

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
        given = self.container_environment.get("MODELSHIP_GRPC_PORT", "")
        return int(given) or None if given.isdigit() else None

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


def declare(parameters: t.Mapping[str, t.Any]) -> Declaration:
    """Make a declaration of a module's parameters (defaults filled in by the argument spec).

    :raises ModelshipError: a value cannot be right; the message names it.
    """
    name = check_name(parameters["name"])
    values: dict[str, t.Any] = {"name": name, "image": image_by_digest(parameters["image"], "image")}
    for key in ("replicas", "workers", "port", "container_port", "drain_seconds"):
        values[key] = _number(key, parameters[key], 0 if key == "drain_seconds" else 1)
    for key in ("port", "container_port"):
        if values[key] > 65535:
            raise ModelshipError(f"{key} {values[key]} is no port: it must be 1 to 65535")
    for key in ("host_ip", "read_only", "user", "no_new_privileges", "restart_policy"):
        values[key] = parameters[key]
    for key in ("cap_drop", "tmpfs", "volumes"):
        values[key] = tuple(parameters[key] or ())
    for key in ("environment", "labels"):
        values[key] = {str(item): _text(value) for item, value in (parameters[key] or {}).items()}
    if reserved := [key for key in values["labels"] if key.startswith("io.modelship.")]:
        raise ModelshipError(f"label {reserved[0]} is reserved: labels must not begin with io.modelship.")
    limits = parameters.get("limits") or {}
    values["limits"] = Limits(
        memory=None if limits.get("memory") is None else parse_size(limits["memory"], "limits.memory"),
        cpus=limits.get("cpus"),
        pids=limits.get("pids"),
    )
    values["health"] = health_of(parameters) or Health()
    values["verification"] = verification_of(parameters)
    values["https"] = https_of(parameters)
    declaration = Declaration(**values)
    if declaration.scheme == "https" and parameters.get("proxy"):
        raise ModelshipError(
            "https cannot be used with proxy, which speaks plain HTTP to the containers and to clients: leave one of them out"
        )
    return declaration


def health_of(parameters: t.Mapping[str, t.Any]) -> Health | None:
    """Return the option C(health); ``None`` where it is not given.

    :raises ModelshipError: its path is none.
    """
    if parameters.get("health") is None:
        return None
    health = Health(**{key: value for key, value in parameters["health"].items() if value is not None})
    if not health.path.startswith("/"):
        raise ModelshipError(f"health.path '{health.path}' must begin with /")
    return health


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


def not_known_yet(parameters: t.Mapping[str, t.Any], unknown: list[str]) -> Outcome:
    """Return what check mode tells where an image has no digest yet, because the task that builds it did not run."""
    name, target = check_name(parameters["name"]), parameters["target"]
    url: str | None = None
    own: dict[str, t.Any]
    if target == "docker":
        url = Declaration(
            name=name, image="", host_ip=parameters["host_ip"], port=parameters["port"], https=https_of(parameters)
        ).url
        own = {"proxy": None, "strategy": None}
    else:
        own = {"namespace": parameters.get("namespace"), "revision": None, "service": None, "objects": []}
    known = {"name": name, "target": target, "state": "present", "image": parameters.get("image") or None}
    rest: dict[str, t.Any] = {"digest": None, "release": None, "url": url, "replicas": [], "previous": None}
    why = f"{' and '.join(unknown)} cannot be known before the image is built and pushed"
    where = f" at {url}" if url else ""
    difference = Difference(f"deployment {name}")
    difference.add("image", None, "unknown until built")
    return Outcome(
        changed=True,
        difference=difference,
        result={"deployment": {**known, **rest, **own, "reasons": [why]}},
        message=f"{name} would be deployed{where}: {why}",
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


def parse_size(text: str | int, option: str) -> int:
    """Return the bytes of ``512m``, ``2GiB`` or a number.

    :raises ModelshipError: *text* is no size.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if not match:
        raise ModelshipError(f"{option} '{text}' is no size: write 512m or 2g")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _number(name: str, value: int, least: int) -> int:
    if value < least:
        raise ModelshipError(f"{name} {value} is refused: it must be at least {least}")
    return value


def _text(value: t.Any) -> str:
    """YAML gives booleans and numbers where people mean text."""
    return str(value).lower() if isinstance(value, bool) else str(value)
