# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes and signals: one worker in this process, or several forked from it; SIGTERM drains."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
import types
import typing as t

from .connections import Connections
from .listener import Acceptor, allow_files, bind, turn_away_new_connections
from .logs import Log
from .metrics import Counters, Row, SharedCells
from .settings import Settings
from .versions import Releases, load_releases

if t.TYPE_CHECKING:
    from .app import App
    from .context import Context
    from .drift import Drift
    from .rpc.server import Rpc
    from .security.gate import Gate as SecurityGate
    from .security.tls import ServerContext

#: While draining, the listener stays open until no request has come for this long: clients and proxies need a moment to
#: learn that the server is going, and whatever still arrives is answered.
QUIET_SECONDS = 0.2
#: Parts of the drain time: after the first no new request is waited for, after the second open connections are cut. The
#: rest is left for the process to end in, before whoever sent SIGTERM sends SIGKILL.
_PATIENCE, _CUT = 0.8, 0.95
#: Time for the last connections to be accepted; a client a long way off needs a round trip to finish its handshake.
_ACCEPT_SECONDS = 0.2
#: How often files of keys and certificates are looked at.
_RENEW_SECONDS = 5.0
#: A day: connections themselves end what is not read any more.
_NEVER = 86400.0
_ENDING = (signal.SIGTERM, signal.SIGINT)


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code.

    :raises StartError: the release or the model cannot be served.
    """
    # As PID 1 of a container a process ignores signals that it has no handler for, so there is one from the start.
    for number in _ENDING:
        signal.signal(number, _exit_now)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    log = Log(settings.log_level)
    allow_files(settings.max_connections * (2 if settings.grpc_port else 1))
    shared = _shared(settings, log)
    if settings.workers == 1:
        return serve(settings, shared, 0, log)
    from .supervisor import Supervisor

    rows = [shared.counters.row(number) for number in range(settings.workers)]
    supervisor = Supervisor(lambda number: serve(settings, shared, number, log), rows, log)
    supervisor.run()
    shared.ending[0] = 1
    return supervisor.stop(settings.drain_seconds + 1)


class Shared(t.NamedTuple):
    """What the workers have in common, made before they are forked.

    :param ending: holds 1 once the whole server is going, not one worker of it.
    """

    releases: Releases
    counters: Counters
    listener: socket.socket
    ending: memoryview
    gate: SecurityGate | None
    tls: ServerContext | None
    drift: Drift | None
    rpc_listener: socket.socket | None
    rpc_tls: ServerContext | None


def _shared(settings: Settings, log: Log) -> Shared:
    """Make what the workers share; what is not asked for is not imported.

    :raises StartError: a release, a file that a setting names, or the address cannot be used.
    """
    listener = bind(settings.host, settings.port)
    rpc_listener = bind(settings.host, settings.grpc_port) if settings.grpc_port else None
    releases = load_releases(settings)
    counters = Counters(settings.workers)
    counters.extra.append(releases.lines)
    gate = tls = drift = rpc_tls = None
    if settings.tls_cert:
        from .security.tls import server_context

        tls = server_context(settings)
        rpc_tls = server_context(settings, ("h2",)) if rpc_listener else None
    if settings.guarded or settings.rate_limit:
        from .security.gate import load_gate

        gate = load_gate(settings, log)
        counters.extra.append(gate.lines)
    if "baseline.json" in releases.default.files:
        from .drift import load_drift

        drift = load_drift(releases.default, settings.workers)
        if drift is not None:
            counters.extra.append(drift.lines)
    ending = SharedCells(1, 1).row(0)
    return Shared(releases, counters, listener, ending, gate, tls, drift, rpc_listener, rpc_tls)


def _exit_now(_number: int, _frame: types.FrameType | None) -> None:
    os._exit(0)


def serve(settings: Settings, shared: Shared, worker: int, log: Log) -> int:
    """Load the model and answer requests in this process until told to stop; return the exit code."""
    started = time.monotonic()
    from .app import App
    from .context import Context, OpenGate
    from .features import routes
    from .versions import Models

    row = shared.counters.row(worker)
    row.reset()
    models = Models(shared.releases, settings, row, worker, log)
    context = Context(settings, models, shared.counters, row, log, shared.gate or OpenGate(), shared.drift)
    if shared.drift is not None:
        models.default.observers.append(shared.drift.row(worker))
    app = App(context, routes(context))
    # What is there now stays for good: keep the collector from walking over it again and again.
    gc.collect()
    gc.freeze()

    def listening() -> None:
        row.set_ready()
        release = shared.releases.default
        log.info(
            "serving",
            host=settings.host,
            port=settings.port,
            worker=worker,
            name=release.name,
            release=release.digest,
            format=release.format,
            inference_ms=round(models.default.seconds * 1000, 3),
            load_seconds=round(time.monotonic() - started, 3),
        )

    return asyncio.run(_serve(app, context, shared, worker, listening))


async def _serve(app: App, context: Context, shared: Shared, worker: int, listening: t.Callable[[], None]) -> int:
    settings, log = context.settings, context.log
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in _ENDING:
        loop.add_signal_handler(number, stop.set)
    connections = Connections(app, settings, context.row.connections, context.row.rejected)
    most = 1 if settings.workers > 1 else 16
    acceptor = Acceptor(
        shared.listener, connections, shared.tls, most, settings.read_seconds, log, closing_seconds=_NEVER
    )
    acceptor.start()
    rpc = None
    if shared.rpc_listener is not None:
        from .rpc.server import start_rpc

        rpc = await start_rpc(context, shared.rpc_listener, shared.rpc_tls)
    listening()
    if settings.workers == 1:
        shared.ending[0] = 1
    if shared.gate is not None:
        shared.gate.start(worker)

    def renew() -> None:
        if shared.gate is not None:
            shared.gate.tick()
        for tls in (shared.tls, shared.rpc_tls):
            if tls is not None:
                tls.reload(log)

    loop.add_signal_handler(signal.SIGHUP, renew)
    ticking = loop.create_task(_tick(app, context.row, connections, renew, settings))
    parent = loop.create_task(_orphaned(shared, stop)) if settings.workers > 1 else None
    await stop.wait()
    await _drain(app, rpc, connections, acceptor, shared, settings.drain_seconds, log)
    ticking.cancel()
    if parent is not None:
        parent.cancel()
    return 0


async def _tick(app: App, row: Row, connections: Connections, renew: t.Callable[[], None], settings: Settings) -> None:
    """Do what is due by time, about every second."""
    due = 0.0
    pause = min(1.0, settings.read_seconds / 2, settings.idle_seconds / 2)
    while True:
        await asyncio.sleep(pause)
        app.tick()
        row.beat()
        connections.sweep()
        if time.monotonic() >= due:
            due = time.monotonic() + _RENEW_SECONDS
            renew()


async def _drain(
    app: App,
    rpc: Rpc | None,
    connections: Connections,
    acceptor: Acceptor,
    shared: Shared,
    seconds: float,
    log: Log,
) -> None:
    """Answer until nobody asks any more, then close; the process ends within *seconds* whatever clients do."""
    began = time.monotonic()
    app.drain()
    if rpc is not None:
        rpc.drain()
    log.info("draining", in_flight=app.in_flight)
    while (now := time.monotonic()) < began + seconds * _PATIENCE:
        last = max(began, app.last_request, rpc.last_request if rpc is not None else 0.0)
        if app.in_flight == 0 and now - last >= QUIET_SECONDS:
            break
        await asyncio.sleep(0.02)
    if shared.ending[0]:
        turn_away_new_connections()
        await asyncio.sleep(min(_ACCEPT_SECONDS, seconds * (_CUT - _PATIENCE)))
    # Otherwise the other workers accept what waits.
    acceptor.close()
    end = began + seconds * _CUT
    closing = asyncio.ensure_future(rpc.close(end)) if rpc is not None else None
    while (connections.open or acceptor.connecting) and time.monotonic() < end:
        connections.close_idle(QUIET_SECONDS)
        await asyncio.sleep(0.01)
    if connections.open or (closing is not None and not await closing):
        log.warning("drain time is over, closing connections that are still open", in_flight=app.in_flight)
        os._exit(0)
    log.info("stopped", seconds=round(time.monotonic() - began, 3))


async def _orphaned(shared: Shared, stop: asyncio.Event) -> None:
    """Stop the worker when its supervisor is gone (killed outright, it could pass on no signal)."""
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(1)
    shared.ending[0] = 1
    stop.set()
