from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="the serving runtime's dependencies are not installed here")
pytest.importorskip("msgspec", reason="the serving runtime's dependencies are not installed here")

from modelship_serving.batching import INLINE_SECONDS, Plan, Queue
from modelship_serving.budget import Budget
from modelship_serving.errors import RequestError

FAST = 1e-5
SLOW = 10 * INLINE_SECONDS


class Meter:
    def __init__(self) -> None:
        self.batches: list[int] = []
        self.reasons: list[str] = []

    def batch(self, size: int, queue_ns: int) -> None:
        assert queue_ns >= 0
        self.batches.append(size)

    def rejected(self, reason: str) -> None:
        self.reasons.append(reason)


class Bench:
    """A queue in front of a model that gives ``2 x`` and ``-x``, and what it was given."""

    def __init__(
        self,
        plan: Plan,
        max_waiting: int = 256,
        run: Callable[[list[Any]], list[Any]] | None = None,
        most_bytes: int = 1 << 30,
    ) -> None:
        self.runs: list[list[float]] = []
        self.threads: set[int] = set()
        self.seen: list[tuple[list[Any], list[Any]]] = []
        self.meter = Meter()
        self.gate: threading.Event | None = None
        self._model = run or (lambda inputs: [2 * inputs[0], -inputs[0]])
        self.budget = Budget(most_bytes, self.meter.rejected)
        self.queue = Queue(self._run, lambda i, o: self.seen.append((i, o)), plan, max_waiting, self.meter, self.budget)

    def _run(self, inputs: list[Any]) -> list[Any]:
        if self.gate is not None:
            assert self.gate.wait(20)
        self.threads.add(threading.get_ident())
        self.runs.append(inputs[0].reshape(-1).tolist())
        return self._model(inputs)

    def ask(self, *values: float, deadline: float | None = None) -> asyncio.Future[list[Any]]:
        return self.queue.submit([np.array(values, "float32").reshape(-1, 1)], len(values), deadline)


def right(values: list[float], outputs: list[Any]) -> bool:
    return [output.reshape(-1).tolist() for output in outputs] == [[2 * v for v in values], [-v for v in values]]


def play(scene: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scene, 60))


@pytest.mark.parametrize("single", [FAST, SLOW])
@pytest.mark.parametrize("max_batch", [1, 8, 32])
@pytest.mark.parametrize("delay", [0.0, 0.002])
def test_each_request_gets_the_outputs_of_its_own_samples(single: float, max_batch: int, delay: float):
    async def scene() -> None:
        bench = Bench(Plan(single, single / 4, max_batch, delay), 10_000)
        generator = random.Random(max_batch)  # noqa: S311

        async def client(number: int) -> None:
            for turn in range(12):
                size = generator.choice([1, 1, 1, 2, 7, 8, 9, 33, 200])
                values = [float(number * 10_000 + turn * 500 + i) for i in range(size)]
                if generator.random() < 0.2:
                    await asyncio.sleep(generator.random() / 1000)
                assert right(values, await bench.ask(*values))

        await asyncio.gather(*map(client, range(25)))
        assert bench.queue.idle
        assert bench.budget.held == 0
        assert sum(bench.meter.batches) == sum(len(run) for run in bench.runs)
        assert sum(len(inputs[0]) for inputs, _outputs in bench.seen) == sum(bench.meter.batches)
        assert all(len(i[0]) == len(o[0]) == len(o[1]) for i, o in bench.seen)
        limit = Plan(single, single / 4, max_batch).slice
        assert max(bench.meter.batches) <= limit
        assert (threading.get_ident() in bench.threads) == (single == FAST)

    play(scene())


def test_what_arrives_together_runs_together_up_to_the_batch():
    async def scene() -> None:
        bench = Bench(Plan(FAST, FAST, 8))
        answers = await asyncio.gather(*(bench.ask(float(i)) for i in range(20)))
        assert [len(run) for run in bench.runs] == [8, 8, 4]
        assert all(right([float(i)], answer) for i, answer in enumerate(answers))

    play(scene())


def test_without_batches_each_runs_alone():
    async def scene() -> None:
        bench = Bench(Plan(FAST, FAST, 1))
        await asyncio.gather(*(bench.ask(float(i), float(i)) for i in range(5)))
        assert [len(run) for run in bench.runs] == [2] * 5

    play(scene())


def test_a_delay_waits_for_company_but_not_once_the_batch_is_full():
    async def scene() -> None:
        bench = Bench(Plan(FAST, FAST, 4, 30.0))
        first = bench.ask(1.0)
        await asyncio.sleep(0.01)
        assert not bench.runs
        rest = [bench.ask(float(i)) for i in (2, 3, 4)]
        await asyncio.gather(first, *rest)
        assert bench.runs == [[1, 2, 3, 4]]

    play(scene())


def test_a_large_request_holds_nobody_up():
    async def scene() -> None:
        bench = Bench(Plan(SLOW, SLOW, 1))
        order: list[str] = []
        large = bench.ask(*map(float, range(50)))
        small = [bench.ask(1000.0 + i) for i in range(5)]
        large.add_done_callback(lambda _f: order.append("large"))
        for one in small:
            one.add_done_callback(lambda _f: order.append("small"))
        assert right(list(map(float, range(50))), await large)
        await asyncio.gather(*small)
        assert order == ["small"] * 5 + ["large"]
        # And it is not starved itself: it had a turn before and after each of them went.
        assert bench.runs[0][0] == 0
        assert sum(run[0] < 1000 for run in bench.runs[:7]) >= 2

    play(scene())


def test_the_queue_is_bounded():
    async def scene() -> None:
        bench = Bench(Plan(SLOW, SLOW, 1), max_waiting=3)
        bench.gate = threading.Event()
        running = bench.ask(0.0)
        await asyncio.sleep(0.05)  # in the thread by now
        waiting = [bench.ask(float(i)) for i in range(3)]
        with pytest.raises(RequestError) as caught:
            bench.ask(9.0)
        assert caught.value.status == 503
        assert caught.value.header == ("retry-after", "1")
        bench.gate.set()
        await asyncio.gather(running, *waiting)
        assert bench.meter.reasons == ["queue_full"]
        assert right([5.0], await bench.ask(5.0)), "it recovers at once"

    play(scene())


def test_the_queue_is_bounded_in_bytes():
    """Few requests may hold a lot: 4 bytes for each number here, and 1000 bytes are all that may wait."""

    async def scene() -> None:
        bench = Bench(Plan(SLOW, SLOW, 1), most_bytes=1000)
        bench.gate = threading.Event()
        running = bench.ask(0.0)
        await asyncio.sleep(0.05)  # in the thread by now, and counted until it is done
        large = bench.ask(*[1.0] * 200)
        with pytest.raises(RequestError, match="overloaded: what waits takes") as caught:
            bench.ask(*[2.0] * 50)
        assert (caught.value.status, caught.value.header and caught.value.header[0]) == (503, "retry-after")
        small = bench.ask(3.0)
        large.cancel()
        again = bench.ask(*[2.0] * 200)  # the client of the large one left
        late = bench.ask(4.0, deadline=time.monotonic() + 0.02)
        with pytest.raises(RequestError):
            await late
        assert bench.budget.held == 4 * (1 + 1 + 200)
        bench.gate.set()
        await asyncio.gather(running, small, again)
        assert bench.meter.reasons == ["queue_full", "deadline"]
        assert bench.budget.held == 0

    play(scene())


def test_one_request_alone_may_be_as_large_as_it_is():
    async def scene() -> None:
        bench = Bench(Plan(SLOW, FAST, 1), most_bytes=1000)
        values = list(map(float, range(5000)))
        assert right(values, await bench.ask(*values))

    play(scene())


def test_an_expired_request_is_told_at_once_and_never_run():
    async def scene() -> None:
        bench = Bench(Plan(SLOW, SLOW, 1))
        bench.gate = threading.Event()
        running = bench.ask(0.0)
        await asyncio.sleep(0.05)
        late = bench.ask(1.0, deadline=time.monotonic() + 0.05)
        patient = bench.ask(2.0, deadline=time.monotonic() + 60)
        with pytest.raises(RequestError) as caught:
            await late
        assert caught.value.status == 504
        assert not running.done(), "told before the model was free"
        with pytest.raises(RequestError):
            bench.ask(3.0, deadline=time.monotonic() - 1)
        bench.gate.set()
        await asyncio.gather(running, patient)
        assert bench.runs == [[0], [2]]
        assert bench.meter.reasons == ["deadline"] * 2

    play(scene())


def test_a_request_whose_client_left_is_never_run():
    async def scene() -> None:
        bench = Bench(Plan(SLOW, SLOW, 8))
        bench.gate = threading.Event()
        running = bench.ask(0.0)
        await asyncio.sleep(0.05)
        waiting = [bench.ask(float(i)) for i in (1, 2, 3)]
        waiting[1].cancel()
        running.cancel()  # its run goes on, its answer is nobody's
        bench.gate.set()
        await asyncio.gather(waiting[0], waiting[2])
        assert bench.runs == [[0], [1, 3]]

    play(scene())


@pytest.mark.parametrize("single", [FAST, SLOW])
def test_only_the_one_at_fault_fails(single: float):
    def run(inputs: list[Any]) -> list[Any]:
        if (inputs[0] == 13).any():
            raise ValueError("thirteen")
        return [2 * inputs[0], -inputs[0]]

    async def scene() -> None:
        bench = Bench(Plan(single, single, 8), run=run)
        asked = [bench.ask(float(i)) for i in range(10, 16)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert bench.budget.held == 0
        for value, answer in zip(range(10, 16), answers, strict=True):
            assert isinstance(answer, ValueError) if value == 13 else right([float(value)], answer)
        assert right([1.0], await bench.ask(1.0))

    play(scene())
