import asyncio
import threading
from typing import Any

import pytest

from sluice.runtime.python.threads import ThreadPool


async def test_result_and_error_are_told_on_the_loop() -> None:
    pool = ThreadPool(2, asyncio.get_running_loop())
    assert await pool.run(lambda: threading.current_thread().name) == "handler-1"
    with pytest.raises(ValueError, match="no"):
        await pool.run(lambda: int("no"))
    assert pool.busy == 0


async def test_jobs_beyond_the_size_wait_and_a_waiting_one_can_be_cancelled() -> None:
    pool = ThreadPool(1, asyncio.get_running_loop())
    gate, begun = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    results: list[Any] = []

    def first() -> str:
        loop.call_soon_threadsafe(begun.set)
        gate.wait(60)
        return "first"

    running = pool.submit(first, lambda result, error: results.append(result))
    waiting = pool.submit(
        lambda: results.append("ran"), lambda result, error: results.append(result)
    )
    await asyncio.wait_for(begun.wait(), 60)
    assert not running.cancel()
    assert waiting.cancel()
    assert pool.busy == 2
    gate.set()
    assert await pool.run(lambda: "last") == "last"
    assert results == ["first"]
    assert pool.busy == 0


async def test_threads_are_started_only_when_needed() -> None:
    pool = ThreadPool(8, asyncio.get_running_loop())
    names = {await pool.run(lambda: threading.current_thread().name) for _ in range(5)}
    assert names == {"handler-1"}


async def test_stop_iteration_does_not_vanish() -> None:
    pool = ThreadPool(1, asyncio.get_running_loop())
    with pytest.raises(RuntimeError, match="StopIteration"):
        await pool.run(lambda: next(iter([])))
