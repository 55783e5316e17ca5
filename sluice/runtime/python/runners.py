"""Runs a handler, on the loop or on a thread (ADR 0006), and reports what it came to.

A `HandlerRunner` is the seam between a call and its handler: dynamic batching is another one, which
collects what calls hand it and reports to each of them. `EagerTaskFactory` starts the coroutines.
"""

import asyncio
import inspect
import sys
import types
from asyncio.tasks import _enter_task, _leave_task  # documented for those who extend asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

from sluice.runtime.python.function import Function
from sluice.runtime.python.response import Response, StreamingResponse, render
from sluice.runtime.python.threads import ThreadPool

T = TypeVar("T")
# More than can be taken over in one turn of the loop gain nothing; the rest get ordinary tasks.
MAX_REUSABLE_TASKS: Final = 8


class RunListener(Protocol):
    """Whoever started a run; receives its outcome on the loop, exactly once."""

    def succeeded(self, response: Response | StreamingResponse) -> None:
        """Take the response made of what the handler returned."""

    def failed(self, error: BaseException) -> None:
        """Take what the handler raised, InvalidResponseError, or CancelledError after a cancel."""

    def still_running(self) -> None:
        """The run did not finish at once: its timeout counts from now."""


class Run(Protocol):
    """A run that has not reported yet."""

    def cancel(self) -> bool:
        """Ask it to end; false when it cannot be stopped."""

    def ended(self) -> bool:
        """Whether nothing of it runs, or will run."""


class HandlerRunner(Protocol):
    """Runs a handler on the arguments of one call: (event, context) or (request,)."""

    def start(self, arguments: tuple[Any, ...], listener: RunListener) -> Run | None:
        """Start a run; None when its outcome has been reported before this returns.

        Calls the listener's `still_running` when the run continues after that.
        """


class HandlerExitError(Exception):
    """A handler called sys.exit(), which fails its call and does not end the replica."""


class LoopRunner:
    """Runs async handlers on the loop, without a task of their own unless they suspend."""

    def __init__(self, function: Function, task_factory: "EagerTaskFactory") -> None:
        self._handler: Callable[..., Any] = function.handler
        self._task_factory = task_factory

    def start(self, arguments: tuple[Any, ...], listener: RunListener) -> Run | None:
        try:
            result = self._handler(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises fails its call
            listener.failed(error)
            return None
        if inspect.isasyncgen(result):
            listener.succeeded(render(result))
            return None
        run = run_task(_rendered(result), listener, self._task_factory)
        if run is not None:
            listener.still_running()
        return run


class ThreadRunner:
    """Runs sync handlers on threads; their result is rendered there too."""

    def __init__(
        self, function: Function, pool: ThreadPool, task_factory: "EagerTaskFactory"
    ) -> None:
        self._handler = function.handler
        self._pool = pool
        self._task_factory = task_factory

    def start(self, arguments: tuple[Any, ...], listener: RunListener) -> Run | None:
        run = ThreadRun(listener, self._task_factory)
        run.submit(self._pool, partial(_call, self._handler, arguments))
        listener.still_running()
        return run


class TaskRun:
    """A run that is a task on the loop."""

    __slots__ = ("_task",)

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self._task = task

    def cancel(self) -> bool:
        self._task.cancel()
        return True

    def ended(self) -> bool:
        return self._task.done()


class FinishedRun:
    """A run of which nothing is left."""

    __slots__ = ()

    def cancel(self) -> bool:
        return False

    def ended(self) -> bool:
        return True


FINISHED: Final = FinishedRun()


class ThreadRun:
    """A run on a thread, which continues as a task when the handler returned an awaitable."""

    __slots__ = ("_listener", "_stage", "_task_factory")

    def __init__(self, listener: RunListener, task_factory: "EagerTaskFactory") -> None:
        self._listener = listener
        self._task_factory = task_factory
        self._stage: Run = FINISHED

    def submit(self, pool: ThreadPool, work: Callable[[], Any]) -> None:
        """Run `work` on a thread."""
        self._stage = pool.submit(work, self._thread_done)

    def cancel(self) -> bool:
        return self._stage.cancel()

    def ended(self) -> bool:
        return self._stage.ended()

    def _thread_done(self, result: Any, error: BaseException | None) -> None:
        if error is not None:
            self._stage = FINISHED
            self._listener.failed(_presentable(error))
        elif isinstance(result, Response | StreamingResponse):
            self._stage = FINISHED
            self._listener.succeeded(result)
        else:
            task = run_task(_rendered(result), self._listener, self._task_factory)
            self._stage = task or FINISHED


class Ended(Generic[T]):
    """The outcome of a coroutine that ended in its first step: a value or an error."""

    __slots__ = ("error", "value")

    def __init__(self, value: T | None, error: BaseException | None) -> None:
        self.value = value
        self.error = error


class EagerTaskFactory:
    """Runs a coroutine's first step at once, and gives it a task only if it suspends.

    Python 3.12 has this as asyncio.Task(eager_start=True). Before, a coroutine stepped by hand has
    no current task, and asyncio.timeout(), task groups and anyio refuse to work. So the step is
    taken in the name of a reusable task, which was made beforehand and waits: if the coroutine
    ends, that task waits for the next one; if it suspends, the task takes it over.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[ReusableTask] = []
        self._made = 0

    def start(self, coroutine: Coroutine[Any, Any, T]) -> "asyncio.Task[T] | Ended[T]":
        """The coroutine's task if it suspended, else its outcome."""
        if sys.version_info >= (3, 12):
            return asyncio.Task(coroutine, loop=self._loop, eager_start=True)
        if not self._waiting:
            self._make_reusable()
            return self._loop.create_task(coroutine)
        return self._step(self._waiting.pop(), coroutine)

    def close(self) -> None:
        """End the tasks that wait."""
        for reusable in self._waiting:
            reusable.task.cancel()
        self._waiting.clear()

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
            self._waiting.append(reusable)
        else:
            reusable.task.cancel()
            self._made -= 1
        return ended

    def _make_reusable(self) -> None:
        if self._made < MAX_REUSABLE_TASKS:
            self._made += 1
            ReusableTask(self._loop, self._waiting.append)


class ReusableTask:
    """A task that waits for a coroutine to take over."""

    __slots__ = ("_fresh", "_handover", "_work", "context", "task")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_waiting: "Callable[[ReusableTask], None]"
    ) -> None:
        """on_waiting: called when the task waits, a turn of the loop later."""
        self._fresh = copy_context()
        self.context: Context = self._fresh.copy()
        self._work: tuple[Coroutine[Any, Any, Any], Any] | None = None
        self._handover: asyncio.Future[None] = loop.create_future()
        self.task: asyncio.Task[Any] = loop.create_task(self._run(on_waiting), context=self.context)

    def take_over(self, coroutine: Coroutine[Any, Any, Any], waited_for: object) -> None:
        """Continue a coroutine that has suspended in this task's name."""
        self._work = (coroutine, waited_for)
        if not self._handover.done():
            self._handover.set_result(None)

    def is_as_new(self) -> bool:
        """Whether the coroutine that ended left nothing behind: no variable, no cancellation."""
        return not self._handover.done() and self.context == self._fresh

    async def _run(self, on_waiting: "Callable[[ReusableTask], None]") -> Any:
        on_waiting(self)
        cancelled: BaseException | None = None
        try:
            await self._handover
        except asyncio.CancelledError as error:
            if self._work is None:
                raise
            # Meant for the coroutine: it was cancelled between its first step and now.
            cancelled = error
        if self._work is None:
            raise RuntimeError("a reusable task was resumed without a coroutine")
        coroutine, waited_for = self._work
        return await _continue(coroutine, waited_for, cancelled)


@types.coroutine
def _continue(
    coroutine: Coroutine[Any, Any, T], waited_for: Any, error: BaseException | None
) -> Generator[Any, None, T]:
    """Drive a coroutine from its first suspension to its end; error: thrown into it first."""
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


def run_task(
    coroutine: Coroutine[Any, Any, Response | StreamingResponse | None],
    listener: RunListener,
    task_factory: EagerTaskFactory,
) -> TaskRun | None:
    """Run `coroutine` and report its outcome; None as a result reports nothing.

    Returns None when it ended in its first step, which runs at once.
    """
    started = task_factory.start(coroutine)
    if isinstance(started, Ended):
        if started.error is not None:
            listener.failed(started.error)
        elif started.value is not None:
            listener.succeeded(started.value)
        return None
    if started.done():
        _report(listener, started)
        return None
    started.add_done_callback(partial(_report, listener))
    return TaskRun(started)


def _report(
    listener: RunListener, task: "asyncio.Task[Response | StreamingResponse | None]"
) -> None:
    if task.cancelled():
        listener.failed(asyncio.CancelledError())
        return
    error = task.exception()
    if error is not None:
        listener.failed(error)
        return
    response = task.result()
    if response is not None:
        listener.succeeded(response)


async def _rendered(result: Any) -> Response | StreamingResponse:
    try:
        return render(await result)
    except SystemExit as error:
        # A task would let it through to the loop, and that would end the replica.
        raise _presentable(error) from error


def _call(handler: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The rendered result, or the awaitable that a sync handler returned."""
    result = handler(*arguments)
    return result if inspect.isawaitable(result) else render(result)


def _presentable(error: BaseException) -> BaseException:
    """`error`, or in place of SystemExit an error that says what the handler did."""
    if not isinstance(error, SystemExit):
        return error
    exit_error = HandlerExitError(f"the handler called sys.exit({error.code!r})")
    exit_error.__cause__ = error
    return exit_error
