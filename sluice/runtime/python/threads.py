"""Threads for sync handlers: started when needed, daemons, because a thread cannot be stopped."""

import asyncio
import threading
from collections.abc import Callable
from enum import Enum, auto
from queue import SimpleQueue
from typing import Any

OnDone = Callable[[Any, BaseException | None], None]


class JobState(Enum):
    """QUEUED turns into STARTED on the thread that takes the job, or into CANCELLED on the loop."""

    QUEUED = auto()
    STARTED = auto()
    CANCELLED = auto()


class Job:
    """Work handed to the pool."""

    __slots__ = ("_on_done", "_state", "_work")

    def __init__(self, work: Callable[[], Any], on_done: OnDone) -> None:
        self._work = work
        self._on_done = on_done
        self._state = JobState.QUEUED

    def cancel(self) -> bool:
        """Drop the work unless a thread has taken it; false then, for it cannot be stopped."""
        if self._state is JobState.QUEUED:
            self._state = JobState.CANCELLED
        return self._state is JobState.CANCELLED

    def ended(self) -> bool:
        """Whether the work was dropped; one that ran is reported by `on_done` instead."""
        return self._state is JobState.CANCELLED

    def run(self) -> Callable[[], None] | None:
        """Do the work; returns what reports its outcome on the loop, None when cancelled.

        A cancel may come from the loop while the thread takes the job; then the work runs and its
        outcome goes to a call that has ended, which ignores it.
        """
        if self._state is JobState.CANCELLED:
            return None
        self._state = JobState.STARTED
        on_done = self._on_done
        try:
            result = self._work()
        except BaseException as error:  # noqa: BLE001 - reported to the call, sys.exit() too
            failure = error
            return lambda: on_done(None, failure)
        return lambda: on_done(result, None)


class ThreadPool:
    """At most `size` daemon threads; further jobs wait in order."""

    def __init__(self, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self._size = size
        self.loop = loop
        self._queue: SimpleQueue[Job] = SimpleQueue()
        self._threads = 0
        self._unfinished = 0  # jobs queued or running; only the loop's thread touches it

    @property
    def busy(self) -> int:
        """Jobs that are queued or running."""
        return self._unfinished

    def submit(self, work: Callable[[], Any], on_done: OnDone) -> Job:
        """Run `work` on a thread and then `on_done(result, error)` on the loop."""
        job = Job(work, on_done)
        self._unfinished += 1
        if self._unfinished > self._threads and self._threads < self._size:
            self._threads += 1
            name = f"handler-{self._threads}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._queue.put(job)
        return job

    async def run(self, work: Callable[[], Any]) -> Any:
        """What `work` returns or raises, run on a thread."""
        future: asyncio.Future[Any] = self.loop.create_future()

        def on_done(result: Any, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(_raisable(error))

        self.submit(work, on_done)
        return await future

    def _serve(self) -> None:
        while True:
            report = self._queue.get().run()
            try:
                self.loop.call_soon_threadsafe(self._finished, report)
            except RuntimeError:
                return  # the loop is closed: the process is ending

    def _finished(self, report: Callable[[], None] | None) -> None:
        self._unfinished -= 1
        if report is not None:
            report()


def _raisable(error: BaseException) -> BaseException:
    """`error`, wrapped when a future may not carry it."""
    if not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError("StopIteration raised")
    wrapped.__cause__ = error
    return wrapped
