"""Load over HTTP/1.1 on loopback that keeps account of every single request, whatever happens to the server meanwhile.

One thread with an epoll loop. Closed loop: each of N connections sends its next request when it has its answer. Open loop:
requests begin at a fixed rate whether or not the ones before are answered, as the world outside does it.
"""

from __future__ import annotations

import collections
import dataclasses
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence

#: Connections that the open loop uses at most; more requests than that cannot be under way.
MOST = 900


@dataclasses.dataclass
class Tally:
    """What became of the requests so far; read while it grows.

    :ivar statuses: answers by HTTP status.
    :ivar broken: requests sent whose connection ended before the answer was there.
    :ivar refused: connections that could not be made.
    :ivar unsent: requests of the open loop that found no connection free.
    :ivar seconds: by status, how long the answers took.
    """

    statuses: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)
    broken: int = 0
    refused: int = 0
    unsent: int = 0
    seconds: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0
    bare_503: int = 0

    @property
    def answered(self) -> int:
        return self.statuses.total()

    def rate(self, status: int = 200) -> float:
        """Answers of a status, a second."""
        return self.statuses[status] / ((self.ended or time.perf_counter()) - self.began)

    def percentile(self, percent: float, status: int = 200) -> float:
        """Seconds within which so many of the answers came."""
        found = sorted(self.seconds.get(status, ()))
        return found[min(len(found) - 1, int(len(found) * percent / 100))] if found else float("nan")


class _Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""
        self.sent: float | None = None


def request(path: str, body: bytes, **headers: str) -> bytes:
    """One POST as it goes over the wire."""
    given = {"host": "127.0.0.1", "content-type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**given, "content-length": str(len(body))}.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


class Load(threading.Thread):
    """Runs from :meth:`start` until *seconds* are over, *most* answers are there, or :meth:`stop`.

    :param requests: sent in turn.
    :param rate: requests a second of the open loop; ``None``: closed loop.
    :param keep_times: keep how long each answer took.
    """

    def __init__(
        self,
        port: int,
        requests: Sequence[bytes],
        *,
        connections: int = 8,
        seconds: float = float("inf"),
        most: float = float("inf"),
        rate: float | None = None,
        keep_times: bool = True,
    ) -> None:
        super().__init__(daemon=True)
        self.tally = Tally()
        self.failure: BaseException | None = None
        self._port, self._requests, self._connections = port, requests, connections
        self._seconds, self._most, self._rate, self._keep = seconds, most, rate, keep_times
        self._stop_asked = threading.Event()
        self._turn = 0
        self._open: dict[int, _Connection] = {}
        self._free: list[int] = []
        self._poll = select.epoll()

    def stop(self) -> Tally:
        """Send nothing more, wait for what is under way, and return the account."""
        self._stop_asked.set()
        return self.wait()

    def wait(self) -> Tally:
        """Wait for the end, and return the account."""
        self.join()
        if self.failure is not None:
            raise self.failure
        return self.tally

    def run(self) -> None:
        try:
            self._run()
        except BaseException as exc:  # noqa: BLE001 - raised where it is waited for
            self.failure = exc
        finally:
            for connection in self._open.values():
                connection.socket.close()
            self._poll.close()
            self.tally.ended = time.perf_counter()

    def _run(self) -> None:
        tally = self.tally
        tally.began = time.perf_counter()
        due = tally.began
        while True:
            now = time.perf_counter()
            going = not (
                self._stop_asked.is_set() or now - tally.began >= self._seconds or tally.answered >= self._most
            )
            if going and self._rate is None:
                while self._free:
                    self._send(self._free.pop())
                while len(self._open) < self._connections and self._connect():
                    self._send(self._free.pop())
            elif going:
                while due <= now:
                    due += 1 / self._rate
                    if self._free or (len(self._open) < MOST and self._connect()):
                        self._send(self._free.pop())
                    else:
                        tally.unsent += 1
            elif len(self._free) == len(self._open):
                return
            pause = 0.05 if self._rate is None else max(0.0, min(0.05, due - time.perf_counter()))
            for number, _events in self._poll.poll(pause):
                self._receive(number)
            if not going and now - tally.began > self._seconds + 60:
                raise TimeoutError(f"{len(self._open) - len(self._free)} requests got no answer within a minute")

    def _connect(self) -> bool:
        try:
            connection = _Connection(self._port)
        except OSError:
            self.tally.refused += 1
            time.sleep(0.01)
            return False
        number = connection.socket.fileno()
        self._open[number] = connection
        self._free.append(number)
        self._poll.register(number, select.EPOLLIN)
        return True

    def _send(self, number: int) -> None:
        connection = self._open[number]
        self._turn += 1
        connection.sent = time.perf_counter()
        try:
            connection.socket.sendall(self._requests[self._turn % len(self._requests)])
        except OSError:
            self._drop(number)

    def _drop(self, number: int) -> None:
        connection = self._open.pop(number)
        if connection.sent is not None:
            self.tally.broken += 1
        else:
            self._free.remove(number)
        self._poll.unregister(number)
        connection.socket.close()

    def _receive(self, number: int) -> None:
        connection = self._open.get(number)
        if connection is None:
            return
        try:
            chunk = connection.socket.recv(262144)
        except OSError:
            chunk = b""
        if not chunk:
            self._drop(number)
            return
        data = connection.data = connection.data + chunk
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = data[:end].lower()
        at = head.index(b"\r\ncontent-length:") + 17
        if len(data) < end + 4 + int(head[at:].split(b"\r\n", 1)[0]):
            return
        status, tally = int(data[9:12]), self.tally
        tally.statuses[status] += 1
        if self._keep and connection.sent is not None:
            tally.seconds.setdefault(status, []).append(time.perf_counter() - connection.sent)
        if status == 503 and b"\r\nretry-after:" not in head:
            tally.bare_503 += 1
        connection.data, connection.sent = b"", None
        self._free.append(number)
        if b"\r\nconnection: close" in head:
            self._drop(number)


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until the *condition* holds.

    :raises TimeoutError: it does not within *seconds*.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} seconds")
        time.sleep(0.02)
