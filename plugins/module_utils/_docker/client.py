# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine through its SDK, with errors that say what to do. Values are the Engine API's own."""

from __future__ import annotations

import contextlib
import os
import sys
import typing as t

from .._core.errors import ModelshipError
from .._core.progress import Progress
from .._deployment.declaration import check_seconds
from .._deployment.image_pull import pull_advice

#: Where an Engine is told about registries.
_PULL = {
    "insecure": 'with {"insecure-registries": ["{host}"]} in the Engine\'s daemon.json (docker_config of the role docker)',
    "trust": "put the authority's certificate into /etc/docker/certs.d/{host}/ca.crt",
    "credentials": "registry_username and registry_password",
}

Info = dict[str, t.Any]


class NotFoundError(ModelshipError):
    """The thing asked for does not exist in the Engine."""


class Docker:
    """A connection to one Docker Engine.

    :param parameters: the options of the doc fragment C(modelship.core.docker).
    :raises ModelshipError: the SDK is missing, or the Engine cannot be reached.
    """

    def __init__(self, parameters: t.Mapping[str, t.Any]) -> None:
        try:
            import docker  # here, because it takes 0.1 s that only a run which needs it should pay
            import docker.errors
            import docker.utils
            import requests.exceptions
        except ImportError as exc:
            raise ModelshipError(
                f"the Docker SDK for Python cannot be imported by {sys.executable} ({exc}): install it there "
                "(pip install docker, or Debian's python3-docker), or set ansible_python_interpreter to one that has it",
                kind="environment",
            ) from exc
        self._sdk = docker
        self._errors: tuple[type[Exception], ...] = (
            docker.errors.DockerException,
            requests.exceptions.RequestException,
        )
        self.host = parameters.get("docker_host") or os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        self._auth = None
        if parameters.get("registry_username"):
            self._auth = {
                "username": parameters["registry_username"],
                "password": parameters.get("registry_password") or "",
            }
        try:
            docker.utils.parse_host(self.host)
        except (docker.errors.DockerException, ValueError) as exc:
            raise ModelshipError(
                f"docker_host '{self.host}' is not the address of a Docker Engine ({_line(exc)}): write "
                "unix:///var/run/docker.sock or tcp://HOST:PORT"
            ) from exc
        timeout = 60 if parameters.get("timeout") is None else parameters["timeout"]
        if timeout < 1:
            raise ModelshipError(f"timeout {timeout} is refused: it must be at least 1 second")
        check_seconds("timeout", timeout)
        with self._explained("connect"):
            self.api: t.Any = docker.APIClient(
                base_url=self.host,
                version="auto",
                timeout=timeout,
                tls=self._tls(parameters),
            )

    def _tls(self, parameters: t.Mapping[str, t.Any]) -> t.Any:
        folder = os.environ.get("DOCKER_CERT_PATH") if os.environ.get("DOCKER_TLS_VERIFY") else None
        verify = parameters.get("validate_certs")
        if verify is None:
            verify = bool(os.environ.get("DOCKER_TLS_VERIFY"))

        def file(option: str, default: str) -> str | None:
            return parameters.get(option) or (os.path.join(folder, default) if folder else None)

        authority, cert, key = file("ca_path", "ca.pem"), file("client_cert", "cert.pem"), file("client_key", "key.pem")
        if not (verify or authority or cert or key or parameters.get("tls")):
            return False
        if bool(cert) != bool(key):
            given, missing = ("client_cert", "client_key") if cert else ("client_key", "client_cert")
            raise ModelshipError(f"{given} needs {missing}: a Docker Engine's client has a certificate and its key")
        for option, path in (("ca_path", authority), ("client_cert", cert), ("client_key", key)):
            if path:
                _check_readable(option, path)
        from .tls import tls_config

        return tls_config((cert, key) if cert and key else None, authority, bool(verify))

    @contextlib.contextmanager
    def _explained(self, doing: str) -> t.Iterator[None]:
        try:
            yield
        except self._sdk.errors.NotFound as exc:
            raise NotFoundError(f"Docker cannot {doing}: {_line(exc)}", kind="docker") from exc
        except self._errors as exc:
            if isinstance(exc, self._sdk.errors.APIError):  # the Engine's own response, whatever words it has
                raise ModelshipError(f"Docker cannot {doing}: {_line(exc)}", kind="docker") from exc
            text = str(exc)
            if "Permission denied" in text or "PermissionError" in text:
                raise ModelshipError(
                    f"permission denied on {self.host}: run as root (become: true) or as a member of the group docker",
                    kind="permission",
                ) from exc
            if doing == "connect" or "Connection refused" in text or "FileNotFoundError" in text:
                raise ModelshipError(
                    f"no Docker Engine answers at {self.host} ({_line(exc)}): start it, or set docker_host",
                    kind="unreachable",
                ) from exc
            raise ModelshipError(f"Docker cannot {doing}: {_line(exc)}", kind="docker") from exc

    def info(self) -> Info:
        """What the Engine and its host can do."""
        with self._explained("describe itself"):
            return t.cast(Info, self.api.info())

    def containers(self) -> list[Info]:
        """All containers, the stopped ones too (short form)."""
        with self._explained("list containers"):
            return list(self.api.containers(all=True))

    def container(self, ident: str) -> Info:
        """One container (long form).

        :raises NotFoundError: there is none.
        """
        with self._explained(f"inspect container {ident}"):
            return t.cast(Info, self.api.inspect_container(ident))

    def image(self, reference: str) -> Info | None:
        """The image *reference* where it is present already, else ``None``."""
        try:
            with self._explained(f"inspect image {reference}"):
                return t.cast(Info, self.api.inspect_image(reference))
        except NotFoundError:
            return None

    def pull(self, reference: str, progress: Progress) -> Info:
        """Make sure the image is present; ask the registry only if it is not.

        :raises ModelshipError: the registry is down, refuses, or has no such image.
        """
        present = self.image(reference)
        if present is not None:
            return present
        progress.step(f"pulling {reference}")
        why = None
        try:
            with self._explained(f"pull {reference}"):
                for event in self.api.pull(reference, stream=True, decode=True, auth_config=self._auth):
                    why = event.get("error", why)
                    if event.get("progress"):
                        progress.live(f"{event.get('status', '')} {event['progress']}", at_most_every=0.2)
        except ModelshipError as exc:
            why = exc.message
        found = None if why else self.image(reference)
        if found is None:
            why = why or "the registry gave another image"
            raise ModelshipError(
                f"image {reference} cannot be pulled ({why}): {pull_advice(reference, why, **_PULL)}", kind="registry"
            )
        return found

    def create(self, name: str, config: Info) -> str:
        """Create a container from an Engine API configuration; return its id.

        :raises ModelshipError: the Engine refuses it, or another run has just made one of that name.
        """
        with self._explained(f"create container {name}"):
            try:
                return str(self.api.create_container_from_config(config, name)["Id"])
            except self._sdk.errors.APIError as exc:
                if exc.status_code == 409:
                    raise ModelshipError(
                        f"container {name} exists already: another run is working on this deployment; run again",
                        kind="locked",
                    ) from exc
                raise

    def start(self, ident: str) -> None:
        """Start a container that exists."""
        with self._explained(f"start container {ident[:12]}"):
            self.api.start(ident)

    def rename(self, ident: str, name: str) -> None:
        """Give a container another name."""
        with self._explained(f"rename container {ident[:12]}"):
            self.api.rename(ident, name)

    def signal(self, ident: str, name: str) -> None:
        """Send a signal to a container's first process."""
        with self._explained(f"signal container {ident[:12]}"):
            self.api.kill(ident, signal=name)

    def stop(self, ident: str, seconds: int) -> None:
        """Stop a container, by force after *seconds*; nothing happens to one that is gone."""
        with contextlib.suppress(NotFoundError), self._explained(f"stop container {ident[:12]}"):
            # A paused process cannot take its signal: the Engine would wait in vain and then refuse.
            if self.api.inspect_container(ident)["State"]["Paused"]:
                self.api.unpause(ident)
            self.api.stop(ident, timeout=seconds)

    def remove(self, ident: str) -> None:
        """Remove a container by force with its anonymous volumes; nothing happens to one that is gone."""
        with contextlib.suppress(NotFoundError), self._explained(f"remove container {ident[:12]}"):
            self.api.remove_container(ident, force=True, v=True)

    def logs(self, ident: str, lines: int = 20) -> str:
        """The last lines that a container wrote.

        :raises ModelshipError: they cannot be read, for example because its logging driver keeps nothing.
        """
        with self._explained(f"read the log of {ident[:12]}"):
            raw = self.api.logs(ident, stdout=True, stderr=True, tail=lines)
        return t.cast(bytes, raw).decode("utf-8", "replace").strip()

    def children(self, ident: str, first: int) -> int | None:
        """How many processes are children of a container's *first* process; ``None`` where it cannot be known."""
        try:
            with self._explained(f"list the processes of {ident[:12]}"):
                table = self.api.top(ident)
        except ModelshipError:
            return None
        parent = table["Titles"].index("PPID")
        return sum(bool(row[parent] == str(first)) for row in table["Processes"])

    def read(self, ident: str, path: str) -> bytes | None:
        """A file's archive (tar) in a container, or ``None`` where there is no such file."""
        try:
            with self._explained(f"read {path} of {ident[:12]}"):
                return b"".join(self.api.get_archive(ident, path)[0])
        except NotFoundError:
            return None

    def write(self, ident: str, folder: str, archive: bytes) -> None:
        """Unpack a tar archive into a folder of a container."""
        with self._explained(f"write into {folder} of {ident[:12]}"):
            self.api.put_archive(ident, folder, archive)

    def network(self, name: str) -> Info | None:
        """The network *name*, or ``None``."""
        try:
            with self._explained(f"inspect network {name}"):
                return t.cast(Info, self.api.inspect_network(name))
        except NotFoundError:
            return None

    def create_network(self, name: str, labels: dict[str, str]) -> Info:
        """Create a bridge network with a subnet of its own, so that its containers can have fixed addresses.

        The Engine takes fixed addresses only in a subnet that was asked for, and only the Engine knows which are
        free: so it is let choose one, which is then asked for.
        """
        if (self.network(probe_name(name)) or {}).get("Labels") == labels:  # of a run killed right here
            self.remove_network(probe_name(name))
        with self._explained(f"create network {name}"), _pools_explained():
            probe = self.api.create_network(probe_name(name), driver="bridge", labels=labels, check_duplicate=True)[
                "Id"
            ]
            pool = self.api.inspect_network(probe)["IPAM"]["Config"][0]
            self.api.remove_network(probe)
            wanted = {key: value for key, value in pool.items() if key in ("Subnet", "Gateway")}
            ipam = {"Driver": "default", "Config": [wanted]}
            self.api.create_network(name, driver="bridge", labels=labels, ipam=ipam, check_duplicate=True)
        found = self.network(name)
        if found is None:
            raise ModelshipError(f"network {name} vanished while it was being made: run again", kind="docker")
        return found

    def remove_network(self, name: str) -> None:
        """Remove a network; nothing happens to one that is gone."""
        with contextlib.suppress(NotFoundError), self._explained(f"remove network {name}"):
            self.api.remove_network(name)

    def volume(self, name: str) -> Info | None:
        """The volume *name*, or ``None``."""
        try:
            with self._explained(f"inspect volume {name}"):
                return t.cast(Info, self.api.inspect_volume(name))
        except NotFoundError:
            return None

    def create_volume(self, name: str, labels: dict[str, str]) -> None:
        """Create a volume; nothing happens to one that exists."""
        with self._explained(f"create volume {name}"):
            self.api.create_volume(name, labels=labels)

    def remove_volume(self, name: str) -> None:
        """Remove a volume; nothing happens to one that is gone."""
        with contextlib.suppress(NotFoundError), self._explained(f"remove volume {name}"):
            self.api.remove_volume(name)


def _check_readable(option: str, path: str) -> None:
    """Make sure that a file can be read, because the SDK's errors would look as if no Engine answered.

    :raises ModelshipError: it cannot, or is missing.
    """
    try:
        with open(path, "rb"):
            pass
    except PermissionError as exc:
        raise ModelshipError(
            f"permission denied on {option} {path}: run as root (become: true) or as a user that may read it",
            kind="permission",
        ) from exc
    except OSError as exc:
        raise ModelshipError(f"{option} {path} cannot be read: {exc.strerror or exc}") from exc


@contextlib.contextmanager
def _pools_explained() -> t.Iterator[None]:
    """Say what to do where an Engine has no subnet left for another network."""
    try:
        yield
    except Exception as exc:
        if "address pool" in (text := _line(exc)):
            raise ModelshipError(
                f"the Docker Engine has no subnet left for another network ({text}): remove networks that nothing uses "
                "(docker network prune), or add to default-address-pools in the Engine's daemon.json",
                kind="docker",
            ) from exc
        raise


def probe_name(network: str) -> str:
    """Return the name of the network that is created to find a subnet for *network*; no deployment can have it."""
    return f"{network}.probe"


def _line(exc: Exception) -> str:
    text = str(getattr(exc, "explanation", None) or exc)
    return " ".join(text.split())[:400]
