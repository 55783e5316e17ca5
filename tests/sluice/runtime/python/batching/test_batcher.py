import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest

from sluice.runtime.python.batching import BatchError, ExpiredError, QueueFullError, batch
from sluice.runtime.python.batching.batch_sizer import BatchSizer
from sluice.runtime.python.batching.batcher import Batcher


class Gate:
    """A batched function under the test's hand: it records batches and waits to be let through."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.open = asyncio.Event()

    async def run(self, rows: list[Any]) -> Sequence[Any]:
        self.batches.append(rows)
        await self.open.wait()
        if "bad" in rows:
            raise ValueError("bad row")
        return [f"{row}!" for row in rows]


def batcher(gate: Gate, max_rows: int = 10, waiting: int = 100) -> Batcher:
    return Batcher("test", gate.run, BatchSizer(max_rows, 10.0), 1, waiting)


async def queued(subject: Batcher, *calls: list[Any], key: Any = None) -> list[asyncio.Task[Any]]:
    """Tasks of `calls`, each of which has reached the queue."""
    tasks = [asyncio.create_task(subject.call(rows, key)) for rows in calls]
    await asyncio.sleep(0)
    return tasks


async def test_lone_caller_runs_at_once() -> None:
    gate = Gate()
    gate.open.set()
    assert await batcher(gate).call(["a", "b"]) == ["a!", "b!"]
    assert gate.batches == [["a", "b"]]


async def test_calls_that_come_during_a_run_share_the_next_one_in_their_order() -> None:
    gate = Gate()
    subject = batcher(gate)
    first = await queued(subject, ["a"])
    rest = await queued(subject, ["b", "c"], ["d"])
    gate.open.set()
    assert await asyncio.gather(*first, *rest) == [["a!"], ["b!", "c!"], ["d!"]]
    assert gate.batches == [["a"], ["b", "c", "d"]]


async def test_calls_of_different_keys_never_share_a_run() -> None:
    gate = Gate()
    subject = batcher(gate)
    tasks = await queued(subject, ["a"])
    tasks += await queued(subject, ["b"], key=1)
    tasks += await queued(subject, ["c"], key=2)
    tasks += await queued(subject, ["d"], key=1)
    gate.open.set()
    assert await asyncio.gather(*tasks) == [["a!"], ["b!"], ["c!"], ["d!"]]
    assert gate.batches == [["a"], ["b", "d"], ["c"]]


async def test_bad_row_fails_alone() -> None:
    gate = Gate()
    subject = batcher(gate)
    tasks = await queued(subject, ["a"])
    tasks += await queued(subject, ["b"], ["bad"], ["c"])
    gate.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[1] == ["b!"]
    assert isinstance(results[2], ValueError)
    assert results[3] == ["c!"]


async def test_cancelled_call_is_not_run_and_harms_no_other() -> None:
    gate = Gate()
    subject = batcher(gate)
    first = await queued(subject, ["a"])
    gone, kept = await queued(subject, ["gone"], ["kept"])
    gone.cancel()
    await asyncio.sleep(0)
    gate.open.set()
    assert await asyncio.gather(*first, kept) == [["a!"], ["kept!"]]
    assert gate.batches == [["a"], ["kept"]]


async def test_call_cancelled_while_it_runs_leaves_the_others_their_answers() -> None:
    gate = Gate()
    subject = batcher(gate)
    await queued(subject, ["a"])
    gone, kept = await queued(subject, ["gone"], ["kept"])
    gate.open.set()
    await asyncio.sleep(0)
    gone.cancel()
    assert await kept == ["kept!"]


async def test_expired_call_is_refused_without_a_run() -> None:
    gate = Gate()
    subject = batcher(gate)
    first = await queued(subject, ["a"])
    late = asyncio.create_task(subject.call(["late"], deadline=time.monotonic() - 1))
    await asyncio.sleep(0)
    gate.open.set()
    with pytest.raises(ExpiredError):
        await late
    await asyncio.gather(*first)
    assert gate.batches == [["a"]]


async def test_full_queue_refuses_at_once() -> None:
    gate = Gate()
    subject = batcher(gate, waiting=3)
    tasks = await queued(subject, ["a"])
    tasks += await queued(subject, ["b", "c"])
    with pytest.raises(QueueFullError, match="2 rows wait, at most 3"):
        await subject.call(["d", "e"])
    gate.open.set()
    await asyncio.gather(*tasks)


async def test_call_larger_than_a_batch_runs_in_chunks() -> None:
    gate = Gate()
    gate.open.set()
    rows = [str(number) for number in range(25)]
    assert await batcher(gate).call(rows) == [f"{row}!" for row in rows]
    assert [len(rows) for rows in gate.batches] == [10, 10, 5]


async def test_wrong_number_of_results_is_named() -> None:
    @batch(max_rows=4)
    def forgetful(rows: list[Any]) -> list[Any]:
        return rows[1:]

    with pytest.raises(BatchError, match="forgetful returned 1 results for 2 rows"):
        await forgetful([1, 2])


async def test_sync_function_runs_off_the_loop() -> None:
    @batch(max_rows=8, latency="50ms")
    def double(rows: list[Any]) -> list[Any]:
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()
        return [row * 2 for row in rows]

    answers = await asyncio.gather(*(double([number]) for number in range(20)))
    assert answers == [[number * 2] for number in range(20)]


async def test_crowd_that_comes_back_is_run_as_one() -> None:
    sizes: list[int] = []

    @batch(max_rows=64)
    async def slow(rows: list[Any]) -> list[Any]:
        sizes.append(len(rows))
        await asyncio.sleep(0.01)
        return rows

    async def caller() -> None:
        for number in range(10):
            await slow([number])

    await asyncio.gather(*(caller() for _ in range(16)))
    assert max(sizes) == 16
    assert sum(sizes) / len(sizes) > 8
