# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two ways to keep a process running: our own child of init, or a unit of systemd."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import typing as t

from .._core.errors import ModelshipError
from .._core.files import explained, write_atomic
from . import proc
from .service import Record, Service

_COMPLAINT = re.compile(r"error|fatal|panic|fail|cannot|invalid|unknown|unable|denied|broken", re.IGNORECASE)
#: What systemd itself writes about a unit.
_OF_SYSTEMD = re.compile(r"\S+\.service: |Start(ing|ed) |Stopp(ing|ed) |Failed to start |Dependency failed ")
_UNIT_FOLDER = "/etc/systemd/system"


class Manager(t.Protocol):
    """Starts and stops one service."""

    name: str

    def running(self, record: Record | None) -> int | None:
        """Return the number of the process that *record* started and that still runs."""

    def difference(self) -> str | None:
        """Return what else, besides the record's parts, is not as wanted; ``None`` if nothing."""

    def start(self) -> proc.Identity | None:
        """Start it; return the process where this manager knows it by itself."""

    def ended(self) -> str | None:
        """Say how the process that :meth:`start` made ended; ``None`` while it runs."""

    def stop(self, record: Record | None) -> None:
        """End what *record* started, and return when it has ended."""

    def enabled(self) -> bool:
        """Tell whether it starts at boot."""

    def disable(self) -> None:
        """Keep it from starting at boot."""

    def remove(self) -> None:
        """Remove what the manager itself keeps of the service."""

    def leftovers(self) -> bool:
        """Tell whether :meth:`remove` has something to do."""


def complaint(lines: t.Sequence[str]) -> str:
    """Return the line that says why a program failed, empty where none does.

    Programs end their complaint with how they are to be called, or with a stack.
    """
    own = [line for line in lines if line.strip() and not _OF_SYSTEMD.match(line)]
    told = [line for line in own if _COMPLAINT.search(line)] or own
    return told[-1].strip() if told else ""


def has_systemd() -> bool:
    """Tell whether systemd is the host's init, as sd_booted(3) does."""
    return os.path.isdir("/run/systemd/system")


def manager_for(service: Service, wanted: str) -> Manager:
    """Return the manager named *wanted*: ``process``, ``systemd``, or ``auto`` for what the host has."""
    if wanted == "systemd" or (wanted == "auto" and has_systemd()):
        return Systemd(service)
    return Process(service)


class Process:
    """A detached process with a pidfile and a log file."""

    name = "process"

    def __init__(self, service: Service) -> None:
        self._service = service
        self._child: subprocess.Popen[bytes] | None = None

    def running(self, record: Record | None) -> int | None:
        return record.who.pid if record and record.who and proc.lives(record.who) else None

    def difference(self) -> str | None:
        return None

    def start(self) -> proc.Identity | None:
        service = self._service
        account = service.account()
        as_other = account.pw_uid != os.geteuid()
        if as_other and os.geteuid() != 0:
            raise ModelshipError(f"only root can start {service.name} as {service.user}: run with become")
        with explained(service.log):
            os.makedirs(os.path.dirname(service.log), exist_ok=True)
            log = os.open(service.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            self._child = subprocess.Popen(
                list(service.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=service.chdir or "/",
                env=service.full_environment(),
                start_new_session=True,
                umask=0o022,
                user=account.pw_uid if as_other else None,
                group=account.pw_gid if as_other else None,
                extra_groups=os.getgrouplist(account.pw_name, account.pw_gid) if as_other else None,
            )
        except OSError as exc:
            raise ModelshipError(
                f"cannot start {service.name}: {exc.filename or service.command[0]}: {exc.strerror}", kind="start"
            ) from exc
        finally:
            os.close(log)
        return proc.identity(self._child.pid)

    def ended(self) -> str | None:
        if self._child is None or (code := self._child.poll()) is None:
            return None
        return f"it ended with exit code {code}" if code >= 0 else f"it was ended by {signal.Signals(-code).name}"

    def stop(self, record: Record | None) -> None:
        if record is None or record.who is None:
            return
        who = record.who
        try:
            proc.send(who, signal.SIGTERM)
            if not self._gone(who, self._service.stop_timeout):
                # It leads a session of its own, so the group holds its children and nothing else.
                if proc.lives(who):
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(who.pid, signal.SIGKILL)
                if not self._gone(who, 5.0):
                    raise ModelshipError(f"{self._service.name} (pid {who.pid}) outlives SIGKILL", kind="stop")
        except PermissionError:
            raise ModelshipError(
                f"{self._service.name} (pid {who.pid}) belongs to another user: run with become", kind="stop"
            ) from None

    def _gone(self, who: proc.Identity, seconds: float) -> bool:
        gone = proc.wait_gone(who, seconds)
        if gone and self._child is not None and self._child.pid == who.pid:
            self._child.wait()
        return gone

    def enabled(self) -> bool:
        return False

    def disable(self) -> None:
        return

    def remove(self) -> None:
        return

    def leftovers(self) -> bool:
        return False


class Systemd:
    """A unit of systemd: one that is written here, or one that a package brought."""

    name = "systemd"

    def __init__(self, service: Service) -> None:
        self._service = service
        self.unit = service.unit or f"modelship-{service.name}.service"
        self._path = None if service.unit else os.path.join(_UNIT_FOLDER, self.unit)

    def running(self, record: Record | None) -> int | None:
        if record is None:
            return None
        shown = self._show("ActiveState", "MainPID")
        return int(shown["MainPID"]) or None if shown["ActiveState"] in ("active", "reloading") else None

    def difference(self) -> str | None:
        if self._path and self._found_text() != self.text():
            return f"the unit {self.unit}"
        if self._show("UnitFileState")["UnitFileState"] not in ("enabled", "static"):
            return "its start at boot"
        return None

    def start(self) -> proc.Identity | None:
        if self._path and self._found_text() != self.text():
            write_atomic(self._path, self.text().encode(), 0o644)
        if self._path:
            with explained(self._service.log):
                os.makedirs(os.path.dirname(self._service.log), exist_ok=True)
        self._systemctl("daemon-reload")
        self._systemctl("enable", "--quiet", self.unit)
        # A unit that failed several times is not started again for a while.
        with contextlib.suppress(ModelshipError):
            self._systemctl("reset-failed", self.unit)
        try:
            self._systemctl("start", self.unit)
        except ModelshipError as exc:
            lines = self._journal()
            why = complaint(lines) or exc.message.replace("\n", " ")
            raise ModelshipError(
                f"{self._service.name} did not start: {why} (log: journalctl -u {self.unit})",
                kind="start",
                log_tail=lines,
            ) from exc
        return None

    def ended(self) -> str | None:
        shown = self._show("ActiveState", "Result", "ExecMainStatus")
        if shown["ActiveState"] in ("active", "activating", "reloading") and shown["Result"] == "success":
            return None
        return f"systemd says: {shown['ActiveState']}, {shown['Result']}, exit status {shown['ExecMainStatus']}"

    def stop(self, record: Record | None) -> None:
        if record is not None:
            # A socket unit would start it again with the next connection.
            self._systemctl("stop", *self._triggers(), self.unit)
            with contextlib.suppress(ModelshipError):
                self._systemctl("reset-failed", self.unit)

    def enabled(self) -> bool:
        return self._show("UnitFileState")["UnitFileState"] == "enabled"

    def disable(self) -> None:
        if self.enabled():
            self._systemctl("disable", "--quiet", *self._triggers(), self.unit)

    def remove(self) -> None:
        if self._path and self.leftovers():
            with explained(self._path):
                os.unlink(self._path)
            self._systemctl("daemon-reload")

    def leftovers(self) -> bool:
        return bool(self._path and os.path.exists(self._path))

    def text(self) -> str:
        """Return the unit file. Quoting follows systemd.service(5), "Command lines"."""
        service = self._service
        lines = [
            "# Written by modelship.core.service_process; changes are overwritten.",
            "[Unit]",
            f"Description=modelship: {service.name}",
            "Wants=network-online.target",
            "After=network-online.target",
            "",
            "[Service]",
            "Type=exec",
            "ExecStart="
            + " ".join(
                _quoted(part, dollar=True) for part in (service.program or service.command[0], *service.command[1:])
            ),
        ]
        lines += [f"Environment={_quoted(f'{name}={value}')}" for name, value in sorted(service.environment.items())]
        if service.user:
            lines.append(f"User={service.user}")
        if service.chdir:
            lines.append(f"WorkingDirectory={service.chdir.replace('%', '%%')}")
        log = service.log.replace("%", "%%")
        lines += [
            f"StandardOutput=append:{log}",
            f"StandardError=append:{log}",
            f"TimeoutStopSec={service.stop_timeout:g}",
            "Restart=on-failure",
            "RestartSec=2",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
        ]
        return "\n".join(lines) + "\n"

    def _found_text(self) -> str | None:
        try:
            with open(str(self._path), encoding="utf-8") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def _journal(self) -> list[str]:
        """Return the last lines that the unit wrote to the journal, or to its log file."""
        program = shutil.which("journalctl")
        words = ["--unit", self.unit, "--lines=40", "--output=cat", "--no-pager", "--quiet"]
        done = subprocess.run([program, *words], capture_output=True, text=True, check=False) if program else None
        return done.stdout.splitlines() if done else []

    def _triggers(self) -> list[str]:
        return self._show("TriggeredBy")["TriggeredBy"].split()

    def _show(self, *properties: str) -> dict[str, str]:
        said = self._systemctl("show", *(f"--property={name}" for name in properties), self.unit)
        found = dict(line.partition("=")[::2] for line in said.splitlines())
        return {name: found.get(name, "") for name in properties}

    def _systemctl(self, *arguments: str) -> str:
        program = shutil.which("systemctl")
        if program is None:
            raise ModelshipError("systemctl is not on PATH: choose manager process, or install systemd", kind="missing")
        done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip() or f"exit code {done.returncode}"
            raise ModelshipError(f"systemctl {' '.join(arguments)}: {said}", kind="systemd")
        return done.stdout


def _quoted(text: str, *, dollar: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    return f'"{escaped.replace("$", "$$") if dollar else escaped}"'
