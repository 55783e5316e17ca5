"""Streams a generator's items as a response, no faster than the client reads.

An item is written when it comes, as the next one may take long. Only items that follow a write
within a millisecond are joined, until the loop's next turn at the latest: a write costs more than
most items do.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from threading import Lock
from time import monotonic
from typing import Any, Final, Protocol

from sluice.runtime.python.response import StreamingResponse, encode_item
from sluice.runtime.python.runners import EagerTaskFactory, RunListener, TaskRun, run_task
from sluice.runtime.python.threads import ThreadPool

# A generator that never waits must let the loop serve others; one turn in so many items.
ITEMS_PER_TURN: Final = 64
# Items that come sooner than this behind a write are joined, up to so many bytes.
JOIN_SECONDS: Final = 0.001
JOINED_BYTES: Final = 16 * 1024
END: Final = object()


class Sink(RunListener, Protocol):
    """Where a stream is written."""

    def begin_stream(self, status: int, lines: bytes) -> None: ...

    def write(self, data: bytes) -> None: ...

    def end_stream(self, last: bytes = b"") -> None: ...

    async def writable(self) -> None:
        """Return when the client has read enough."""

    @property
    def bodyless(self) -> bool:
        """Whether the response has no body, as to HEAD."""


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


class WriteJoiner:
    """Writes items to a sink, those that follow each other closely in one write."""

    def __init__(self, write: Callable[[bytes], None], clock: Callable[[], float]) -> None:
        self._write, self._clock = write, clock
        self._waiting: list[bytes] = []
        self._size = 0
        self._written_at = float("-inf")

    def put(self, data: bytes) -> None:
        """Write now, or together with the next items."""
        self._waiting.append(data)
        self._size += len(data)
        soon = self._clock() - self._written_at < JOIN_SECONDS
        if not soon or self._size >= JOINED_BYTES:
            self.flush()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write the items that wait."""
        data = self.rest()
        if data:
            self._written_at = self._clock()
            self._write(data)

    def rest(self) -> bytes:
        """The items that wait, for the caller to write."""
        data = b"".join(self._waiting)
        self._waiting.clear()
        self._size = 0
        return data


def send_stream(
    stream: StreamingResponse, sink: Sink, pool: ThreadPool, task_factory: EagerTaskFactory
) -> TaskRun | None:
    """Start sending; what the generator raises goes to the sink's `failed`.

    A cancelled stream ends after the generator's current step.
    """
    items: Any = stream.items
    if not isinstance(items, AsyncIterator):
        items = ThreadedItems(items, pool)
    return run_task(_send(stream, items, sink), sink, task_factory)


def discard(stream: StreamingResponse) -> None:
    """Close a stream that is not sent; a generator that never began runs no code at its close."""
    if isinstance(stream.items, Iterator):
        _close_of(stream.items)()


async def _send(stream: StreamingResponse, items: Any, sink: Sink) -> None:
    sent = 0
    started = False
    joiner = WriteJoiner(sink.write, monotonic)
    try:
        async for item in items:
            data, content_type = encode_item(item)
            if not started:
                started = True
                sink.begin_stream(
                    stream.status, stream.lines if stream.typed else stream.lines + content_type
                )
            if sink.bodyless:
                break
            joiner.put(data)
            sent += 1
            if sent % ITEMS_PER_TURN == 0:
                await asyncio.sleep(0)
            await sink.writable()
        if not started:
            sink.begin_stream(stream.status, stream.lines)
    except BaseException:
        joiner.flush()  # items before the error are sent before the response is cut
        raise
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
    sink.end_stream(joiner.rest())


def _close_of(items: Iterator[object]) -> Callable[[], object]:
    close = getattr(items, "close", None)
    return close if callable(close) else lambda: None
