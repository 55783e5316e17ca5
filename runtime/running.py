"""The two ways to run a handler: on the loop or on a thread (ADR 0006).

A runner is the seam between a call and its handler: a micro-batcher is another `Runner`, which
gathers what calls hand it and reports to each of them.
"""

import asyncio
import inspect
import sys
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol

from runtime.function import Function
from runtime.reply import Reply, Stream, render
from runtime.threads import Job, ThreadPool


class Report(Protocol):
    """Who asked for a run and hears of its outcome, on the loop, once."""

    def succeeded(self, reply: Reply | Stream) -> None:
        """Take the answer made of what the handler returned."""

    def failed(self, error: BaseException) -> None:
        """Take what the handler raised, WrongReplyError, or CancelledError after a cancel."""


class Running(Protocol):
    """A run that has not reported yet."""

    def cancel(self) -> bool:
        """Ask it to end; false when it cannot be stopped."""

    def ended(self) -> bool:
        """Whether nothing of it runs, or will run."""


class Runner(Protocol):
    """Runs a handler on the arguments of one call: (event, context) or (request,)."""

    def start(self, arguments: tuple[Any, ...], report: Report) -> Running | None:
        """Run; None when the outcome has been reported before this returns."""


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
    """Runs async handlers on the loop, without a task where none is needed."""

    def __init__(self, function: Function, loop: asyncio.AbstractEventLoop) -> None:
        self._handler: Callable[..., Any] = function.handler
        self._loop = loop
        # Without a task asyncio.timeout() and task groups refuse to work, and whether a coroutine
        # gets that far shows only in its run; one without any await cannot.
        self._direct = function.never_suspends

    def start(self, arguments: tuple[Any, ...], report: Report) -> Running | None:
        if self._direct:
            self._drive(arguments, report)
            return None
        try:
            result = self._handler(*arguments)
        except Exception as error:  # noqa: BLE001 - whatever a handler raises fails its call, logged there
            report.failed(error)
            return None
        if inspect.isasyncgen(result):
            report.succeeded(render(result))
            return None
        return run_task(_rendered(result), report, self._loop)

    def _drive(self, arguments: tuple[Any, ...], report: Report) -> None:
        """Run the coroutine's only step here: 5 us less a call than a task."""
        try:
            copy_context().run(self._handler(*arguments).send, None)
            reply = None
        except StopIteration as end:
            reply = _render_or_report(end.value, report)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
            report.failed(_presentable(error))
            return
        if reply is not None:
            report.succeeded(reply)


class ThreadRunner:
    """Runs sync handlers on threads; their answer is rendered there too."""

    def __init__(self, function: Function, pool: ThreadPool) -> None:
        self._handler = function.handler
        self._pool = pool

    def start(self, arguments: tuple[Any, ...], report: Report) -> Running | None:
        return ThreadRunning(partial(_call, self._handler, arguments), report, self._pool)


class ThreadRunning:
    """A run on a thread, which goes on as a task when the handler returned an awaitable."""

    __slots__ = ("_job", "_loop", "_report", "_reported", "_task")

    def __init__(self, work: Callable[[], Any], report: Report, pool: ThreadPool) -> None:
        self._report = report
        self._loop = pool.loop
        self._reported = False
        self._task: TaskRunning | None = None
        self._job: Job = pool.submit(work, self._done)

    def cancel(self) -> bool:
        return self._task.cancel() if self._task is not None else self._job.cancel()

    def ended(self) -> bool:
        if self._task is not None:
            return self._task.ended()
        return self._reported or self._job.cancelled

    def _done(self, result: Any, error: BaseException | None) -> None:
        if error is not None:
            self._reported = True
            self._report.failed(_presentable(error))
        elif isinstance(result, Reply | Stream):
            self._reported = True
            self._report.succeeded(result)
        else:
            self._task = run_task(_rendered(result), self._report, self._loop)


def run_task(
    coroutine: Coroutine[Any, Any, Reply | Stream | None],
    report: Report,
    loop: asyncio.AbstractEventLoop,
) -> TaskRunning | None:
    """Run `coroutine` as a task that reports; None result reports nothing.

    From Python 3.12 on its first step is run at once, and None is returned if that was the last.
    """
    if sys.version_info >= (3, 12):
        task = asyncio.Task(coroutine, loop=loop, eager_start=True)
    else:
        task = loop.create_task(coroutine)
    if task.done():
        _tell(report, task)
        return None
    task.add_done_callback(partial(_tell, report))
    return TaskRunning(task)


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


def _render_or_report(result: object, report: Report) -> Reply | Stream | None:
    try:
        return render(result)
    except Exception as error:  # noqa: BLE001 - tolist() and generators are the handler's own code
        report.failed(error)
        return None


def _presentable(error: BaseException) -> BaseException:
    if not isinstance(error, SystemExit):
        return error
    exit_error = HandlerExitError(f"the handler called sys.exit({error.code!r})")
    exit_error.__cause__ = error
    return exit_error
