# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a service is: the wanted state, and the record of what was started."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pwd
import re
import shutil
import typing as t

from .._core.content import canonical_json, sha256_bytes, sha256_file
from .._core.errors import ModelshipError
from .._core.files import explained, write_atomic
from .._core.values import variables
from .config import Config
from .proc import Identity
from .ready import Ready

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z")
#: The environment of a service has no more than this and what it declares, whoever runs Ansible.
_BASE_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclasses.dataclass(frozen=True)
class Service:
    """A process to keep running. The fields are the module's options; see its documentation."""

    name: str
    folder: str
    command: tuple[str, ...] = ()
    log: str = ""
    user: str | None = None
    chdir: str | None = None
    environment: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    unit: str | None = None
    watch: tuple[str, ...] = ()
    config: Config | None = None
    ready: Ready | None = None
    follow_upgrades: bool = True
    stop_timeout: float = 30.0

    @classmethod
    def parse(cls, options: dict[str, t.Any]) -> Service:
        """Build it from the module's options.

        :raises ModelshipError: a name or an address that cannot be used.
        """
        name = str(options["name"])
        if not _NAME.match(name):
            raise ModelshipError(f"'{name}' is no name of a service: use letters, digits, '.', '_' and '-', at most 63")
        return cls(
            name=name,
            folder=options["folder"],
            command=tuple(str(part) for part in options.get("command") or ()),
            log=options.get("log") or os.path.join(options["folder"], f"{name}.log"),
            user=options.get("user"),
            chdir=options.get("chdir"),
            environment=variables(options.get("environment"), "environment"),
            unit=options.get("unit"),
            watch=tuple(options.get("watch") or ()),
            config=Config.parse(options.get("config")),
            ready=Ready.parse(options.get("ready")),
            follow_upgrades=bool(options.get("follow_upgrades", True)),
            stop_timeout=float(options.get("stop_timeout") or 30.0),
        )

    @property
    def program(self) -> str | None:
        """Absolute path of the program, or ``None`` where it is not installed; sbin is always searched."""
        path = self.environment.get("PATH", _BASE_ENVIRONMENT["PATH"])
        return shutil.which(self.command[0], path=path) if self.command else None

    @property
    def pidfile(self) -> str:
        """File with the number of the running process, for people and other tools."""
        return os.path.join(self.folder, f"{self.name}.pid")

    @property
    def record_path(self) -> str:
        """File with the :class:`Record` of what was started."""
        return os.path.join(self.folder, f"{self.name}.json")

    @property
    def lock_path(self) -> str:
        """File that two runs at once contend for."""
        return os.path.join(self.folder, f"{self.name}.lock")

    def account(self) -> pwd.struct_passwd:
        """Return the user it runs as.

        :raises ModelshipError: there is no such user.
        """
        try:
            return pwd.getpwnam(self.user) if self.user else pwd.getpwuid(os.geteuid())
        except KeyError:
            raise ModelshipError(
                f"there is no user '{self.user or os.geteuid()}' to run {self.name} as: create it or name another"
            ) from None

    def full_environment(self) -> dict[str, str]:
        """Return all variables of the process."""
        return {**_BASE_ENVIRONMENT, "HOME": self.account().pw_dir, **self.environment}

    def parts(self) -> dict[str, str]:
        """Map what decides whether a running process is still the wanted one to its digest, by a name for people."""
        parts = {
            "the command": sha256_bytes(canonical_json(list(self.command))),
            "the environment": sha256_bytes(canonical_json(dict(self.environment))),
            "the user": self.user or "",
            "the working directory": self.chdir or "",
        }
        if self.config:
            parts.update(self.config.digests())
        for path in self.watch:
            with explained(path), contextlib.suppress(FileNotFoundError):
                parts[path] = sha256_file(path)
        return parts

    def as_record(self) -> dict[str, t.Any]:
        """Return what is needed to start it again as it is now."""
        return {
            "command": list(self.command),
            "user": self.user,
            "chdir": self.chdir,
            "environment": dict(self.environment),
        }

    def as_recorded(self, record: Record) -> Service:
        """Return this service with the command, user and environment that *record* was started with."""
        return dataclasses.replace(
            self,
            command=tuple(record.spec["command"]),
            user=record.spec["user"],
            chdir=record.spec["chdir"],
            environment=record.spec["environment"],
        )


@dataclasses.dataclass(frozen=True)
class Record:
    """What was started: by it a process is known as our own.

    :param who: the process; ``None`` where systemd watches it, or it was stopped.
    :param parts: :meth:`Service.parts` at the start.
    :param config: absolute paths of the configuration files that were written.
    :param spec: :meth:`Service.as_record` at the start.
    """

    who: Identity | None
    parts: dict[str, str]
    config: tuple[str, ...]
    spec: dict[str, t.Any]

    @classmethod
    def load(cls, service: Service) -> Record | None:
        """Read it; ``None`` where nothing was started, or the file is damaged (its process then counts as foreign)."""
        try:
            with explained(service.record_path), open(service.record_path, encoding="utf-8") as stream:
                data = json.load(stream)
            who = data["who"]
            return cls(
                who=Identity(**who) if who else None,
                parts=dict(data["parts"]),
                config=tuple(data["config"]),
                spec={name: data["spec"][name] for name in ("command", "user", "chdir", "environment")},
            )
        except ModelshipError as exc:
            if isinstance(exc.__cause__, (FileNotFoundError, NotADirectoryError)):
                return None
            if isinstance(exc.__cause__, PermissionError):
                raise ModelshipError(
                    f"permission denied on {service.record_path}: needs root (become: true), or the user who started "
                    f"{service.name}; nothing was changed",
                    kind="permission",
                ) from exc
            raise
        except (ValueError, KeyError, TypeError):
            return None

    def save(self, service: Service) -> None:
        """Write it, and the file with the process number beside it."""
        # The environment may hold secrets, so the file is for its owner alone.
        write_atomic(service.record_path, canonical_json(dataclasses.asdict(self)), 0o600)
        if self.who:
            write_atomic(service.pidfile, f"{self.who.pid}\n".encode())
        else:
            with explained(service.pidfile), contextlib.suppress(FileNotFoundError):
                os.unlink(service.pidfile)

    @staticmethod
    def forget(service: Service) -> None:
        """Remove the files that name a running process."""
        for path in (service.pidfile, service.record_path, service.lock_path):
            with explained(path), contextlib.suppress(FileNotFoundError):
                os.unlink(path)
