"""`@batch`: declares a function whose calls may run together."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from sluice.runtime.python.batching.batch_sizer import BatchSizer
from sluice.runtime.python.batching.batcher import Batcher, BatchRunner
from sluice.settings import parse_duration

DEFAULT_ROWS: Final = 256
DEFAULT_LATENCY: Final = "100ms"
QUEUED_BATCHES: Final = 16
Function = Callable[[list[Any]], Sequence[Any] | Awaitable[Sequence[Any]]]


class Batched:
    """What replaces the declared function: `await score(rows)`.

    rows: a sequence; the results come back as a list of the same length and order. key: calls of
    different keys (model, options) never share a batch. deadline: seconds of `time.monotonic`
    after which the rows are dropped unrun.
    """

    def __init__(
        self, name: str, run: BatchRunner, sizer: BatchSizer, slots: int, max_queue_rows: int
    ) -> None:
        self._parts = (name, run, sizer, slots, max_queue_rows)
        self._batcher: Batcher | None = None

    async def __call__(
        self, rows: Sequence[Any], *, key: Hashable = None, deadline: float | None = None
    ) -> list[Any]:
        if self._batcher is None:
            self._batcher = Batcher(*self._parts)
        return await self._batcher.call(rows, key, deadline)


def batch(
    *,
    max_rows: int = DEFAULT_ROWS,
    latency: str | float = DEFAULT_LATENCY,
    slots: int = 1,
    max_queue_rows: int | None = None,
) -> Callable[[Function], Batched]:
    """A decorator for a function of many rows, which then runs calls that come together as one.

    max_rows: most rows of one run. latency: objective from arrival to result, a duration as Go
    writes it or seconds; batches shrink to meet it. slots: runs at once; a sync function runs on
    as many threads. max_queue_rows: rows that may wait, default 16 batches. Raises ValueError.
    """
    seconds = parse_duration(str(latency))
    if max_rows < 1 or slots < 1 or seconds <= 0:
        raise ValueError("batch: max_rows and slots must be 1 or more, latency above 0")
    waiting = QUEUED_BATCHES * max_rows if max_queue_rows is None else max_queue_rows

    def decorate(function: Function) -> Batched:
        sizer = BatchSizer(max_rows, seconds)
        return Batched(_name(function), _runner(function, slots), sizer, slots, waiting)

    return decorate


def _name(function: Function) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _runner(function: Function, slots: int) -> BatchRunner:
    if inspect.iscoroutinefunction(function):
        return function
    threads = ThreadPoolExecutor(slots, thread_name_prefix=f"batch-{_name(function)}")

    async def run(rows: list[Any]) -> Sequence[Any]:
        loop = asyncio.get_running_loop()
        results: Any = await loop.run_in_executor(threads, function, rows)
        return results  # type: ignore[no-any-return] # the function is the user's

    return run
