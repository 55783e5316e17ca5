"""The queue as the rest of the gateway uses it: accept, run, inspect, cancel and replay calls."""

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.proxy.call import CallContext
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
# How often a gateway looks in a shared database for calls that other gateways left waiting.
LOOK_SECONDS: Final = 5.0
# Heartbeats within one lease, so that a late one loses no call.
BEATS: Final = 3


class CallQueue:
    """Makes and joins the parts of the queue, and counts the calls that wait.

    context: of the calls of functions. gateway.app calls start, run, drain and close.
    """

    def __init__(self, context: CallContext, settings: GatewaySettings) -> None:
        folder = settings.data_dir / "queue"
        self._settings = settings
        writer, read = _stores(settings)
        self._shared = not writer.exclusive
        self._commit_writer = GroupCommitWriter(writer, read, self._finished, self._delivered)
        self._blobs = Blobs(folder / "blobs")
        targets = CallbackTargets(settings.callback_targets)
        self.submission = Submission(
            self,
            self._commit_writer,
            self._blobs,
            targets,
            settings.body_bytes,
            in_rows=self._shared,
        )
        self._worker = Worker(
            self._commit_writer,
            context,
            self._blobs,
            settings,
            self._begun,
            in_rows=self._shared,
        )
        self._callbacks = Callbacks(
            self._commit_writer, self._blobs, targets, settings, self._called_back
        )
        self._cleanup = Cleanup(self._commit_writer, self._blobs, settings)
        self._waiting: Counter[str] = Counter()
        self._total = self._bytes = 0
        self.metrics = QueueMetrics(lambda: +self._waiting, lambda: self._worker.dispatcher.running)

    def pending(self, function: FunctionId) -> int:
        """Calls of the function that wait to be run, including those between two attempts."""
        return max(0, self._waiting[str(function)])

    def apply(self, event: FunctionEvent) -> None:
        """The provider's listener: drops the counters of a removed function."""
        if isinstance(event, FunctionRemoved):
            self.metrics.forget(str(event.id))

    # Start and end.

    async def start(self) -> None:
        """Open the tables, take over the calls of dead gateways, begin. Raises UnavailableError."""
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
        """Heartbeats, pruning, and adopting the calls of other gateways, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._periodically(self._settings.queue_lease / BEATS, self._beat))
            group.create_task(self._periodically(PRUNE_SECONDS, self._cleanup.prune))
            if self._shared:
                group.create_task(self._periodically(LOOK_SECONDS, self._look))

    async def drain(self, seconds: float) -> None:
        """Begin no more calls; wait for those that functions work on."""
        await self._worker.drain(seconds)

    async def close(self) -> None:
        """Leave unfinished calls to the next start."""
        self._worker.dispatcher.stop()
        self._callbacks.stop()
        if self._commit_writer.opened:
            try:
                await self._commit_writer.change(lambda store: store.leave())
            except SluiceError as error:
                LOG.warning("queue not left in order error=%s", error)
        await self._commit_writer.close()

    async def _periodically(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
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

    # For operators.

    async def calls(self, wanted: Filter) -> list[CallView]:
        """Calls, newest first."""
        return await self._commit_writer.read(lambda store: store.calls(wanted))

    async def call(self, call: str) -> CallView:
        """One call. Raises NotFoundError."""
        return await self._commit_writer.read(lambda store: store.call(call))

    async def request(self, call: str) -> Payload | None:
        """The request of a call; its body may be in a file."""
        return await self._commit_writer.read(lambda store: store.request(call))

    async def response(self, call: str) -> Payload | None:
        """The last response of a call; its body may be in a file."""
        return await self._commit_writer.read(lambda store: store.response(call))

    async def cancel(self, call: str) -> None:
        """Cancel a waiting call. Raises NotFoundError, AlreadyExistsError if it does not wait."""
        view = await self._change_free(call, lambda store: store.cancel(call, time.time()))
        self._wait(view.function, -1, -view.size)
        self.metrics.finished[CallState.CANCELLED, view.function] += 1

    async def delete(self, call: str) -> None:
        """Remove a call and its response. Raises NotFoundError, AlreadyExistsError if it runs."""
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
        """Remove finished calls beyond what the settings keep; returns how many."""
        return await self._cleanup.prune()

    def body_path(self, payload: Payload) -> str:
        """Path of the body of a payload that has a blob."""
        return str(self._blobs.path(payload.blob))

    async def _change_free(self, call: str, change: Callable[[Store], T]) -> T:
        """Change a call that was not begun, though it may be leased; nothing changes on failure."""
        view, dispatcher = await self.call(call), self._worker.dispatcher
        taken = None
        if view.state is CallState.RUNNING:
            # A lease is durable a moment before its calls are at hand: they are after any group.
            await self._commit_writer.change(lambda _store: None)
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

    # Called by the parts.

    def refusal(self) -> str:
        """Why no call is accepted now; empty while there is room."""
        settings = self._settings
        if self._total >= settings.queue_calls:
            return f"{settings.queue_calls} calls are queued already"
        if self._bytes >= settings.queue_bytes:
            return f"{settings.queue_bytes} bytes of calls are queued already"
        return ""

    def accepted(self, call: NewCall) -> None:
        """Count a call that is durable, and run it."""
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
        # One line per group and function, not per call: a broken function may have a million.
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
    """A store that writes and one that reads."""
    owner, url = uuid.uuid4().hex, settings.queue_database_url
    if not url:
        path = settings.data_dir / "queue" / "calls.sqlite"
        return SqliteStore(path, owner), reader(path)
    from gateway.queue import postgres  # noqa: PLC0415 - its driver is an extra

    return postgres.store(url, owner), postgres.store(url, owner)
