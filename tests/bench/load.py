"""A bounded closed-loop load generator: N connections, each sends the next request when its answer is there.

Every answer is read in full and its status checked; latencies are kept one by one, so the percentiles are exact. It speaks
to loopback only. One thread with an epoll loop sends prepared bytes and reads until the declared length: about 20 µs of
processor time a request, well below what any server here needs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import select
import socket
import sys
import time


@dataclasses.dataclass(frozen=True)
class Result:
    """Seconds, but for the counts and the rate (requests per second)."""

    requests: int
    failures: int
    rate: float
    p50: float
    p99: float
    worst: float


class LoadError(Exception):
    """The server closed a connection or answered something that is no HTTP."""


def run(port: int, body: bytes, *, path: str = "/predict", connections: int = 8, seconds: float = 5.0) -> Result:
    """POST *body* over and over for *seconds* to 127.0.0.1:*port*.

    Answers with another status than 200 count as failures.

    :raises LoadError: a connection was closed, or an answer has no Content-Length.
    """
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    latencies: list[float] = []
    failures = 0
    clients: dict[int, socket.socket] = {}
    received: dict[int, bytes] = {}
    sent: dict[int, float] = {}
    with select.epoll() as events:
        try:
            for _ in range(connections):
                client = _connect(port)
                clients[client.fileno()] = client
                events.register(client, select.EPOLLIN)
            for number, client in clients.items():
                sent[number] = time.perf_counter()
                client.sendall(request)
            began = time.perf_counter()
            end = began + seconds
            waiting = connections
            while waiting:
                for ready, _ in events.poll(30) or _stalled():
                    number = ready
                    client = clients[number]
                    chunk = client.recv(65536)
                    if not chunk:
                        raise LoadError("the server closed a connection that was in use")
                    data = received.pop(number, b"") + chunk
                    answer = _complete(data)
                    if answer is None:
                        received[number] = data
                        continue
                    status, closing = answer
                    now = time.perf_counter()
                    latencies.append(now - sent[number])
                    failures += status != b"200"
                    if closing or now >= end:
                        events.unregister(number)
                        clients.pop(number).close()
                        waiting -= 1
                    if now >= end:
                        continue
                    if closing:
                        # What a client of such a server has to do, so its time counts.
                        client = _connect(port)
                        number = client.fileno()
                        clients[number] = client
                        events.register(client, select.EPOLLIN)
                        waiting += 1
                    sent[number] = now
                    client.sendall(request)
            took = time.perf_counter() - began
        finally:
            for client in clients.values():
                client.close()
    latencies.sort()
    count = len(latencies)
    return Result(
        requests=count,
        failures=failures,
        rate=count / took,
        p50=latencies[count // 2],
        p99=latencies[min(count - 1, count * 99 // 100)],
        worst=latencies[-1],
    )


def _stalled() -> list[tuple[int, int]]:
    raise LoadError("no answer for 30 seconds")


def _connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def _complete(data: bytes) -> tuple[bytes, bool] | None:
    """Return the status code, and whether the server closes the connection, when *data* is a whole answer."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise LoadError(f"an answer without Content-Length: {data[:80]!r}")
    length = int(head[at + 17 :].split(b"\r\n", 1)[0])
    if len(data) < end + 4 + length:
        return None
    return data[9:12], b"\r\nconnection: close" in head


def main() -> int:
    """Print one JSON object with the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("body", help="file with the request's body")
    parser.add_argument("--path", default="/predict")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with open(options.body, "rb") as stream:
        body = stream.read()
    result = run(options.port, body, path=options.path, connections=options.connections, seconds=options.seconds)
    print(json.dumps(dataclasses.asdict(result)))
    return 1 if result.failures else 0


if __name__ == "__main__":
    sys.exit(main())
