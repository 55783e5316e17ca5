"""Collects calls into batches and runs them; bound to the event loop that first calls it.

Work-conserving: a lone caller never waits, and queued rows run as soon as a slot is free. After a
batch the next one lingers for a part of a batch's time, so that callers that return together stay
in one batch instead of splitting into two halves.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sluice.runtime.python.batching.batch_sizer import BatchSizer, ConcurrencyEstimate
from sluice.runtime.python.batching.errors import BatchError, ExpiredError, QueueFullError
from sluice.runtime.python.batching.metrics import (
    DROPPED,
    QUEUE_ROWS,
    QUEUE_WAIT,
    RELEASED,
    ROWS,
    RUN_SECONDS,
)

LONGEST_LINGER: Final = 0.005
BatchRunner = Callable[[list[Any]], Awaitable[Sequence[Any]]]


@dataclass(slots=True, eq=False)
class Member:
    """The rows of one call, all of one key. deadline: seconds of `time.monotonic`, or None."""

    rows: Sequence[Any]
    key: Hashable
    deadline: float | None
    result: asyncio.Future[list[Any]]
    queued_at: float = field(default_factory=time.monotonic)


class Batcher:
    """One queue in front of one function.

    slots: batches run at once. max_queue_rows: rows that may wait.
    """

    def __init__(
        self, name: str, run: BatchRunner, sizer: BatchSizer, slots: int, max_queue_rows: int
    ) -> None:
        self._name = name
        self._run = run
        self._sizer = sizer
        self._free_slots = slots
        self._max_queue_rows = max_queue_rows
        self._queue: deque[Member] = deque()
        self._queued_rows = 0
        self._callers = 0
        self._concurrency = ConcurrencyEstimate()
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._queue_rows = QUEUE_ROWS.labels(name)
        self._queue_wait = QUEUE_WAIT.labels(name)
        self._rows = ROWS.labels(name)
        self._run_seconds = RUN_SECONDS.labels(name)

    async def call(
        self, rows: Sequence[Any], key: Hashable = None, deadline: float | None = None
    ) -> list[Any]:
        """Results of `rows` in their order. Raises QueueFullError, ExpiredError, BatchError."""
        if not rows:
            return []
        if self._queued_rows + len(rows) > self._max_queue_rows and self._queue:
            DROPPED.labels(self._name, "full").inc()
            raise QueueFullError(f"{self._queued_rows} rows wait, at most {self._max_queue_rows}")
        member = Member(rows, key, deadline, asyncio.get_running_loop().create_future())
        self._callers += 1
        self._concurrency.seen(self._callers)
        self._queue.append(member)
        self._count(len(rows))
        self._dispatch()
        try:
            return await member.result
        finally:
            self._callers -= 1

    def _count(self, rows: int) -> None:
        self._queued_rows += rows
        self._queue_rows.set(self._queued_rows)

    def _dispatch(self, lingered: bool = False) -> None:
        """Start batches while a slot is free and there is a reason to."""
        while self._queue and self._free_slots:
            reason = "linger" if lingered else self._reason()
            if reason is None:
                self._linger()
                return
            lingered = False
            self._start(reason)

    def _reason(self) -> str | None:
        """Why a batch should run now; None to linger for more rows."""
        if self._concurrency.estimate <= 1 or self._sizer.mean_seconds == 0:
            return "idle"
        if self._queued_rows >= self._sizer.rows or len(self._queue) >= int(
            self._concurrency.estimate
        ):
            return "full"
        return None

    def _linger(self) -> None:
        if self._timer is None:
            delay = self._sizer.linger(LONGEST_LINGER)
            self._timer = asyncio.get_running_loop().call_later(delay, self._lingered)

    def _lingered(self) -> None:
        self._timer = None
        # Callers that have not returned by now are no longer waited for.
        self._concurrency.estimate = min(self._concurrency.estimate, float(self._callers))
        self._dispatch(lingered=True)

    def _start(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        members = self._take()
        if not members:
            return
        RELEASED.labels(self._name, reason).inc()
        self._free_slots -= 1
        task = asyncio.get_running_loop().create_task(self._serve(members))
        self._running.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free_slots += 1
        self._dispatch()

    def _take(self) -> list[Member]:
        """The oldest call and those of its key, up to one batch; cancelled ones are dropped."""
        now = time.monotonic()
        taken: list[Member] = []
        left: deque[Member] = deque()
        rows, limit = 0, self._sizer.rows
        while self._queue:
            member = self._queue.popleft()
            if self._dropped(member, now):
                self._count(-len(member.rows))
            elif not taken or (member.key == taken[0].key and rows + len(member.rows) <= limit):
                taken.append(member)
                rows += len(member.rows)
                self._count(-len(member.rows))
                self._queue_wait.observe(now - member.queued_at)
            else:
                left.append(member)
        self._queue = left
        return taken

    def _dropped(self, member: Member, now: float) -> bool:
        if member.result.cancelled():
            DROPPED.labels(self._name, "cancelled").inc()
            return True
        if member.deadline is not None and member.deadline <= now:
            DROPPED.labels(self._name, "expired").inc()
            member.result.set_exception(ExpiredError("its deadline passed before it ran"))
            return True
        return False

    async def _serve(self, members: list[Member]) -> None:
        try:
            results = await self._run_rows([row for member in members for row in member.rows])
        except Exception as error:  # noqa: BLE001 (every failure belongs to a caller)
            await self._serve_apart(members, error)
            return
        start = 0
        for member in members:
            _settle(member, results[start : start + len(member.rows)])
            start += len(member.rows)

    async def _serve_apart(self, members: list[Member], error: Exception) -> None:
        """Run each call by itself once, so that one bad row fails alone."""
        if len(members) == 1:
            _fail(members[0], error)
            return
        for member in members:
            if member.result.done():
                continue
            try:
                _settle(member, await self._run_rows(list(member.rows)))
            except Exception as own:  # noqa: BLE001 (every failure belongs to a caller)
                _fail(member, own)

    async def _run_rows(self, rows: list[Any]) -> list[Any]:
        """Results of `rows`, run in chunks of what one batch may hold."""
        results: list[Any] = []
        limit = self._sizer.max_rows
        for start in range(0, len(rows), limit):
            results += await self._run_chunk(rows[start : start + limit])
        return results

    async def _run_chunk(self, rows: list[Any]) -> Sequence[Any]:
        started = time.monotonic()
        results = await self._run(rows)
        seconds = time.monotonic() - started
        if len(results) != len(rows):
            raise BatchError(f"{self._name} returned {len(results)} results for {len(rows)} rows")
        self._sizer.learn(len(rows), seconds)
        self._rows.observe(len(rows))
        self._run_seconds.observe(seconds)
        return results


def _settle(member: Member, results: Sequence[Any]) -> None:
    if not member.result.done():
        member.result.set_result(list(results))


def _fail(member: Member, error: Exception) -> None:
    if not member.result.done():
        member.result.set_exception(error)
