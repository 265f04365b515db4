"""The four trials of reliability, each for as long as is asked for; they return figures, and raise where a promise breaks.

Every trial starts a server of its own. What is compared is measured in the same run: no trial knows how fast a machine is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import statistics
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests import raw_http2 as raw
from tests.integration.tiny import GREEN, Server, free_port, made, served, tiny_release

from .load import Load, Tally, request, until

Figures = dict[str, Any]

#: A model that takes some milliseconds: with less there is no queue that could fill.
MAKE_SLOW = """
import sys, numpy as np, onnx
from onnx import TensorProto as T, helper as h, numpy_helper as nh
chance, size = np.random.default_rng(1), 768
def array(name, *shape):
    return nh.from_array((chance.normal(size=shape) / np.sqrt(shape[0])).astype("float32"), name)
constants = [nh.from_array(np.array([-1, 4], "int64"), "flat"), array("in", 4, size), array("w", size, size),
             array("out", size, 3)]
nodes = [h.make_node("Reshape", ["image", "flat"], ["f"]), h.make_node("MatMul", ["f", "in"], ["x0"])]
for i in range(120):
    nodes += [h.make_node("MatMul", [f"x{i}", "w"], [f"y{i}"]), h.make_node("Tanh", [f"y{i}"], [f"x{i+1}"])]
nodes += [h.make_node("MatMul", ["x120", "out"], ["z"]), h.make_node("Softmax", ["z"], ["probabilities"], axis=1)]
graph = h.make_graph(nodes, "slow", [h.make_tensor_value_info("image", T.FLOAT, ["n", 2, 2, 1])],
                     [h.make_tensor_value_info("probabilities", T.FLOAT, ["n", 3])], constants)
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8), sys.argv[1])
"""

PREDICT = request("/predict", json.dumps({"image": GREEN}).encode())
_PIXELS = struct.pack("<4f", *GREEN)
_JSON = json.dumps(
    {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 2, 2, 1], "parameters": {"binary_data_size": 16}}]}
).encode()
#: Right and wrong, of all kinds: what a server may leak by.
MIXTURE = [
    PREDICT,
    request("/predict", json.dumps({"instances": [GREEN] * 20}).encode()),
    request(
        "/v2/models/tiny/infer",
        _JSON + _PIXELS,
        inference_header_content_length=str(len(_JSON)),
        content_type="application/octet-stream",
    ),
    request("/v2/models/tiny/infer", json.dumps({"inputs": [{"name": "x"}]}).encode()),
    request("/predict", b'{"image":[1,2,3,'),
    request("/predict", json.dumps({"image": [1, 2, 3, 999]}).encode()),
    request("/nothing", b"{}"),
]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _infer_message() -> bytes:
    tensor = b"\x0a\x05image\x12\x04FP32\x1a\x04\x01\x02\x02\x01"
    return b"\x0a\x04tiny\x2a" + bytes([len(tensor)]) + tensor + b"\x3a\x10" + _PIXELS


class _Calls(threading.Thread):
    """gRPC calls one after the other, right ones and wrong ones, over a connection that is made anew now and then."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.count = 0
        self.wrong: list[object] = []
        self._port = port
        self._end = threading.Event()

    def run(self) -> None:
        data = _infer_message()
        try:
            while not self._end.is_set():
                with raw.Client(self._port) as client:
                    for number in range(500):
                        status = client.call("ModelInfer", data if number % 5 else data[:-7]).status
                        if status != (0 if number % 5 else 3):
                            self.wrong.append(status)
                        self.count += 1
                        if self._end.is_set():
                            break
        except (OSError, KeyError) as exc:
            self.wrong.append(exc)

    def stop(self) -> int:
        self._end.set()
        self.join()
        _require(not self.wrong, f"gRPC calls went wrong: {self.wrong[:5]}")
        return self.count


def memory(folder: Path, requests: int, say: Callable[[str], None] = print) -> Figures:
    """No growth: a server answers *requests* requests of all kinds, and gRPC calls beside them.

    Growth is what the least squares line through the resident memory gains from a tenth of the way, when caches and the
    allocator's pools are filled, to the end. Allowed is 2 MB, which is what the allocator sways by.
    """
    port = free_port()
    with served(tiny_release(folder), MODELSHIP_GRPC_PORT=str(port)) as server:
        samples: list[tuple[int, int]] = []
        calls = _Calls(port)
        load = Load(server.port, MIXTURE, most=requests, keep_times=False)
        calls.start()
        load.start()
        said = 0.0
        while load.is_alive():
            load.join(max(0.02, min(1.0, requests / 1e6)))
            samples.append((load.tally.answered, _resident(server.process.pid)))
            if time.monotonic() - said > 30:
                said = time.monotonic()
                say(f"  {samples[-1][0]} requests, {samples[-1][1] / 2**20:.1f} MB")
        tally = load.wait()
        count = calls.stop()
        settled = [(x, y) for x, y in samples if x >= requests / 10]
        slope = statistics.linear_regression(*zip(*settled, strict=True)).slope
        growth = slope * requests * 0.9
        figures = {
            "requests": tally.answered,
            "grpc_calls": count,
            "rate": tally.answered / (tally.ended - tally.began),
            "statuses": dict(tally.statuses),
            "first_mb": settled[0][1] / 2**20,
            "last_mb": settled[-1][1] / 2**20,
            "bytes_per_request": slope,
            "growth_mb": growth / 2**20,
        }
        _require(set(tally.statuses) == {200, 400, 404}, f"other answers than expected: {figures}")
        _require(tally.broken == 0, f"{tally.broken} requests without an answer")
        _require(growth < 2 * 2**20, f"memory grows: {figures}")
        _require(server.stop() == 0, "it did not end well")
        return figures


def killed(folder: Path, times: int, connections: int = 8) -> Figures:
    """A worker is killed outright under load, *times* times: lost is at most what it was working on."""
    with served(tiny_release(folder), MODELSHIP_WORKERS="2") as server:
        pids: list[int] = []

        def serving() -> list[int]:
            return [event["pid"] for event in server.log() if event["message"] == "serving"]

        until(lambda: len(serving()) == 2)
        load = Load(server.port, [PREDICT], connections=connections)
        load.start()
        lost = []
        for number in range(times):
            until(lambda: load.tally.answered > 0)
            time.sleep(0.3)
            pids = [pid for pid in serving() if Path(f"/proc/{pid}").exists()]
            before = load.tally.broken
            os.kill(pids[number % len(pids)], signal.SIGKILL)
            until(lambda: len(serving()) == 3 + number)  # noqa: B023 - called at once
            answered = load.tally.answered
            until(lambda: load.tally.answered > answered + 100)  # noqa: B023
            lost.append(load.tally.broken - before)
        tally = load.stop()
        figures = {"kills": times, "answered": tally.answered, "lost_by_kill": lost, "refused": tally.refused}
        _require(set(tally.statuses) == {200}, f"other answers than 200: {tally.statuses}")
        _require(max(lost) <= connections, f"more was lost than was under way: {figures}")
        _require(tally.refused == 0, f"connections were refused: {figures}")
        _require(server.stop() == 0, "it did not end well")
        return figures


def overload(folder: Path, seconds: float) -> Figures:
    """Twice the load that a server can bear, for *seconds*: it sheds the rest with 503, and recovers at once."""
    queue = 16
    release = tiny_release(folder, model=made(MAKE_SLOW, ".onnx"))
    env = {"MODELSHIP_MAX_QUEUE": str(queue)}
    part = min(30.0, max(2.0, seconds / 3))

    def calmly(server: Server, part: float = part) -> Tally:
        # As many as may wait: with that many at once it puts requests together as well as it ever can.
        load = Load(server.port, [PREDICT], connections=queue, seconds=part)
        load.start()
        return load.wait()

    with served(release, **env) as server, served(release, **env) as other:
        calm = calmly(server)
        _require(set(calm.statuses) == {200}, f"it sheds before the queue is full: {calm.statuses}")
        flood = Load(server.port, [PREDICT], rate=2 * calm.rate(), seconds=seconds)
        flood.start()
        tally = flood.wait()
        # Beside one that has borne nothing, in turns: what a shared machine gives changes from second to second.
        turns = [(calmly(server, part / 8), calmly(other, part / 8)) for _turn in range(8)]
        recovered = statistics.median(later.rate() / fresh.rate() for later, fresh in turns)
        figures = {
            "sustainable": calm.rate(),
            "offered": 2 * calm.rate(),
            "answered": tally.rate(),
            "shed": tally.rate(503),
            "p99_ms": tally.percentile(99) * 1e3,
            "shed_p99_ms": tally.percentile(99, 503) * 1e3,
            "calm_p50_ms": calm.percentile(50) * 1e3,
            "after": statistics.median(later.rate() for later, _fresh in turns),
            "fresh_server": statistics.median(fresh.rate() for _later, fresh in turns),
            "recovered": recovered,
            "statuses": dict(tally.statuses),
            "broken": tally.broken,
            "unsent": tally.unsent,
        }
        _require(set(tally.statuses) == {200, 503}, f"other answers than 200 and 503: {figures}")
        _require(tally.bare_503 == 0, "a 503 without Retry-After")
        _require(tally.broken == 0, f"requests without an answer: {figures}")
        # A core or so goes to the generator and to turning the others away.
        _require(tally.rate() > calm.rate() / 3, f"little is answered under overload: {figures}")
        # Who is let in waits for those in the queue and for no more; without a bound the last would wait half the trial.
        _require(tally.percentile(99) < 6 * (queue + 5) / tally.rate(), f"the queue is longer than agreed: {figures}")
        _require(tally.percentile(50, 503) < tally.percentile(50), f"to be turned away takes long: {figures}")
        statuses = {status for later, _fresh in turns for status in later.statuses}
        _require(statuses == {200}, f"it still sheds when the load is gone: {statuses}")
        _require(recovered > 0.5, f"it does not recover: {figures}")
        _require(server.stop() == 0, "it did not end well")
        return figures


@contextlib.contextmanager
def _slow_clients(server: Server, rpc_port: int, count: int) -> Iterator[dict[str, int]]:
    """Connections that send a byte now and then, of heads, of bodies and of gRPC calls; a cut one is made anew."""
    end = threading.Event()
    seen = {"opened": 0, "cut": 0}
    starts = (
        (server.port, b"POST /predict HTTP/1.1\r\nhost: x\r\nx-slow: "),
        (server.port, b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n{"),
        (
            rpc_port,
            raw.PREFACE
            + raw.frame(raw.SETTINGS)
            + raw.frame(raw.HEADERS, raw.END_HEADERS, 1, raw.block("ModelInfer"))
            + raw.frame(raw.DATA, 0, 1, b"\x00\x00\x00\x10\x00")
            + (5000).to_bytes(3, "big")
            + b"\x00\x00\x00\x00\x00\x01",
        ),
    )

    def drip() -> None:
        clients: list[socket.socket] = []
        while not end.wait(0.2):
            while len(clients) < count:
                port, start = starts[seen["opened"] % len(starts)]
                client = socket.create_connection(("127.0.0.1", port), timeout=20)
                client.sendall(start)
                client.setblocking(False)
                clients.append(client)
                seen["opened"] += 1
            for client in list(clients):
                try:
                    client.send(b"a")
                    gone = any(client.recv(65536) == b"" for _part in range(2))
                except BlockingIOError:
                    continue
                except OSError:
                    gone = True
                if gone:
                    seen["cut"] += 1
                    clients.remove(client)
                    client.close()
        for client in clients:
            client.close()

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        until(lambda: seen["opened"] >= count)
        yield seen
    finally:
        end.set()
        thread.join()


def slowloris(folder: Path, seconds: float, count: int = 300) -> Figures:
    """*count* connections that never finish a request, for *seconds*: the others are served as without them."""
    rpc_port = free_port()
    env = {"MODELSHIP_GRPC_PORT": str(rpc_port), "MODELSHIP_READ_SECONDS": "1"}
    with served(tiny_release(folder), **env) as server:

        def measured() -> Tally:
            load = Load(server.port, [PREDICT], connections=4, seconds=seconds)
            load.start()
            return load.wait()

        alone = measured()
        with _slow_clients(server, rpc_port, count) as seen:
            beside = measured()
            with raw.Client(rpc_port) as client:
                _require(client.call("ModelInfer", _infer_message()).status == 0, "gRPC is not answered")
            until(lambda: seen["cut"] >= count)
        figures = {
            "slow_connections": count,
            "cut": seen["cut"],
            "alone": alone.rate(),
            "beside": beside.rate(),
            "alone_p99_ms": alone.percentile(99) * 1e3,
            "beside_p99_ms": beside.percentile(99) * 1e3,
        }
        for tally in (alone, beside):
            _require(set(tally.statuses) == {200}, f"other answers than 200: {tally.statuses}")
            _require(tally.broken == tally.refused == 0, f"requests were lost: {tally.broken}, {tally.refused}")
        _require(beside.rate() > 0.5 * alone.rate(), f"others starve: {figures}")
        until(lambda: server.counts("modelship_connections")["modelship_connections"] <= 1)
        _require(server.stop() == 0, "it did not end well")
        return figures


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial with a name to be shown."""

    title: str
    run: Callable[[Path], Figures]
