"""Group commit: what the loop wants changed is handed to one thread, a transaction a group.

While a group is on its way to the disk, the next one gathers: the busier the queue, the larger
the groups. A group costs the loop one hand-over and one call_soon_threadsafe, whatever is in it
(ADR 0010).
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
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

# After a failed group, so that a full disk is not tried a thousand times a second.
RETRY_SECONDS: Final = 0.5
# A database that takes nothing does not keep the gateway from stopping.
CLOSE_SECONDS: Final = 5.0
LEASED_NONE: Final[Leased[Any]] = Leased([])


class Accepting(Protocol):
    """Who waits for a call to be durable."""

    def committed(self, call: NewCall, duplicate: Duplicate | None) -> None:
        """The call is on the disk, or one with its key was before."""

    def failed(self, call: NewCall, error: SluiceError) -> None:
        """The call was not accepted."""


@dataclass(slots=True)
class _Work:
    """A group with who waits for each part of it, in the same order."""

    group: Group = field(default_factory=Group)
    accepting: list[Accepting] = field(default_factory=list)
    leases: list[Callable[[Leased[QueuedCall]], None]] = field(default_factory=list)
    callbacks: list[Callable[[Leased[Delivery]], None]] = field(default_factory=list)
    answers: list[asyncio.Future[Any]] = field(default_factory=list)


class GroupCommitWriter:
    """The one way to a store. Methods are for the loop's thread; none of them blocks.

    writer, reader: two connections, as what reads must not hold up what is accepted.
    finished: told of outcomes once they are durable, with the ids that were still held.
    """

    def __init__(self, writer: Store, reader: Store) -> None:
        self._writer, self._reader = writer, reader
        self.finished: Callable[[list[Outcome], set[str]], None] = lambda _outcomes, _ids: None
        self.delivered: Callable[[list[Delivered]], None] = lambda _delivered: None
        self._work = _Work()
        self._busy = self._asked = False
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
        """Commit what is under way, then close."""
        if self.opened:
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    while self._busy or self._asked:
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
        """Make a call durable, then tell `waiter`."""
        work = self._work
        work.group.accepted.append(call)
        work.accepting.append(waiter)
        if not self._asked:
            self._ask()

    def finish(self, outcome: Outcome) -> None:
        """Write what became of a call; written again until the database takes it."""
        self._work.group.outcomes.append(outcome)
        if not self._asked:
            self._ask()

    def deliver(self, delivered: Delivered) -> None:
        """Write what became of a callback, likewise."""
        self._work.group.deliveries.append(delivered)
        if not self._asked:
            self._ask()

    def lease(self, order: Lease, taken: Callable[[Leased[QueuedCall]], None]) -> None:
        """Take calls that are due."""
        self._work.group.leases.append(order)
        self._work.leases.append(taken)
        if not self._asked:
            self._ask()

    def lease_callbacks(self, order: Lease, taken: Callable[[Leased[Delivery]], None]) -> None:
        """Take callbacks that are due."""
        self._work.group.callback_leases.append(order)
        self._work.callbacks.append(taken)
        if not self._asked:
            self._ask()

    async def change(self, operation: Callable[[Store], T]) -> T:
        """Run `operation` within the next group; durable on return. Raises what it refuses with."""
        response: asyncio.Future[T] = self._loop.create_future()
        self._work.group.operations.append(operation)
        self._work.answers.append(response)
        if not self._asked:
            self._ask()
        return await response

    async def read(self, operation: Callable[[Store], T]) -> T:
        """Run what only reads, beside the groups. Raises UnavailableError."""
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

    def _ask(self) -> None:
        """Hand the group over at the end of this turn of the loop, with all that it brings."""
        self._asked = True
        if not self._busy:
            self._loop.call_soon(self._hand_over)

    def _hand_over(self) -> None:
        if self._busy or not self._asked:
            return
        work, self._work = self._work, _Work()
        self._asked, self._busy = False, True
        self._jobs.put(work)

    def _done(self, work: _Work, done: Committed) -> None:
        self._busy = False
        self._hand_over()
        for call, accepting in zip(work.group.accepted, work.accepting, strict=True):
            accepting.committed(call, done.duplicates.get(call.id) if done.duplicates else None)
        for leased, taken in zip(done.leased, work.leases, strict=True):
            taken(leased)
        for owed, told in zip(done.callbacks, work.callbacks, strict=True):
            told(owed)
        for response, future in zip(done.answers, work.answers, strict=True):
            _settle(future, response)
        if work.group.outcomes:
            self.finished(work.group.outcomes, done.finished)
        if work.group.deliveries:
            self.delivered(work.group.deliveries)
        self._idle.set()

    def _failed(self, work: _Work, error: Exception) -> None:
        LOG.error("commit failed error=%s", error)
        refusal = _refusal(error)
        for call, accepting in zip(work.group.accepted, work.accepting, strict=True):
            accepting.failed(call, refusal)
        for future in work.answers:
            _settle(future, refusal)
        for taken in work.leases:
            self._loop.call_later(RETRY_SECONDS, taken, LEASED_NONE)
        for told in work.callbacks:
            self._loop.call_later(RETRY_SECONDS, told, LEASED_NONE)
        ahead = self._work.group
        ahead.outcomes[:0] = work.group.outcomes
        ahead.deliveries[:0] = work.group.deliveries
        self._loop.call_later(RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        self._busy, self._asked = False, True
        self._hand_over()
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
    """What those hear who wait for a group that was not written."""
    if isinstance(error, StoreFullError):
        return DiskFullError(DISK_IS_FULL)
    return UnavailableError("the queue's database failed, see the gateway's log")


def _settle(future: asyncio.Future[Any], response: Any) -> None:
    if future.done():
        return
    if isinstance(response, SluiceError):
        future.set_exception(response)
    else:
        future.set_result(response)


# For annotations of what `change` takes.
__all__ = ["Accepting", "GroupCommitWriter", "Operation"]
