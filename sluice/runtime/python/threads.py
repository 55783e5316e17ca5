"""Threads for sync handlers: started when needed, daemons, because a thread cannot be stopped."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Done = Callable[[Any, BaseException | None], None]


class Job:
    """Work handed to the pool; `started` is set by the thread that takes it."""

    __slots__ = ("_done", "_work", "cancelled", "started")

    def __init__(self, work: Callable[[], Any], done: Done) -> None:
        self._work = work
        self._done = done
        self.started = False
        self.cancelled = False

    def cancel(self) -> bool:
        """Whether the work will not run, or not run on: false once a thread has taken it."""
        if not self.started:
            self.cancelled = True
        return self.cancelled

    def run(self) -> Callable[[], None] | None:
        """Do the work; returns what tells its outcome on the loop, None when cancelled.

        A cancel may come from the loop between the two flags; then the work runs and its outcome
        is told to a call that has been answered, which ignores it.
        """
        self.started = True
        if self.cancelled:
            return None
        done = self._done
        try:
            result = self._work()
        except BaseException as error:  # noqa: BLE001 - sys.exit too is a call's failure, told below
            failure = error
            return lambda: done(None, failure)
        return lambda: done(result, None)


class ThreadPool:
    """At most `size` daemon threads; further jobs wait in order."""

    def __init__(self, size: int, loop: asyncio.AbstractEventLoop) -> None:
        self._size = size
        self.loop = loop
        self._queue: SimpleQueue[Job] = SimpleQueue()
        self._threads = 0
        self._waiting = 0  # jobs queued or running; only the loop's thread touches it

    @property
    def busy(self) -> int:
        """Jobs that are queued or running."""
        return self._waiting

    def submit(self, work: Callable[[], Any], done: Done) -> Job:
        """Run `work` on a thread and then `done(result, error)` on the loop."""
        job = Job(work, done)
        self._waiting += 1
        if self._waiting > self._threads and self._threads < self._size:
            self._threads += 1
            name = f"handler-{self._threads}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        self._queue.put(job)
        return job

    async def run(self, work: Callable[[], Any]) -> Any:
        """What `work` returns or raises, run on a thread."""
        future: asyncio.Future[Any] = self.loop.create_future()

        def done(result: Any, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(_raisable(error))

        self.submit(work, done)
        return await future

    def _serve(self) -> None:
        while True:
            told = self._queue.get().run()
            try:
                self.loop.call_soon_threadsafe(self._ended, told)
            except RuntimeError:
                return  # the loop is closed: the process is ending

    def _ended(self, told: Callable[[], None] | None) -> None:
        self._waiting -= 1
        if told is not None:
            told()


def _raisable(error: BaseException) -> BaseException:
    """`error`, wrapped when a future may not carry it."""
    if not isinstance(error, StopIteration):
        return error
    wrapped = RuntimeError("StopIteration raised")
    wrapped.__cause__ = error
    return wrapped
