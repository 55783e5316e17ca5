"""The two ways to run a handler: on the loop or on a thread (ADR 0006).

A runner is the seam between a call and its handler: a micro-batcher is another `Runner`, which
gathers what calls hand it and reports to each of them.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from sluice.runtime.python.eager_tasks import EagerTaskFactory, Ended
from sluice.runtime.python.function import Function
from sluice.runtime.python.response import Reply, Stream, render
from sluice.runtime.python.threads import Job, ThreadPool


class Report(Protocol):
    """Who asked for a run and hears of its outcome, on the loop, once."""

    def succeeded(self, reply: Reply | Stream) -> None:
        """Take the answer made of what the handler returned."""

    def failed(self, error: BaseException) -> None:
        """Take what the handler raised, WrongReplyError, or CancelledError after a cancel."""

    def goes_on(self) -> None:
        """Count the run's time from now: it is under way and something else runs meanwhile."""


class Running(Protocol):
    """A run that has not reported yet."""

    def cancel(self) -> bool:
        """Ask it to end; false when it cannot be stopped."""

    def ended(self) -> bool:
        """Whether nothing of it runs, or will run."""


class HandlerRunner(Protocol):
    """Runs a handler on the arguments of one call: (event, context) or (request,)."""

    def start(self, arguments: tuple[Any, ...], report: Report) -> Running | None:
        """Run; None when the outcome has been reported before this returns.

        The report is told when a run goes on after that.
        """


class HandlerExitError(Exception):
    """A handler called sys.exit(): that fails its call, it does not end the replica."""


class TaskRunning:
    """A run that is a task on the loop."""

    __slots__ = ("_task",)

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self._task = task

    def cancel(self) -> bool:
        self._task.cancel()
        return True

    def ended(self) -> bool:
        return self._task.done()


class LoopRunner:
    """Runs async handlers on the loop, without a task of their own unless they suspend."""

    def __init__(self, function: Function, task_factory: EagerTaskFactory) -> None:
        self._handler: Callable[..., Any] = function.handler
        self._task_factory = task_factory

    def start(self, arguments: tuple[Any, ...], report: Report) -> Running | None:
        try:
            result = self._handler(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises fails its call
            report.failed(error)
            return None
        if inspect.isasyncgen(result):
            report.succeeded(render(result))
            return None
        running = run_task(_rendered(result), report, self._task_factory)
        if running is not None:
            report.goes_on()
        return running


class ThreadRunner:
    """Runs sync handlers on threads; their answer is rendered there too."""

    def __init__(
        self, function: Function, pool: ThreadPool, task_factory: EagerTaskFactory
    ) -> None:
        self._handler = function.handler
        self._pool = pool
        self._task_factory = task_factory

    def start(self, arguments: tuple[Any, ...], report: Report) -> Running | None:
        running = ThreadRunning(report, self._task_factory)
        running.submit(self._pool, partial(_call, self._handler, arguments))
        report.goes_on()
        return running


class ThreadRunning:
    """A run on a thread, which goes on as a task when the handler returned an awaitable."""

    __slots__ = ("_job", "_report", "_reported", "_task", "_task_factory")

    def __init__(self, report: Report, task_factory: EagerTaskFactory) -> None:
        self._report = report
        self._task_factory = task_factory
        self._reported = False
        self._task: TaskRunning | None = None
        self._job: Job | None = None

    def submit(self, pool: ThreadPool, work: Callable[[], Any]) -> None:
        self._job = pool.submit(work, self._done)

    def cancel(self) -> bool:
        if self._task is not None:
            return self._task.cancel()
        return self._job is not None and self._job.cancel()

    def ended(self) -> bool:
        if self._task is not None:
            return self._task.ended()
        return self._reported or (self._job is not None and self._job.cancelled)

    def _done(self, result: Any, error: BaseException | None) -> None:
        if error is not None:
            self._reported = True
            self._report.failed(_presentable(error))
        elif isinstance(result, Reply | Stream):
            self._reported = True
            self._report.succeeded(result)
        else:
            self._task = run_task(_rendered(result), self._report, self._task_factory)
            self._reported = self._task is None


def run_task(
    coroutine: Coroutine[Any, Any, Reply | Stream | None],
    report: Report,
    task_factory: EagerTaskFactory,
) -> TaskRunning | None:
    """Run `coroutine` and report what it comes to; None as a result reports nothing.

    Returns None when it ended in its first step, which is run at once.
    """
    started = task_factory.start(coroutine)
    if isinstance(started, Ended):
        if started.error is not None:
            report.failed(started.error)
        elif started.value is not None:
            report.succeeded(started.value)
        return None
    if started.done():
        _tell(report, started)
        return None
    started.add_done_callback(partial(_tell, report))
    return TaskRunning(started)


def _tell(report: Report, task: "asyncio.Task[Reply | Stream | None]") -> None:
    if task.cancelled():
        report.failed(asyncio.CancelledError())
        return
    error = task.exception()
    if error is not None:
        report.failed(error)
        return
    reply = task.result()
    if reply is not None:
        report.succeeded(reply)


async def _rendered(result: Any) -> Reply | Stream:
    try:
        return render(await result)
    except SystemExit as error:
        # A task would let it through to the loop, and that would end the replica.
        raise _presentable(error) from error


def _call(handler: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The rendered answer, or the awaitable a sync handler handed back."""
    result = handler(*arguments)
    return result if inspect.isawaitable(result) else render(result)


def _presentable(error: BaseException) -> BaseException:
    if not isinstance(error, SystemExit):
        return error
    exit_error = HandlerExitError(f"the handler called sys.exit({error.code!r})")
    exit_error.__cause__ = error
    return exit_error
