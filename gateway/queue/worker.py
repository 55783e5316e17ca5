"""Runs queued calls: leases them, calls the function, decides what follows from the response."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import Final

from gateway.proxy.call import CallContext
from gateway.proxy.collected_call import CollectedResponse
from gateway.proxy.routes import Route
from gateway.queue.blobs import ROW_BYTES, Blobs
from gateway.queue.call import CallState, Outcome, Payload, QueuedCall
from gateway.queue.dispatcher import Dispatcher
from gateway.queue.group_commit import GroupCommitWriter
from gateway.queue.invocation import QueuedInvocation, request_bytes
from gateway.queue.retries import RetryPolicy, concurrency, retry_after
from gateway.settings import GatewaySettings
from gateway.types.errors import InvalidRequestError, NotFoundError, SluiceError
from gateway.types.function import FunctionDeployment
from gateway.types.ids import FunctionId
from sluice.http1.wire import header_lines

LOG: Final = logging.getLogger(__name__)

# Outcomes that are not written yet, beyond which no new call is begun.
UNWRITTEN: Final = 2000
# Bodies from files that are in memory at once; a larger one is called with alone.
BLOB_BYTES: Final = 256 * 1024 * 1024
INTERNAL: Final = b"x-openfaas-internal"

Result = CollectedResponse | SluiceError


class Worker:
    """The queue's side that calls functions.

    begun: called with each call that is begun. in_rows: responses of every size go into the row.
    """

    def __init__(
        self,
        commit_writer: GroupCommitWriter,
        context: CallContext,
        blobs: Blobs,
        settings: GatewaySettings,
        begun: Callable[[QueuedCall], None],
        *,
        in_rows: bool,
    ) -> None:
        self._commit_writer, self._context, self._blobs = commit_writer, context, blobs
        self._activator = context.activator
        self._concurrency: int = settings.queue_concurrency
        self._max_age: float = settings.queue_max_age
        self._begun, self._in_rows = begun, in_rows
        self.dispatcher = Dispatcher(
            settings.queue_inflight, self._limit, self._begin, commit_writer.lease
        )
        # Ids of calls that were begun and whose outcome is not durable: not to be begun again.
        self._held: set[str] = set()
        self._loaded = 0
        self._unloaded = asyncio.Condition()
        self._rules: dict[str, tuple[FunctionDeployment, RetryPolicy, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def drain(self, seconds: float) -> None:
        """Begin nothing more and wait for the calls under way."""
        left = self.dispatcher.stop()
        if left:
            ids = [call.id for call in left]
            await self._commit_writer.change(lambda store: store.release(ids))
        deadline = time.monotonic() + seconds
        while self.dispatcher.running and time.monotonic() < deadline:  # noqa: ASYNC110 - an event would be set with each call
            await asyncio.sleep(0.01)

    def outcome_written(self, outcome: Outcome) -> None:
        """Called once an outcome is durable."""
        self._held.discard(outcome.call.id)
        self.dispatcher.pump_soon()

    # For the dispatcher.

    def _limit(self, function: str) -> int:
        """Calls of the function that may run at once: no more than have a slot."""
        if self._commit_writer.unwritten > UNWRITTEN:
            return 0
        try:
            route = self._activator.route(FunctionId.parse(function))
        except NotFoundError:
            return self._concurrency
        limit = self._rule(route)[1]
        room = 0
        for slots in route.slots:
            if not slots.limit:
                return limit
            room += slots.limit
        return min(limit, room) if room else limit

    def _rule(self, route: Route) -> tuple[RetryPolicy, int]:
        deployment = route.status.deployment
        known = self._rules.get(route.name)
        if known is None or known[0] is not deployment:
            known = (deployment, *_rule_of(deployment, self._concurrency))
            self._rules[route.name] = known
        return known[1], known[2]

    def _begin(self, call: QueuedCall) -> None:
        if call.id in self._held:
            # Another gateway took the lease and gave it back: the first attempt still runs.
            self.dispatcher.ended(call.function)
            return
        self._held.add(call.id)
        self._begun(call)
        try:
            route = self._activator.route(FunctionId.parse(call.function))
        except NotFoundError as error:
            self._ended(call, time.monotonic(), error)
            return
        if call.request.blob:
            self._spawn(self._begin_large(call, route))
        else:
            self._invoke(call, route, call.request.body)

    async def _begin_large(self, call: QueuedCall, route: Route) -> None:
        size = call.request.size
        async with self._unloaded:
            await self._unloaded.wait_for(
                lambda: not self._loaded or self._loaded + size <= BLOB_BYTES
            )
            self._loaded += size
        try:
            body = await asyncio.to_thread(self._blobs.read, call.request.blob)
        except OSError as error:
            await self._unload(size)
            LOG.exception("body lost call=%s function=%s", call.id, call.function)
            lost = NotFoundError(f"the request's body is lost: {error.strerror}")
            self._ended(call, time.monotonic(), lost)
            return
        self._invoke(call, route, body)

    async def _unload(self, size: int) -> None:
        async with self._unloaded:
            self._loaded -= size
            self._unloaded.notify_all()

    def _invoke(self, call: QueuedCall, route: Route, body: bytes) -> None:
        data = request_bytes(call, self._rule(route)[0].attempts, body)
        QueuedInvocation(self._context, route, call, data, self._responded).start(time.monotonic())

    def _responded(self, call: QueuedCall, started: float, response: Result) -> None:
        if call.request.blob:
            self._spawn(self._unload(call.request.size))
        if (
            isinstance(response, CollectedResponse)
            and len(response.body) > ROW_BYTES
            and not self._in_rows
        ):
            self._spawn(self._keep_large(call, started, response))
        else:
            self._ended(call, started, response)

    async def _keep_large(
        self, call: QueuedCall, started: float, response: CollectedResponse
    ) -> None:
        name = f"{call.id}.{call.attempt}.answer"
        try:
            await asyncio.to_thread(self._blobs.write, name, response.body)
        except OSError:
            LOG.exception("response not in a file call=%s function=%s", call.id, call.function)
            name = ""
        self._ended(call, started, response, name)

    def _ended(self, call: QueuedCall, started: float, response: Result, blob: str = "") -> None:
        outcome = self._outcome(call, time.monotonic() - started, response, blob)
        self._commit_writer.finish(outcome)
        self.dispatcher.ended(call.function)

    def _outcome(self, call: QueuedCall, seconds: float, response: Result, blob: str) -> Outcome:
        now = time.time()
        if isinstance(response, CollectedResponse):
            status, reason = response.status, ""
            payload = _payload(response, blob)
            internal = any(name == INTERNAL for name, _ in response.headers)
            asked = retry_after(status, response.headers, now, self._max_age)
        else:
            status, reason = response.status, str(response)
            payload, asked = None, None
            internal = not isinstance(response, NotFoundError)
        state, due = CallState.SUCCEEDED, now
        if status >= 400 or internal:
            state, due, why = self._next(call, now, status, (internal, asked))
            reason = f"{reason}; {why}" if reason and why else reason or why
        return Outcome(call, state, due, status, reason, now, seconds, payload)

    def _next(
        self, call: QueuedCall, now: float, status: int, hints: tuple[bool, float | None]
    ) -> tuple[CallState, float, str]:
        """What follows a failed attempt, when, and why nothing more does."""
        internal, asked = hints
        policy = self._policy(call.function)
        if not policy.retries(status, internal):
            return CallState.DEAD, now, f"answered {status}, which is not tried again"
        if call.attempt >= policy.attempts:
            return CallState.DEAD, now, f"answered {status}, no attempt is left"
        due = now + policy.wait(call.attempt, asked, random.random)
        if due > call.accepted + self._max_age:
            return CallState.DEAD, now, f"answered {status}, older than {self._max_age:g} s by then"
        return CallState.QUEUED, due, f"answered {status}"

    def _policy(self, function: str) -> RetryPolicy:
        try:
            return self._rule(self._activator.route(FunctionId.parse(function)))[0]
        except NotFoundError:
            return RetryPolicy()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _rule_of(deployment: FunctionDeployment, default: int) -> tuple[RetryPolicy, int]:
    annotations = deployment.annotations
    try:
        return RetryPolicy.parse(annotations), concurrency(annotations, default)
    except InvalidRequestError as error:
        # The API refuses such a deployment; one from elsewhere still has to be served.
        LOG.warning("retries_ignored function=%s error=%s", deployment.id, error)
        return RetryPolicy(), default


def _payload(response: CollectedResponse, blob: str) -> Payload:
    try:
        head = header_lines(response.headers)
    except ValueError:
        head = b""
    return Payload(head, b"" if blob else response.body, blob, len(response.body))
