"""Streams a generator's items as an answer, no faster than the client reads.

An item goes out when it comes, as one may be all that the client gets for a while. Only those that
follow within a millisecond wait for each other, until the loop's next turn at the latest: a write
costs more than most items do.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from threading import Lock
from time import monotonic
from typing import Any, Final, Protocol

from sluice.runtime.python.eager_tasks import EagerTaskFactory
from sluice.runtime.python.response import Stream, encode_item
from sluice.runtime.python.runners import Report, TaskRunning, run_task
from sluice.runtime.python.threads import ThreadPool

# A generator that never waits must let the loop serve others; one turn in so many items.
ITEMS_PER_TURN: Final = 64
# Items that come sooner than this behind a write are joined, up to so many bytes.
JOIN_SECONDS: Final = 0.001
JOINED_BYTES: Final = 16 * 1024
END: Final = object()


class Sink(Report, Protocol):
    """Where a stream goes."""

    def begin_stream(self, status: int, lines: bytes) -> None: ...

    def write(self, data: bytes) -> None: ...

    def end_stream(self, last: bytes = b"") -> None: ...

    async def writable(self) -> None:
        """Returns when the client has read enough."""

    @property
    def bodyless(self) -> bool:
        """Whether the answer has no body, as to HEAD."""


class ThreadedItems:
    """A sync iterator whose steps run on threads, one at a time."""

    def __init__(self, items: Iterator[object], pool: ThreadPool) -> None:
        self._items = items
        self._pool = pool
        self._lock = Lock()
        self._closed = False

    def __aiter__(self) -> "ThreadedItems":
        return self

    async def __anext__(self) -> object:
        item = await self._pool.run(self._next)
        if item is END:
            raise StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Close the iterator; waits for the step that runs."""
        await self._pool.run(self._close)

    def _next(self) -> object:
        with self._lock:
            return END if self._closed else next(self._items, END)

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            _close_of(self._items)()


class Outlet:
    """Writes items to a sink, those that come at once in one write."""

    def __init__(self, write: Callable[[bytes], None], clock: Callable[[], float]) -> None:
        self._write, self._clock = write, clock
        self._waiting: list[bytes] = []
        self._size = 0
        self._wrote = float("-inf")

    def put(self, data: bytes) -> None:
        """Write now, or with what comes next."""
        self._waiting.append(data)
        self._size += len(data)
        soon = self._clock() - self._wrote < JOIN_SECONDS
        if not soon or self._size >= JOINED_BYTES:
            self.flush()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what waits."""
        data = self.rest()
        if data:
            self._wrote = self._clock()
            self._write(data)

    def rest(self) -> bytes:
        """What waits, for the caller to write."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        return data


def send_stream(
    stream: Stream, sink: Sink, pool: ThreadPool, task_factory: EagerTaskFactory
) -> TaskRunning | None:
    """Start sending; the sink's `failed` hears of what the generator raises.

    A cancelled one ends after the generator's current step.
    """
    items: Any = stream.items
    if not isinstance(items, AsyncIterator):
        items = ThreadedItems(items, pool)
    return run_task(_send(stream, items, sink), sink, task_factory)


def discard(stream: Stream) -> None:
    """Drop a stream nobody waits for; a generator that never began runs no code at its close."""
    if isinstance(stream.items, Iterator):
        _close_of(stream.items)()


async def _send(stream: Stream, items: Any, sink: Sink) -> None:
    sent = 0
    begun = False
    outlet = Outlet(sink.write, monotonic)
    try:
        async for item in items:
            data, content_type = encode_item(item)
            if not begun:
                begun = True
                sink.begin_stream(
                    stream.status, stream.lines if stream.typed else stream.lines + content_type
                )
            if sink.bodyless:
                break
            outlet.put(data)
            sent += 1
            if sent % ITEMS_PER_TURN == 0:
                await asyncio.sleep(0)
            await sink.writable()
        if not begun:
            sink.begin_stream(stream.status, stream.lines)
    except BaseException:
        outlet.flush()  # what came before goes out before the answer is broken off
        raise
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
    sink.end_stream(outlet.rest())


def _close_of(items: Iterator[object]) -> Callable[[], object]:
    close = getattr(items, "close", None)
    return close if callable(close) else lambda: None
