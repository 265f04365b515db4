# Copyright: (c) 2026, the modelship authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time on a deployment: a Lease that this run holds, and renews while it lives.

Source: Kubernetes API, coordination.k8s.io/v1 Lease. The clocks of two machines are never compared: a holder is taken
for dead when its Lease was seen unchanged for the Lease's own duration, or, on the same machine, when its process is gone.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import threading
import time
import types
import typing as t

from .._core.errors import ModelshipError
from .._core.process import START_TIME, boot_id, stat_fields
from .errors import ApiError
from .objects import MANAGER, Object

if t.TYPE_CHECKING:
    from .client import Api

DURATION_S = 10.0
RENEW_S = 3.0
_LOOK_S = 0.5
_VERSION, _KIND = "coordination.k8s.io/v1", "Lease"
#: Annotation: machine, process and its start, by which a run on the same machine knows whether the holder lives.
_PROCESS = "modelship.io/process"
#: How often a write that another one got ahead of is tried again.
_TRIES = 20


class Process(t.NamedTuple):
    """A process: *machine* names the booted machine and process namespace, *start* is in clock ticks since its boot."""

    machine: str
    pid: int
    start: str

    def __str__(self) -> str:
        return f"{self.machine}:{self.pid}:{self.start}"


class Lease:
    """Holds the Lease ``<name>-modelship`` in *namespace* for as long as the ``with`` block runs.

    :param holder: who holds it, for the other's message; by default user, host and process.
    :param duration_s: after so many seconds without being renewed it may be taken.
    :param renew_s: it is renewed so often.
    :raises ModelshipError: kind C(locked): another run holds it.
    """

    def __init__(
        self,
        api: Api,
        namespace: str,
        name: str,
        holder: str = "",
        *,
        duration_s: float = DURATION_S,
        renew_s: float = RENEW_S,
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._deployment = name
        self._name = f"{name}-modelship"
        self._path = f"/apis/{_VERSION}/namespaces/{namespace}/leases"
        self._holder = holder or holder_name()
        self._process = this_process()
        self._duration_s = duration_s
        self._renew_s = renew_s
        self._live: Object = {}
        self._renewed = 0.0
        self._lost = ""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> Lease:
        self._acquire()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._stop.set()
        with self._lock:
            if self._lost:
                return
            metadata = self._live["metadata"]
            preconditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
            options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
            try:
                self._api.request("DELETE", f"{self._path}/{self._name}", body=options)
            except ApiError:
                # it expires by itself; what the run did, or why it failed, is what is to be told
                return

    def exists(self) -> bool:
        """Tell whether there is such a Lease, whoever holds it.

        :raises ModelshipError: the server cannot be asked.
        """
        return self._api.get(_VERSION, _KIND, self._namespace, self._name) is not None

    def check(self) -> None:
        """Make sure that this run still holds the Lease; to be called before a write.

        Where it could not be renewed in time, the server is waited for as for any other request: as long as it is away
        nobody else can take the Lease, and afterwards it says whether somebody has.

        :raises ModelshipError: kind C(locked): another run has taken it.
        :raises ApiError: the server cannot be asked.
        """
        if not self._lost and time.monotonic() - self._renewed <= self._duration_s:
            return
        with self._lock:
            if not self._lost and time.monotonic() - self._renewed > self._duration_s:
                self._renew(patient=True)
            if self._lost:
                raise ModelshipError(
                    f"this run lost its Lease {self._namespace}/{self._name} and stops: {self._lost}; run again",
                    kind="locked",
                )

    def _acquire(self) -> None:
        seen: tuple[str, float] | None = None
        for _attempt in range(_TRIES):
            live = self._api.get(_VERSION, _KIND, self._namespace, self._name)
            if live is None:
                if self._write("POST", self._path, self._wanted(None)):
                    return
                continue
            version, now = live["metadata"]["resourceVersion"], time.monotonic()
            if seen is not None and version != seen[0]:
                raise self._held(live)  # renewed: it lives
            since = seen[1] if seen is not None else now
            seen = (version, since)
            if is_free(live, now - since, self._process):
                if self._write("PUT", f"{self._path}/{self._name}", self._wanted(live)):
                    return
                seen = None
                continue
            self._await_change(live, since)
        raise ModelshipError(
            f"the Lease {self._namespace}/{self._name} changes all the time: several runs want it; run again later",
            kind="locked",
        )

    def _await_change(self, live: Object, since: float) -> None:
        """Wait until the Lease is written, or has been left alone for as long as it lasts."""
        version, end = live["metadata"]["resourceVersion"], since + duration_of(live)
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(_LOOK_S, left))
            now = self._api.get(_VERSION, _KIND, self._namespace, self._name)
            if now is None or now["metadata"]["resourceVersion"] != version:
                return

    def _write(self, method: str, path: str, wanted: Object) -> bool:
        """Write the Lease; ``False`` if another run was faster."""
        started = time.monotonic()
        try:
            self._live = self._api.request(method, path, body=wanted)
        except ApiError as exc:
            if exc.status == 409:
                # an answer that was lost may have been our own write
                live = self._api.get(_VERSION, _KIND, self._namespace, self._name)
                if live is None or live["spec"].get("holderIdentity") != self._holder:
                    return False
                self._live = live
            elif exc.status == 404 and method == "PUT":
                return False
            else:
                raise
        self._renewed = started
        return True

    def _wanted(self, live: Object | None) -> Object:
        now = _micro_time()
        metadata: Object = {
            "name": self._name,
            "namespace": self._namespace,
            "labels": {"app.kubernetes.io/managed-by": MANAGER, "app.kubernetes.io/instance": self._deployment},
            "annotations": {_PROCESS: str(self._process) if self._process else ""},
        }
        spec: Object = {
            "holderIdentity": self._holder,
            "leaseDurationSeconds": max(1, round(self._duration_s)),
            "acquireTime": now,
            "renewTime": now,
        }
        if live is not None:
            metadata["resourceVersion"] = live["metadata"]["resourceVersion"]
        return {"apiVersion": _VERSION, "kind": _KIND, "metadata": metadata, "spec": spec}

    def _held(self, live: Object) -> ModelshipError:
        return ModelshipError(
            f"another run is working on {self._deployment} in namespace {self._namespace}: {who_holds(live)}; "
            "wait for it to end, then run again",
            kind="locked",
        )

    def _keep(self) -> None:
        while not self._stop.wait(self._renew_s):
            with self._lock:
                if self._stop.is_set() or self._lost:
                    return
                # what failed is tried again in a moment; if it fails for too long, check() says so
                with contextlib.suppress(ModelshipError):
                    self._renew(patient=False)

    def _renew(self, *, patient: bool) -> None:
        """Write a new time into the Lease; remember if it is no longer ours. The lock is held.

        :param patient: wait for a server that is away.
        :raises ModelshipError: the server refuses, or cannot be reached.
        """
        path = f"{self._path}/{self._name}"
        # others count from when it was written, so this run must not count from later
        started = time.monotonic()
        try:
            spec = {**self._live["spec"], "renewTime": _micro_time()}
            self._live = self._api.request("PUT", path, body={**self._live, "spec": spec}, retry=patient)
        except ApiError as exc:
            if exc.status not in (404, 409):
                raise
            live = self._api.get(_VERSION, _KIND, self._namespace, self._name)
            if live is None:
                # somebody deleted it; whoever comes first has it
                if not self._write("POST", self._path, self._wanted(None)):
                    self._lost = "another run took it after it was deleted"
                return
            if live["spec"].get("holderIdentity") != self._holder:
                self._lost = f"taken by {who_holds(live)}"
                return
            self._live = live
        self._renewed = started


def is_free(live: Object, unchanged_s: float, own: Process | None) -> bool:
    """Tell whether the Lease *live* can be taken: it has no holder, or a dead one.

    :param unchanged_s: for how long it was seen unchanged.
    :param own: this process, to tell whether the holder ran on the same machine.
    """
    if not live["spec"].get("holderIdentity") or unchanged_s >= duration_of(live):
        return True
    holder = parse_process((live["metadata"].get("annotations") or {}).get(_PROCESS, ""))
    return holder is not None and own is not None and holder.machine == own.machine and not is_alive(holder)


def duration_of(live: Object) -> float:
    """Return the seconds for which the Lease *live* holds without being renewed."""
    return float(live["spec"].get("leaseDurationSeconds") or DURATION_S)


def who_holds(live: Object) -> str:
    """Say who holds the Lease *live* and since when."""
    spec = live["spec"]
    since = str(spec.get("acquireTime") or "")[:19].replace("T", " ")
    return f"{spec.get('holderIdentity')}{f', since {since} UTC' if since else ''}"


def holder_name() -> str:
    """Return user, host and process of this run."""
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no entry in passwd, as in many containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} (process {os.getpid()}, {os.urandom(3).hex()})"


def this_process() -> Process | None:
    """Return this process; ``None`` where the system does not tell (no /proc)."""
    try:
        machine = hashlib.sha256(f"{boot_id()} {os.readlink('/proc/self/ns/pid')}".encode()).hexdigest()[:16]
        return Process(machine, os.getpid(), _start_of(os.getpid()))
    except OSError:
        return None


def parse_process(text: str) -> Process | None:
    """Return the process that *text*, made by ``str``, names; ``None`` if it names none."""
    parts = text.split(":")
    if len(parts) != 3 or not parts[1].isdigit():
        return None
    return Process(parts[0], int(parts[1]), parts[2])


def is_alive(process: Process) -> bool:
    """Tell whether *process*, of this machine, still runs; another one with its number does not count."""
    try:
        return _start_of(process.pid) == process.start
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _start_of(pid: int) -> str:
    return stat_fields(pid)[START_TIME].decode()


def _micro_time() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
