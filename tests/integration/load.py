"""Clients that ask for predictions while something happens to the endpoint, and count what is lost."""

from __future__ import annotations

import http.client
import json
import threading
import time
import typing as t


class Load:
    """Asks ``/predict`` without a pause, on connections that are kept and on new ones; counts answers and losses.

    A kept connection is opened again only where the server said that it would close it; all else is a loss.

    :param addresses: host and port, dealt out to the clients in turn.
    :param body: the request.
    :param key: field of an answer that tells who gave it; an answer without it is a loss.
    :param kept: clients that keep their connection.
    :param new: clients that open one for each request.
    """

    def __init__(
        self, addresses: t.Sequence[tuple[str, int]], body: object, key: str = "release", *, kept: int = 8, new: int = 0
    ) -> None:
        #: how many answers of whom
        self.answers: dict[str, int] = {}
        self.losses: list[str] = []
        #: how many answers came on connections of their own
        self.connections = 0
        self._body = json.dumps(body).encode()
        self._key = key
        self._begun = time.monotonic()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(addresses[number % len(addresses)], number < kept))
            for number in range(kept + new)
        ]

    def __enter__(self) -> t.Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(30)

    def wait_for(self, who: str, count: int) -> None:
        """Wait until *who* has given *count* more answers, 30 s at most."""
        wanted = self.answers.get(who, 0) + count
        deadline = time.monotonic() + 30
        while self.answers.get(who, 0) < wanted and time.monotonic() < deadline:
            time.sleep(0.02)

    def _ask(self, address: tuple[str, int], kept: bool) -> None:
        connection = http.client.HTTPConnection(*address, timeout=10)
        headers = {"content-type": "application/json", **({} if kept else {"connection": "close"})}
        while not self._end.is_set():
            try:
                connection.request("POST", "/predict", self._body, headers)
                answer = connection.getresponse()
                value = json.loads(answer.read())
                if answer.status != 200:
                    raise ValueError(f"{answer.status}: {value}")
                with self._lock:
                    self.answers[value[self._key]] = self.answers.get(value[self._key], 0) + 1
                    self.connections += not kept
            except (OSError, http.client.HTTPException, ValueError, KeyError) as exc:
                since = time.monotonic() - self._begun
                kind = "kept" if kept else "new"
                self.losses.append(f"after {since:.2f} s, {kind} connection to {address[0]}: {exc!r}")
                connection.close()
            time.sleep(0.002)
        connection.close()
