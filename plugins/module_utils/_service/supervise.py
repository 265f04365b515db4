# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bringing a service to its wanted state: what ``modelship.core.service_process`` does."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import typing as t

from .._core.diff import Difference
from .._core.errors import ModelshipError
from .._core.files import explained, locked
from .._core.redaction import redact_mapping
from .._core.runner import Context, Outcome
from . import proc
from .managers import Manager, complaint, manager_for
from .ready import Answer, ask, how_to_stop, occupant
from .service import Record, Service

#: How many lines of the log a failure shows.
_TAIL = 20


def supervise(options: dict[str, t.Any], context: Context) -> Outcome:
    """Bring a service to ``options["state"]``. The options are the module's.

    :raises ModelshipError: wrong input; its port is taken; its configuration is refused; it does not start.
    """
    service = Service.parse(options)
    manager = manager_for(service, options.get("manager") or "auto")
    state = options.get("state") or "started"
    if state in ("stopped", "absent"):
        return _Stop(service, manager, context).run(remove=state == "absent", purge=bool(options.get("purge")))
    if not service.command:
        raise ModelshipError(f"{service.name}: state {state} needs command, a list of the program and its arguments")
    return _Start(service, manager, context).run(adopt=bool(options.get("adopt")), restart=state == "restarted")


class _Start:
    def __init__(self, service: Service, manager: Manager, context: Context) -> None:
        self._service = service
        self._manager = manager
        self._context = context
        self._record = Record.load(service)
        self._pid = manager.running(self._record)

    def run(self, *, adopt: bool, restart: bool) -> Outcome:
        service = self._service
        answer: Answer | None
        if self._pid is None and service.ready:
            answer = ask(service.ready)
            if adopt and answer.ready:
                return self._outcome(changed=False, adopted=True, answer=answer)
            if answer.occupied:
                raise ModelshipError(
                    f"{service.ready.place} is already taken by {occupant(service.ready)}, which is not {service.name} "
                    f"started here: {how_to_stop(service.ready)}, or choose another address for {service.name}",
                    kind="port_taken",
                )
        difference = self._difference()
        reasons = self._reasons(difference, restart=restart)
        if not reasons:
            answer = ask(service.ready) if service.ready else None
            if answer is None or answer.ready:
                return self._outcome(changed=False, answer=answer)
            reasons = [f"it does not answer at {service.ready.place}"] if service.ready else []
        if service.config and (not self._context.check or service.config.can_check()):
            service.config.check()
        if self._manager.name == "systemd" and os.geteuid() != 0:
            raise ModelshipError(
                f"needs root to start {service.name}: become: true; nothing was changed", kind="permission"
            )
        if not self._context.check:
            self._act(reload=self._reloads(reasons, restart=restart))
        return self._outcome(changed=True, difference=difference, reasons=reasons)

    # What differs ---------------------------------------------------------------------------------------------------

    def _difference(self) -> Difference:
        service, found = self._service, Difference(self._service.name)
        found.add("running", self._pid is not None, True)
        old = service.as_recorded(self._record) if self._record else None
        found.add("command", list(old.command) if old else None, list(service.command))
        found.add("user", old.user if old else None, service.user)
        found.add(
            "environment",
            redact_mapping(old.environment) if old else None,
            redact_mapping(service.environment) if service.environment or old else None,
        )
        if service.config:
            service.config.difference(found)
        return found

    def _reasons(self, difference: Difference, *, restart: bool) -> list[str]:
        service = self._service
        if self._pid is None or self._record is None:
            return ["it does not run"]
        wanted, started = service.parts(), self._record.parts
        reasons = [f"{name} changed" for name in sorted(wanted) if started.get(name) != wanted[name]]
        reasons += [f"{name} is wanted no more" for name in sorted(started.keys() - wanted.keys())]
        if service.config:
            edited = set(service.config.digests()) & set(difference.names)
            reasons += [f"{path} was edited" for path in sorted(edited) if f"{path} changed" not in reasons]
        if (found := self._manager.difference()) is not None:
            reasons.append(f"{found} changed")
        if service.follow_upgrades and proc.executable_replaced(self._pid):
            reasons.append("its program was upgraded")
        if restart:
            reasons.append("a restart was asked for")
        return reasons

    def _reloads(self, reasons: list[str], *, restart: bool) -> bool:
        """Tell whether reading the configuration again is enough."""
        config = self._service.config
        if not config or not config.reload_signal or self._pid is None or restart:
            return False
        paths = set(config.digests()) | set(self._record.config if self._record else ())
        return all(any(reason.startswith(f"{path} ") for path in paths) for reason in reasons)

    # What is done ---------------------------------------------------------------------------------------------------

    def _act(self, *, reload: bool) -> None:
        service, config = self._service, self._service.config
        if service.program is None:
            raise ModelshipError(f"{service.command[0]} is not on this host: install it first", kind="missing")
        group = service.account().pw_gid if service.user else None
        before = self._record if self._pid is not None else None
        with locked(service.lock_path):
            try:
                with config.applied(self._record.config if self._record else (), group) if config else _NOTHING:
                    if reload:
                        self._reload()
                    else:
                        self._manager.stop(self._record)
                        self._start(service, self._manager, service.parts())
            except ModelshipError as exc:
                if before is None:
                    raise
                raise self._went_back(before, exc) from exc

    def _reload(self) -> None:
        service = self._service
        who = proc.identity(self._pid or 0)
        if who is None or service.config is None or not proc.send(who, _signal(str(service.config.reload_signal))):
            raise ModelshipError(f"{service.name} ended before it could read its configuration again", kind="start")
        self._wait_ready(None, _size(service.log))
        self._save(who if self._manager.name == "process" else None, service, service.parts())

    def _start(self, service: Service, manager: Manager, parts: dict[str, str]) -> None:
        offset = _size(service.log)
        who = manager.start()
        # Known as ours from its first moment, but as wanted only once it is ready: a kill in between is repaired.
        self._save(who, service, {})
        try:
            self._wait_ready(manager, offset)
        except ModelshipError:
            manager.stop(Record.load(service))
            Record.forget(service)
            raise
        self._save(who, service, parts)

    def _save(self, who: proc.Identity | None, service: Service, parts: dict[str, str]) -> None:
        config = tuple(sorted(service.config.digests())) if service.config else ()
        Record(who=who, parts=parts, config=config, spec=service.as_record()).save(service)

    def _wait_ready(self, started: Manager | None, offset: int) -> None:
        """Wait until the service answers; *offset* is where its new log lines begin."""
        service, ready = self._service, self._service.ready
        begin = time.monotonic()
        pause = 0.02
        while True:
            elapsed = time.monotonic() - begin
            if started is not None and (end := started.ended()) is not None:
                raise self._failed(f"{service.name} did not start: {end}", offset)
            # Without a question to ask, a process that outlives its first half second counts as started.
            if (ask(ready).ready if ready else elapsed > 0.5) and (started is None or started.ended() is None):
                return
            if ready and elapsed > ready.timeout:
                raise self._failed(f"{service.name} did not answer at {ready.place} within {ready.timeout:g} s", offset)
            self._context.progress.live(
                f"waiting for {service.name}" + (f" to answer at {ready.place}" if ready else ""), at_most_every=1.0
            )
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)

    def _failed(self, message: str, offset: int) -> ModelshipError:
        tail = _tail(self._service.log, offset)
        last = f": {told}" if (told := complaint(tail)) else ""
        return ModelshipError(f"{message}{last} (log: {self._service.log})", kind="start", log_tail=tail)

    def _went_back(self, before: Record, failure: ModelshipError) -> ModelshipError:
        """Bring back what ran before; its configuration files are already put back. Return the error to raise."""
        old = self._service.as_recorded(before)
        manager = self._manager
        try:
            if (pid := manager.running(before)) is not None:
                config = old.config
                if config and config.reload_signal and (who := proc.identity(pid)):
                    proc.send(who, _signal(config.reload_signal))
            else:
                self._start(old, manager_for(old, manager.name), before.parts)
        except ModelshipError as exc:
            again = "" if exc.message == failure.message else f": {exc.message}"
            return ModelshipError(
                f"{failure.message}; going back to what ran before failed too{again}",
                kind=failure.kind,
                **failure.details,
            )
        return ModelshipError(f"{failure.message}; what ran before runs again", kind=failure.kind, **failure.details)

    def _outcome(
        self,
        *,
        changed: bool,
        adopted: bool = False,
        answer: Answer | None = None,
        difference: Difference | None = None,
        reasons: list[str] | None = None,
    ) -> Outcome:
        service, check = self._service, self._context.check
        if changed and not check:
            self._pid = self._manager.running(Record.load(service))
            answer = ask(service.ready) if service.ready else None
        elif answer is None and self._pid is not None and service.ready:
            # Whether what runs answers is reported also where it is to be restarted.
            answer = ask(service.ready)
        verb = "would be started" if check else "started"
        if changed:
            message = f"{service.name} {verb}: {'; '.join(reasons or [])}"
        else:
            message = f"{service.name} runs already and is left alone" if adopted else f"{service.name} runs"
        return Outcome(
            changed=changed,
            message=message,
            difference=difference,
            result={
                "service": {
                    "name": service.name,
                    "manager": self._manager.name,
                    "running": adopted or self._pid is not None,
                    "adopted": adopted,
                    "pid": self._pid,
                    "executable": service.program,
                    "log": service.log,
                    "reasons": reasons or [],
                    "answer": {"status": answer.status, "body": answer.body} if answer else None,
                }
            },
        )


class _Stop:
    def __init__(self, service: Service, manager: Manager, context: Context) -> None:
        self._service = service
        self._manager = manager
        self._context = context

    def run(self, *, remove: bool, purge: bool) -> Outcome:
        service, manager = self._service, self._manager
        record = Record.load(service)
        pid = manager.running(record)
        files = [service.log, *(record.config if record else ())] if remove and purge else []
        files = [path for path in files if os.path.exists(path)]
        changed = pid is not None or (record is not None and manager.enabled())
        if remove:
            changed = changed or record is not None or bool(files) or manager.leftovers() or (purge and self._empty())
        difference = Difference(service.name)
        difference.add("running", pid is not None, False)
        for path in files:
            difference.add(path, "present", None)
        if changed and not self._context.check:
            with locked(service.lock_path):
                manager.stop(record)
                if record is not None:
                    manager.disable()
                    Record(who=None, parts={}, config=record.config, spec=record.spec).save(service)
                if remove:
                    manager.remove()
                    self._delete(files)
                    Record.forget(service)
            if remove and purge:
                with contextlib.suppress(OSError):  # what others put there stays
                    os.rmdir(service.folder)
        words = "would be stopped" if self._context.check else "stopped"
        return Outcome(
            changed=changed,
            difference=difference,
            message=f"{service.name} {words}" if changed else f"{service.name} is not a process started here",
            result={"service": {"name": service.name, "manager": manager.name, "running": False, "pid": pid}},
        )

    def _empty(self) -> bool:
        folder = self._service.folder
        return os.path.isdir(folder) and not os.listdir(folder)

    @staticmethod
    def _delete(files: list[str]) -> None:
        for path in files:
            with explained(path), contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        for folder in {os.path.dirname(path) for path in files}:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


_NOTHING: t.ContextManager[None] = contextlib.nullcontext()


def _signal(name: str) -> signal.Signals:
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        raise ModelshipError(f"'{name}' is no signal: use a name like HUP") from None


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _tail(path: str, offset: int) -> list[str]:
    try:
        with open(path, "rb") as stream:
            stream.seek(max(offset, _size(path) - (1 << 16)))
            return stream.read().decode("utf-8", "replace").splitlines()[-_TAIL:]
    except OSError:
        return []
