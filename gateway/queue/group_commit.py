"""Group commit: one thread writes the loop's changes, each group of them as one transaction.

While one group is being written, changes collect in the next: the busier the queue, the larger
the groups. A group costs the loop one hand-over and one call_soon_threadsafe, however large it is
(ADR 0010).
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Protocol, TypeVar

from gateway.queue.call import Delivered, Delivery, NewCall, Outcome, QueuedCall
from gateway.queue.store import (
    DISK_IS_FULL,
    Committed,
    Duplicate,
    Group,
    Lease,
    Leased,
    Operation,
    Store,
    StoreError,
    StoreFullError,
)
from gateway.types.errors import DiskFullError, SluiceError, UnavailableError

T = TypeVar("T")

LOG: Final = logging.getLogger(__name__)

# Pause after a failed group, so that a full disk is not tried a thousand times a second.
RETRY_SECONDS: Final = 0.5
# A database that accepts no change must not keep the gateway from stopping.
CLOSE_SECONDS: Final = 5.0
LEASED_NONE: Final[Leased[Any]] = Leased([])


class Accepting(Protocol):
    """Waits for a call to be durable."""

    def committed(self, call: NewCall, duplicate: Duplicate | None) -> None:
        """The call is durable, or one with its key has been for some time."""

    def failed(self, call: NewCall, error: SluiceError) -> None:
        """The call was not accepted."""


class WriterState(IntEnum):
    """What the thread does and whether changes wait for it. From SCHEDULED on some do."""

    IDLE = 0
    WRITING = 1
    SCHEDULED = 2
    WRITING_MORE_WAIT = 3


IDLE: Final = WriterState.IDLE
WRITING: Final = WriterState.WRITING
SCHEDULED: Final = WriterState.SCHEDULED
WRITING_MORE_WAIT: Final = WriterState.WRITING_MORE_WAIT
# What a change, a hand-over to the thread, and the end of a group lead to.
ON_CHANGE: Final = {IDLE: SCHEDULED, WRITING: WRITING_MORE_WAIT}
ON_HAND_OVER: Final = {SCHEDULED: WRITING}
ON_WRITTEN: Final = {WRITING: IDLE, WRITING_MORE_WAIT: SCHEDULED}


@dataclass(slots=True)
class _Work:
    """A group with those who wait for each part of it, in the same order."""

    group: Group = field(default_factory=Group)
    accepting: list[Accepting] = field(default_factory=list)
    leases: list[Callable[[Leased[QueuedCall]], None]] = field(default_factory=list)
    callbacks: list[Callable[[Leased[Delivery]], None]] = field(default_factory=list)
    results: list[asyncio.Future[Any]] = field(default_factory=list)


class GroupCommitWriter:
    """All access to a store. Methods are for the loop's thread; none of them blocks.

    writer, reader: two connections, as reading must not delay the acceptance of calls.
    finished: called with outcomes once they are durable, and the ids whose lease was still held.
    delivered: called with the results of callbacks once they are durable.
    """

    def __init__(
        self,
        writer: Store,
        reader: Store,
        finished: Callable[[list[Outcome], set[str]], None],
        delivered: Callable[[list[Delivered]], None],
    ) -> None:
        self._writer, self._reader = writer, reader
        self._finished, self._delivered = finished, delivered
        self._work = _Work()
        self._state = IDLE
        self._jobs: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="queue-writer", daemon=True)
        self._readers = ThreadPoolExecutor(1, thread_name_prefix="queue-reader")
        self._idle = asyncio.Event()

    async def open(self) -> None:
        """Open both connections. Raises UnavailableError."""
        self._loop = asyncio.get_running_loop()
        try:
            await self._loop.run_in_executor(self._readers, self._writer.open)
            await self._loop.run_in_executor(self._readers, self._reader.open)
        except StoreError as error:
            raise UnavailableError(f"the queue's database: {error}") from error
        self._thread.start()

    async def close(self) -> None:
        """Write what waits, then close."""
        if self.opened:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    while self._state is not IDLE:
                        self._idle.clear()
                        await self._idle.wait()
            except TimeoutError:
                LOG.warning("not written outcomes=%d: their calls are run again", self.unwritten)
            self._jobs.put(None)
            await self._loop.run_in_executor(self._readers, self._thread.join)
        for store in (self._reader, self._writer):
            await asyncio.get_running_loop().run_in_executor(self._readers, store.close)
        self._readers.shutdown()

    # Changes.

    def accept(self, call: NewCall, waiter: Accepting) -> None:
        """Make a call durable, then call `waiter`."""
        work = self._work
        work.group.accepted.append(call)
        work.accepting.append(waiter)
        if self._state < SCHEDULED:
            self._schedule()

    def finish(self, outcome: Outcome) -> None:
        """Write the outcome of an attempt; repeated until the database accepts it."""
        self._work.group.outcomes.append(outcome)
        if self._state < SCHEDULED:
            self._schedule()

    def deliver(self, delivered: Delivered) -> None:
        """Write the result of a callback; repeated until the database accepts it."""
        self._work.group.deliveries.append(delivered)
        if self._state < SCHEDULED:
            self._schedule()

    def lease(self, wanted: Lease, leased: Callable[[Leased[QueuedCall]], None]) -> None:
        """Lease calls that are due."""
        self._work.group.leases.append(wanted)
        self._work.leases.append(leased)
        if self._state < SCHEDULED:
            self._schedule()

    def lease_callbacks(self, wanted: Lease, leased: Callable[[Leased[Delivery]], None]) -> None:
        """Lease callbacks that are due."""
        self._work.group.callback_leases.append(wanted)
        self._work.callbacks.append(leased)
        if self._state < SCHEDULED:
            self._schedule()

    async def change(self, operation: Callable[[Store], T]) -> T:
        """Run `operation` within the next group; durable on return. Raises what it raises."""
        result: asyncio.Future[T] = self._loop.create_future()
        self._work.group.operations.append(operation)
        self._work.results.append(result)
        if self._state < SCHEDULED:
            self._schedule()
        return await result

    async def read(self, operation: Callable[[Store], T]) -> T:
        """Run an operation that only reads, beside the groups. Raises UnavailableError."""
        try:
            return await self._loop.run_in_executor(self._readers, operation, self._reader)
        except StoreError as error:
            raise UnavailableError(f"the queue's database: {error}") from error

    @property
    def opened(self) -> bool:
        """Whether changes can be made."""
        return self._thread.is_alive()

    @property
    def unwritten(self) -> int:
        """Outcomes that wait to be written."""
        return len(self._work.group.outcomes)

    # The loop's side of the thread.

    def _schedule(self) -> None:
        """Have the group written: after this turn of the loop, or after the one being written."""
        self._state = ON_CHANGE[self._state]
        if self._state is SCHEDULED:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        work, self._work = self._work, _Work()
        self._state = ON_HAND_OVER[self._state]
        self._jobs.put(work)

    def _written(self) -> None:
        self._state = ON_WRITTEN[self._state]
        if self._state is SCHEDULED:
            self._hand_over()

    def _done(self, work: _Work, done: Committed) -> None:
        self._written()
        for call, accepting in zip(work.group.accepted, work.accepting, strict=True):
            accepting.committed(call, done.duplicates.get(call.id) if done.duplicates else None)
        for leased, taken in zip(done.leased, work.leases, strict=True):
            taken(leased)
        for owed, taken_callbacks in zip(done.callbacks, work.callbacks, strict=True):
            taken_callbacks(owed)
        for result, future in zip(done.results, work.results, strict=True):
            _settle(future, result)
        if work.group.outcomes:
            self._finished(work.group.outcomes, done.finished)
        if work.group.deliveries:
            self._delivered(work.group.deliveries)
        self._idle.set()

    def _failed(self, work: _Work, error: Exception) -> None:
        LOG.error("commit failed error=%s", error)
        refusal = _refusal(error)
        for call, accepting in zip(work.group.accepted, work.accepting, strict=True):
            accepting.failed(call, refusal)
        for future in work.results:
            _settle(future, refusal)
        for taken in work.leases:
            self._loop.call_later(RETRY_SECONDS, taken, LEASED_NONE)
        for taken_callbacks in work.callbacks:
            self._loop.call_later(RETRY_SECONDS, taken_callbacks, LEASED_NONE)
        ahead = self._work.group
        ahead.outcomes[:0] = work.group.outcomes
        ahead.deliveries[:0] = work.group.deliveries
        self._state = WRITING_MORE_WAIT
        self._loop.call_later(RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._written()
        self._idle.set()

    # The thread.

    def _write(self) -> None:
        while (work := self._jobs.get()) is not None:
            try:
                done = self._writer.commit(work.group)
            except Exception as error:
                if not isinstance(error, StoreError):
                    LOG.exception("commit failed")
                self._loop.call_soon_threadsafe(self._failed, work, error)
            else:
                self._loop.call_soon_threadsafe(self._done, work, done)


def _refusal(error: Exception) -> SluiceError:
    """The error for those who wait for a group that was not written."""
    if isinstance(error, StoreFullError):
        return DiskFullError(DISK_IS_FULL)
    return UnavailableError("the queue's database failed, see the gateway's log")


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, SluiceError):
        future.set_exception(result)
    else:
        future.set_result(result)


# For annotations of what `change` takes.
__all__ = ["Accepting", "GroupCommitWriter", "Operation"]
