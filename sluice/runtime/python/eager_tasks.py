"""Runs a coroutine's first step at once, and needs a task of its own only if it suspends.

Python 3.12 has this as asyncio.Task(eager_start=True). Before, a coroutine stepped by hand has no
current task, and asyncio.timeout(), task groups and anyio refuse to work. So the step is taken in
the name of a spare task, one that was made beforehand and waits: if the coroutine ends, the spare
is as good as new; if it suspends, the spare takes it over and is its task from then on.
"""

import asyncio
import sys
import types
from asyncio.tasks import _enter_task, _leave_task  # documented for those who extend asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")
# More than can be taken over in one turn of the loop gain nothing; the rest get ordinary tasks.
SPARES: Final = 8


class Ended(Generic[T]):
    """What a coroutine came to in its first step: a value or an error."""

    __slots__ = ("error", "value")

    def __init__(self, value: T | None, error: BaseException | None) -> None:
        self.value = value
        self.error = error


class EagerTaskFactory:
    """Starts coroutines on a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ready: list[ReusableTask] = []
        self._made = 0

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T] | Ended[T]":
        """Its task when it suspended, else how it ended."""
        if sys.version_info >= (3, 12):
            return asyncio.Task(coroutine, loop=self._loop, eager_start=True)
        if not self._ready:
            self._make_reusable()
            return self._loop.create_task(coroutine)
        return self._step(self._ready.pop(), coroutine)

    def close(self) -> None:
        """End the spare tasks."""
        for reusable in self._ready:
            reusable.task.cancel()
        self._ready.clear()

    def _step(
        self, reusable: "ReusableTask", coroutine: Coroutine[Any, Any, T]
    ) -> "asyncio.Task[T] | Ended[T]":
        _enter_task(self._loop, reusable.task)
        try:
            waited_for = reusable.context.run(coroutine.send, None)
        except StopIteration as end:
            ended: Ended[T] = Ended(end.value, None)
        except BaseException as error:  # noqa: BLE001 - it is the coroutine's outcome, as in a task
            ended = Ended(None, error)
        else:
            reusable.take_over(coroutine, waited_for)
            self._made -= 1
            self._make_reusable()
            return reusable.task
        finally:
            _leave_task(self._loop, reusable.task)
        if reusable.is_as_new():
            self._ready.append(reusable)
        else:
            reusable.task.cancel()
            self._made -= 1
        return ended

    def _make_reusable(self) -> None:
        if self._made < SPARES:
            self._made += 1
            ReusableTask(self._loop, self._ready.append)


class ReusableTask:
    """A task that waits for a coroutine to take over."""

    __slots__ = ("_fresh", "_handover", "_work", "context", "task")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, announce: "Callable[[ReusableTask], None]"
    ) -> None:
        """announce: told when the task waits, a turn of the loop later."""
        self._fresh = copy_context()
        self.context: Context = self._fresh.copy()
        self._work: tuple[Coroutine[Any, Any, Any], Any] | None = None
        self._handover: asyncio.Future[None] = loop.create_future()
        self.task: asyncio.Task[Any] = loop.create_task(self._run(announce), context=self.context)

    def take_over(self, coroutine: Coroutine[Any, Any, Any], waited_for: object) -> None:
        """Go on with a coroutine that has suspended in this task's name."""
        self._work = (coroutine, waited_for)
        if not self._handover.done():
            self._handover.set_result(None)

    def is_as_new(self) -> bool:
        """Whether nothing of the coroutine that ended is left: no variable, no cancellation."""
        return not self._handover.done() and self.context == self._fresh

    async def _run(self, announce: "Callable[[ReusableTask], None]") -> Any:
        announce(self)
        cancelled: BaseException | None = None
        try:
            await self._handover
        except asyncio.CancelledError as error:
            if self._work is None:
                raise
            # Meant for the coroutine: it was cancelled between its first step and now.
            cancelled = error
        if self._work is None:
            raise RuntimeError("a spare task was woken without work")
        coroutine, waited_for = self._work
        return await _go_on(coroutine, waited_for, cancelled)


@types.coroutine
def _go_on(
    coroutine: Coroutine[Any, Any, T], waited_for: Any, error: BaseException | None
) -> Generator[Any, None, T]:
    """Drive a coroutine on from its first suspension; error: thrown into it right away."""
    try:
        while True:
            if error is None:
                try:
                    yield waited_for
                except BaseException as thrown:  # noqa: BLE001 - for the coroutine to see
                    error = thrown
            if error is None:
                waited_for = coroutine.send(None)
            else:
                thrown_error, error = error, None
                waited_for = coroutine.throw(thrown_error)
    except StopIteration as end:
        value: T = end.value
        return value
