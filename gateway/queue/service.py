"""The queue as the rest of the gateway knows it: accept, run, look at, cancel, replay."""

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.proxy.invoker import Invoker
from gateway.queue.blobs import Blobs
from gateway.queue.call import CallState, CallView, Delivered, NewCall, Outcome, Payload, QueuedCall
from gateway.queue.callback_targets import CallbackTargets
from gateway.queue.callbacks import Callbacks
from gateway.queue.cleanup import Cleanup
from gateway.queue.group_commit import GroupCommitWriter
from gateway.queue.metrics import QueueMetrics
from gateway.queue.sqlite import SqliteStore, reader
from gateway.queue.store import Backlog, Filter, Store
from gateway.queue.submission import Submission
from gateway.queue.worker import Worker
from gateway.settings import GatewaySettings
from gateway.types.errors import DiskFullError, SluiceError, UnavailableError
from gateway.types.function import FunctionEvent, FunctionRemoved
from gateway.types.ids import FunctionId

T = TypeVar("T")

LOG: Final = logging.getLogger(__name__)

PRUNE_SECONDS: Final = 30.0
# How often a shared database is asked what other gateways left waiting.
LOOK_SECONDS: Final = 5.0
# Heartbeats within one lease, so that one that is late loses nothing.
BEATS: Final = 3


class CallQueue:
    """Every part of the queue, joined. start, run and close as gateway.app calls them."""

    def __init__(self, invoker: Invoker, settings: GatewaySettings) -> None:
        folder = settings.data_dir / "queue"
        self._settings = settings
        writer, read = _stores(settings)
        self._shared = not writer.exclusive
        self._commit_writer = GroupCommitWriter(writer, read)
        self._blobs = Blobs(folder / "blobs")
        targets = CallbackTargets(settings.callback_targets)
        self.submission = Submission(
            self._commit_writer, self._blobs, targets, settings.body_bytes, in_rows=self._shared
        )
        self._worker = Worker(self._commit_writer, invoker, self._blobs, settings)
        self._callbacks = Callbacks(self._commit_writer, self._blobs, targets, settings)
        self._cleanup = Cleanup(self._commit_writer, self._blobs, settings)
        self._waiting: Counter[str] = Counter()
        self._total = self._bytes = 0
        self.metrics = QueueMetrics(lambda: +self._waiting, lambda: self._worker.dispatcher.running)
        self._join()

    def _join(self) -> None:
        self.submission.room = self._no_room
        self.submission.accepted = self._accepted
        self._worker.begun = self._begun
        self._commit_writer.finished = self._finished
        self._commit_writer.delivered = self._delivered
        self._callbacks.answered = self._called_back
        if self._shared:
            self._worker.keep_in_rows()

    def pending(self, function: FunctionId) -> int:
        """Calls of the function that wait to be run, those between two attempts included."""
        return max(0, self._waiting[str(function)])

    def apply(self, event: FunctionEvent) -> None:
        """The provider's listener: a removed function's counters go."""
        if isinstance(event, FunctionRemoved):
            self.metrics.forget(str(event.id))

    # Its life.

    async def start(self) -> None:
        """Open the tables, take over what a dead gateway left, begin. Raises UnavailableError."""
        await asyncio.to_thread(self._blobs.open)
        await self._commit_writer.open()
        taken = await self._beat()
        if not self._shared:
            await self._cleanup.remove_orphans()
        calls = await self._commit_writer.read(lambda store: store.backlog())
        owed = await self._commit_writer.read(lambda store: store.callback_backlog())
        self._count(calls)
        if taken or calls:
            LOG.info("queue taken over running=%d waiting=%d", taken, sum(self._waiting.values()))
        self._worker.dispatcher.start(calls)
        self._callbacks.dispatcher.start(owed)

    async def run(self) -> None:
        """Heartbeat, pruning and a look at what others left, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self._settings.queue_lease / BEATS, self._beat))
            group.create_task(self._every(PRUNE_SECONDS, self._cleanup.prune))
            if self._shared:
                group.create_task(self._every(LOOK_SECONDS, self._look))

    async def drain(self, seconds: float) -> None:
        """Begin nothing more; wait for the calls that functions work on."""
        await self._worker.drain(seconds)

    async def close(self) -> None:
        """Leave what is not done to the next start."""
        self._worker.dispatcher.stop()
        self._callbacks.stop()
        if self._commit_writer.opened:
            try:
                await self._commit_writer.change(lambda store: store.leave())
            except SluiceError as error:
                LOG.warning("queue not left in order error=%s", error)
        await self._commit_writer.close()

    async def _every(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
            except Exception:
                LOG.exception("queue upkeep failed")

    async def _beat(self) -> int:
        lease = self._settings.queue_lease
        return await self._commit_writer.change(lambda store: store.take_over(time.time(), lease))

    async def _look(self) -> None:
        calls = await self._commit_writer.read(lambda store: store.backlog())
        owed = await self._commit_writer.read(lambda store: store.callback_backlog())
        self._count(calls)
        self._worker.dispatcher.adopt(calls)
        self._callbacks.dispatcher.adopt(owed)

    # What operators ask for.

    async def calls(self, wanted: Filter) -> list[CallView]:
        """Calls, newest first."""
        return await self._commit_writer.read(lambda store: store.calls(wanted))

    async def call(self, call: str) -> CallView:
        """One call. Raises NotFoundError."""
        return await self._commit_writer.read(lambda store: store.call(call))

    async def request(self, call: str) -> Payload | None:
        """What the function was asked; the body may be a file."""
        return await self._commit_writer.read(lambda store: store.request(call))

    async def response(self, call: str) -> Payload | None:
        """What the function answered last; the body may be a file."""
        return await self._commit_writer.read(lambda store: store.response(call))

    async def cancel(self, call: str) -> None:
        """Cancel a call that waits. Raises NotFoundError, AlreadyExistsError when it does not."""
        view = await self._change_free(call, lambda store: store.cancel(call, time.time()))
        self._wait(view.function, -1, -view.size)
        self.metrics.finished[CallState.CANCELLED, view.function] += 1

    async def delete(self, call: str) -> None:
        """Remove a call and its answer. Raises NotFoundError, AlreadyExistsError when it runs."""
        view, blobs = await self._change_free(call, lambda store: store.delete(call))
        if view.state is CallState.QUEUED:
            self._wait(view.function, -1, -view.size)
        await self._cleanup.remove(blobs)

    async def replay(self, call: str) -> None:
        """Queue a finished call again. Raises NotFoundError, AlreadyExistsError."""
        view, blobs = await self._commit_writer.change(
            lambda store: store.replay(call, time.time())
        )
        self._wait(view.function, 1, view.size)
        self._worker.dispatcher.wake(view.function)
        await self._cleanup.remove(blobs)

    async def prune(self) -> int:
        """Remove finished calls beyond what the settings keep; how many went."""
        return await self._cleanup.prune()

    def body_path(self, payload: Payload) -> str:
        """Where the body of a payload with a blob is."""
        return str(self._blobs.path(payload.blob))

    async def _change_free(self, call: str, change: Callable[[Store], T]) -> T:
        """Change a call that is not begun, though it may be taken; it stays so where that fails."""
        view, dispatcher = await self.call(call), self._worker.dispatcher
        taken = None
        if view.state is CallState.RUNNING:
            taken = dispatcher.take(view.function, lambda entry: entry.id == call)
        if taken is None:
            return await self._commit_writer.change(change)

        def free_and_change(store: Store) -> T:
            store.release([call])
            return change(store)

        try:
            return await self._commit_writer.change(free_and_change)
        except (UnavailableError, DiskFullError):
            dispatcher.give_back(view.function, taken)
            raise

    # What the parts tell.

    def _no_room(self) -> str:
        settings = self._settings
        if self._total >= settings.queue_calls:
            return f"{settings.queue_calls} calls are queued already"
        if self._bytes >= settings.queue_bytes:
            return f"{settings.queue_bytes} bytes of calls are queued already"
        return ""

    def _accepted(self, call: NewCall) -> None:
        self.metrics.submitted += 1
        request = call.request
        self._wait(call.function, 1, len(request.head) + request.size)
        self._worker.dispatcher.wake(call.function)

    def _begun(self, call: QueuedCall) -> None:
        self._wait(call.function, -1, -len(call.request.head) - call.request.size)

    def _wait(self, function: str, calls: int, size: int) -> None:
        self._waiting[function] += calls
        self._total += calls
        self._bytes += size

    def _finished(self, outcomes: list[Outcome], held: set[str]) -> None:
        dead: dict[str, list[Outcome]] = {}
        for outcome in outcomes:
            call = outcome.call
            self._worker.outcome_written(outcome)
            if call.id not in held:
                LOG.warning("lease lost call=%s function=%s", call.id, call.function)
            elif outcome.state is CallState.QUEUED:
                self.metrics.retries[call.function] += 1
                self._wait(call.function, 1, len(call.request.head) + call.request.size)
                self._worker.dispatcher.wake_at(call.function, outcome.due)
            else:
                self.metrics.finished[outcome.state, call.function] += 1
                if outcome.state is CallState.DEAD:
                    dead.setdefault(call.function, []).append(outcome)
                if call.host:
                    self._callbacks.dispatcher.wake(call.host)
        # A line a group and function, not one a call: a broken function may have a million.
        for function, of in dead.items():
            first = of[0].call.id, of[0].reason
            LOG.warning("dead calls=%d function=%s first=%s reason=%s", len(of), function, *first)

    def _delivered(self, delivered: list[Delivered]) -> None:
        for each in delivered:
            if each.state == "owed":
                self._callbacks.dispatcher.wake_at(each.delivery.host, each.due)

    def _called_back(self, state: str) -> None:
        self.metrics.callbacks[state] += 1

    def _count(self, calls: list[Backlog]) -> None:
        self._waiting = Counter({each.key: each.count for each in calls})
        self._total = self._waiting.total()
        self._bytes = sum(each.size for each in calls)


def _stores(settings: GatewaySettings) -> tuple[Store, Store]:
    """What writes and what reads."""
    owner, url = uuid.uuid4().hex, settings.queue_database_url
    if not url:
        path = settings.data_dir / "queue" / "calls.sqlite"
        return SqliteStore(path, owner), reader(path)
    from gateway.queue import postgres  # noqa: PLC0415 - its driver is an extra

    return postgres.store(url, owner), postgres.store(url, owner)
