import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from sluice.runtime.python.runners import MAX_REUSABLE_TASKS, EagerTaskFactory, Ended

NAME: ContextVar[str] = ContextVar("name", default="nobody")


async def task_factory() -> EagerTaskFactory:
    """A factory whose first reusable task waits."""
    made = EagerTaskFactory(asyncio.get_running_loop())
    await outcome(made.start(asyncio.sleep(0)))
    await asyncio.sleep(0)
    return made


async def outcome(started: "asyncio.Task[Any] | Ended[Any]") -> Any:
    if isinstance(started, Ended):
        if started.error is not None:
            raise started.error
        return started.value
    return await started


def from_callback(call: Callable[[], Any]) -> Awaitable[Any]:
    """What `call` returns from a callback of the loop, where no task runs."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def run() -> None:
        try:
            future.set_result(call())
        except RuntimeError as error:
            future.set_exception(error)

    loop.call_soon(run)
    return future


async def start(made: EagerTaskFactory, coroutine: Any) -> Any:
    return await from_callback(lambda: made.start(coroutine))


async def test_coroutine_that_does_not_suspend_ends_at_once() -> None:
    async def quick() -> int:
        return 7

    made = await task_factory()
    for _ in range(3):
        started = await start(made, quick())
        assert isinstance(started, Ended) or started.done()
        assert await outcome(started) == 7
    made.close()


async def test_error_in_the_first_step_is_the_outcome() -> None:
    async def fails() -> None:
        raise KeyError("x")

    made = await task_factory()
    with pytest.raises(KeyError):
        await outcome(await start(made, fails()))
    made.close()


async def test_coroutine_that_suspends_goes_on_in_one_and_the_same_task() -> None:
    async def slow() -> tuple[Any, Any, Any]:
        first = asyncio.current_task()
        await asyncio.sleep(0)
        second = asyncio.current_task()
        await asyncio.sleep(0.001)
        return first, second, asyncio.current_task()

    made = await task_factory()
    started = await start(made, slow())
    assert isinstance(started, asyncio.Task)
    assert await started == (started, started, started)
    made.close()


async def test_timeout_and_task_group_work_from_the_first_step() -> None:
    async def timed() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
        return "never"

    async def at_once() -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
        return "never"

    async def grouped() -> list[int]:
        async def one(number: int) -> int:
            await asyncio.sleep(0)
            return number

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number)) for number in range(3)]
        return [task.result() for task in tasks]

    made = await task_factory()
    assert await outcome(await start(made, timed())) == "timed out"
    await asyncio.sleep(0)
    assert await outcome(await start(made, at_once())) == "timed out"
    await asyncio.sleep(0)
    assert await outcome(await start(made, grouped())) == [0, 1, 2]
    made.close()


@pytest.mark.parametrize("turns", [0, 1, 2])
async def test_cancel_reaches_the_coroutine_whenever_it_comes(turns: int) -> None:
    seen: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    made = await task_factory()

    def start_and_cancel() -> Any:
        task = made.start(slow())
        assert isinstance(task, asyncio.Task)
        if not turns:
            task.cancel()
        return task

    task = await from_callback(start_and_cancel)
    for _ in range(turns):
        await asyncio.sleep(0)
    if turns:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["cancelled"]
    made.close()


async def test_coroutine_that_cancels_itself_in_its_first_step_is_cancelled() -> None:
    async def suicidal() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(10)

    made = await task_factory()
    with pytest.raises(asyncio.CancelledError):
        await outcome(await start(made, suicidal()))
    made.close()


async def test_cancellation_of_a_coroutine_that_ended_harms_no_later_one() -> None:
    async def leaves_a_cancel() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "ended"

    async def slow() -> str:
        await asyncio.sleep(0.001)
        return "whole"

    made = await task_factory()
    await outcome(await start(made, leaves_a_cancel()))
    for _ in range(3):
        await asyncio.sleep(0)
        assert await outcome(await start(made, slow())) == "whole"
    made.close()


async def test_context_variable_of_one_coroutine_is_not_seen_by_the_next() -> None:
    async def sets(name: str) -> str:
        before = NAME.get()
        NAME.set(name)
        return before

    made = await task_factory()
    for name in ("a", "b", "c", "d"):
        assert await outcome(await start(made, sets(name))) == "nobody"
        await asyncio.sleep(0)
    made.close()


async def test_context_variable_stays_over_a_suspension() -> None:
    async def sets() -> str:
        NAME.set("mine")
        await asyncio.sleep(0)
        return NAME.get()

    made = await task_factory()
    assert await outcome(await start(made, sets())) == "mine"
    made.close()


async def test_many_that_suspend_in_one_turn_all_end() -> None:
    async def slow(number: int) -> int:
        await asyncio.sleep(0)
        return number

    made = await task_factory()
    for _ in range(3):
        started = await from_callback(
            lambda: [made.start(slow(number)) for number in range(MAX_REUSABLE_TASKS * 4)]
        )
        assert [await outcome(one) for one in started] == list(range(MAX_REUSABLE_TASKS * 4))
    made.close()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
