"""One call of a function, from whatever caller: slot, connection, retry, deadline, end.

Callbacks only: while a slot and a kept connection are free, a call makes no task, timer or lock.
However it ends, it ends once: the slot is released and the call is counted.

When a connection breaks before the first byte of the response:
1. It was a kept connection, and the request did not arrive or may be repeated: send it once more
   to the same replica on a new connection (the replica had closed the old one).
2. Otherwise the replica may be gone: hold the slot for up to half a second, until the provider
   reports why. Then send the request to another replica if it certainly was not processed; if it
   may have been, or in the third attempt, respond with the reason.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from gateway.metrics import CLIENT_GONE
from gateway.proxy.activator import Activator
from gateway.proxy.connection_pool import ConnectionPool
from gateway.proxy.routes import ReplicaConcurrency, Route
from gateway.types.errors import DeadlineExceededError, SluiceError, UnavailableError, UpstreamError
from gateway.types.function import UnixAddress
from sluice.http1.client import ClientConnection
from sluice.http1.errors import MalformedResponseError

ATTEMPTS: Final = 3
# How long the provider has to report why a replica broke off.
REASON_SECONDS: Final = 0.5
REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
NEVER: Final = float("inf")


class CallPhase(Enum):
    """Where a call stands. What it holds follows from its phase."""

    WAITING = "has no slot: its body is being read, or it waits for one"
    CONNECTING = "has a slot and waits for a new connection"
    SENT_ON_KEPT = "sent on a connection that served calls before"
    SENT = "sent on a new connection"
    RESPONSE_STARTED = "the replica's response started, the caller was given none of it"
    RESPONSE_SENT = "the caller was given the start of the response"
    AWAITING_EXIT = "lost its connection and waits for the reason why the replica ended"
    FINISHED = "ended: holds nothing, and no callback has an effect"


# Constants, as the call path reads them some ten times a call: an attribute of the class costs
# four times as much.
WAITING: Final = CallPhase.WAITING
CONNECTING: Final = CallPhase.CONNECTING
SENT_ON_KEPT: Final = CallPhase.SENT_ON_KEPT
SENT: Final = CallPhase.SENT
RESPONSE_STARTED: Final = CallPhase.RESPONSE_STARTED
RESPONSE_SENT: Final = CallPhase.RESPONSE_SENT
AWAITING_EXIT: Final = CallPhase.AWAITING_EXIT
FINISHED: Final = CallPhase.FINISHED

# The call path assigns the phase without a look at this table, which would cost 10 % of a call
# (bench/pythonpath.py). Every test of the call path checks it: tests/gateway/proxy/conftest.py.
TRANSITIONS: Final[Mapping[CallPhase, frozenset[CallPhase]]] = {
    WAITING: frozenset({CONNECTING, SENT_ON_KEPT, FINISHED}),
    CONNECTING: frozenset({SENT, AWAITING_EXIT, WAITING, FINISHED}),
    SENT_ON_KEPT: frozenset({RESPONSE_STARTED, CONNECTING, AWAITING_EXIT, WAITING, FINISHED}),
    SENT: frozenset({RESPONSE_STARTED, AWAITING_EXIT, WAITING, FINISHED}),
    RESPONSE_STARTED: frozenset({RESPONSE_SENT, AWAITING_EXIT, FINISHED}),
    RESPONSE_SENT: frozenset({FINISHED}),
    AWAITING_EXIT: frozenset({WAITING, FINISHED}),
    FINISHED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class CallContext:
    """What all calls of a gateway share.

    call_seconds: time of a call whose function states none. response_bytes: the longest response
    that is held in memory. calls: those that have not finished.
    """

    activator: Activator
    connection_pool: ConnectionPool
    call_seconds: float
    response_bytes: int
    calls: "set[Call]" = field(default_factory=set)


class Call(ABC):
    """The course of a call; subclasses know the request's bytes and where the response goes.

    It is a Waiter and ExitListener of the activator, a ConnectionUser of the connection pool and
    the listener of its connection. Defaults are on the class: setting 12 fields per call costs
    more.
    """

    phase: CallPhase = WAITING
    method: str = "POST"
    slots: ReplicaConcurrency | None = None
    connection: ClientConnection | None = None
    deadline: float = NEVER
    attempts: int = 1
    # A request that may have been processed is not sent to a second replica.
    maybe_processed: bool = False
    # While the call awaits the exit of its replica: how it lost it, and when it stops waiting.
    _loss: str = ""
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, context: CallContext, route: Route, now: float) -> None:
        self.context = context
        self.route = route
        self.started = now
        route.metrics.started += 1
        context.calls.add(self)

    # What a subclass adds.

    def can_repeat(self, slots: ReplicaConcurrency, *, unread: bool) -> bool:
        """Whether the request may go to any replica once more after its connection broke.

        unread: the replica closed without having read all of it. It then has not begun to process
        a request that was sent in one write.
        """
        return unread

    @abstractmethod
    def send(self, connection: ClientConnection) -> None:
        """Send the request, as far as it is there."""

    @abstractmethod
    def refuse(self, status: int, error: SluiceError) -> None:
        """Respond with an error of the gateway; no response was sent yet."""

    @abstractmethod
    def break_off(self) -> None:
        """End a response that was sent in part, so that it cannot be taken for complete."""

    # The course.

    def start(self, now: float) -> None:
        """Ask for a slot; the rest follows in callbacks, perhaps before this returns."""
        try:
            slots = self.context.activator.reserve(self.route, self, now)
        except SluiceError as error:
            self.fail(error, now)
            return
        if slots is not None:
            self.slot_granted(slots, now)

    def slot_granted(self, slots: ReplicaConcurrency, now: float) -> None:
        self.slots = slots
        self.deadline = now + (self.route.timeout or self.context.call_seconds)
        connection = self.context.connection_pool.take(slots.replica.id)
        if connection is None:
            self._connect(slots)
        else:
            self.phase = SENT_ON_KEPT
            self.connection = connection
            self.send(connection)

    def wait_failed(self, error: SluiceError, now: float) -> None:
        self.fail(error, now)

    def connected(self, connection: ClientConnection) -> None:
        if self.slots is not None and not self.slots.ready:
            # It drains by now: whether it still accepts this connection is unknown.
            connection.abort()
            self._replica_lost(ConnectionError("the replica stops"), processed=False)
            return
        self.phase = SENT
        self.connection = connection
        self.send(connection)

    def connect_failed(self, error: Exception) -> None:
        self._replica_lost(error, processed=self.maybe_processed)

    def response_failed(self, error: Exception, nothing_sent: bool) -> None:
        self.connection = None
        slots, phase = self.slots, self.phase
        if phase is FINISHED or slots is None:
            return
        if phase is RESPONSE_SENT or isinstance(error, MalformedResponseError):
            self.route.metrics.lost += 1
            self.fail(UpstreamError(f"{self.route.name}: {error}"), time.monotonic())
            return
        unread = nothing_sent or was_unread(error, slots)
        arrived = phase is RESPONSE_STARTED or not self.can_repeat(slots, unread=unread)
        may_repeat = not arrived or self.method in REPEATABLE
        if phase is not SENT_ON_KEPT or not may_repeat or not slots.ready:
            self._replica_lost(error, processed=arrived)
            return
        self.maybe_processed = arrived
        self.route.metrics.retries += 1
        self._connect(slots)

    def replica_ended(self, reason: str) -> None:
        """Called with the provider's reason, or without one after half a second."""
        slots = self.slots
        if self.phase is not AWAITING_EXIT or slots is None:
            return
        self._stop_awaiting_exit(slots)
        now = time.monotonic()
        if not self.maybe_processed and self.attempts < ATTEMPTS:
            self._try_another(slots, now)
            return
        self.route.metrics.lost += 1
        why = reason or self._loss
        self.fail(UpstreamError(f"{self.route.name}: replica {slots.replica.id} ended: {why}"), now)

    def expire(self, now: float) -> None:
        """End a call whose deadline has passed."""
        seconds = self.route.timeout or self.context.call_seconds
        self.fail(DeadlineExceededError(f"{self.route.name}: no answer within {seconds:g} s"), now)

    def client_gone(self) -> None:
        """Nobody wants the response: the replica sees its connection close."""
        if self.phase is not FINISHED:
            self._finish(CLIENT_GONE, time.monotonic())

    def fail(self, error: SluiceError, now: float) -> None:
        """End the call with an error of the gateway."""
        phase = self.phase
        if phase is FINISHED:
            return
        self._finish(error.status, now)
        if phase is RESPONSE_SENT:
            self.break_off()
        else:
            self.refuse(error.status, error)

    def complete(self, status: int, reusable: bool, now: float) -> None:
        """The response is complete: give connection and slot back."""
        connection, slots, context = self.connection, self.slots, self.context
        if connection is None or slots is None:
            return
        self.connection = self.slots = None
        self.phase = FINISHED
        if reusable and slots.ready:
            replica = slots.replica
            context.connection_pool.give_back(replica.id, replica.address, connection)
        else:
            connection.abort()
        context.calls.discard(self)
        context.activator.release(slots, now)
        self.route.metrics.answered(status, now - self.started)

    # Details.

    def _connect(self, slots: ReplicaConcurrency) -> None:
        self.phase = CONNECTING
        self.context.connection_pool.connect(slots.replica.address, self)

    def _replica_lost(self, error: Exception, *, processed: bool) -> None:
        slots = self.slots
        if self.phase is FINISHED or slots is None:
            return
        self.maybe_processed = processed
        if self.route.service:
            text = f"{self.route.name}: the service is away, try again: {_text(error)}"
            self.fail(UnavailableError(text), time.monotonic())
            return
        if not (processed or slots.ready) and self.attempts < ATTEMPTS:
            self._try_another(slots, time.monotonic())
            return
        self.phase, self._loss = AWAITING_EXIT, _text(error)
        known = self.context.activator.await_exit(slots, self)
        if known is not None:
            self.replica_ended(known)
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(REASON_SECONDS, self.replica_ended, "")

    def _try_another(self, slots: ReplicaConcurrency, now: float) -> None:
        """Release the slot and wait for any other, for as long as the first wait may last."""
        self.phase = WAITING
        self.attempts += 1
        self.deadline = NEVER
        self.slots = None
        self.route.metrics.retries += 1
        activator = self.context.activator
        activator.release(slots, now)
        try:
            found = activator.reserve_again(self.route, self, now, self.started)
        except SluiceError as error:
            self.fail(error, now)
            return
        if found is not None:
            self.slot_granted(found, now)

    def _stop_awaiting_exit(self, slots: ReplicaConcurrency) -> None:
        slots.exit_listeners.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _finish(self, status: int, now: float) -> None:
        """Give back what the call holds, cutting its connection, and count it."""
        phase, slots, context = self.phase, self.slots, self.context
        self.phase = FINISHED
        if phase is WAITING:
            context.activator.leave(self.route, self, now)
        elif phase is CONNECTING:
            context.connection_pool.abandon(self)
        if self.connection is not None:
            self.connection.abort()
            self.connection = None
        if slots is not None:
            if phase is AWAITING_EXIT:
                self._stop_awaiting_exit(slots)
            self.slots = None
            context.activator.release(slots, now)
        context.calls.discard(self)
        self.route.metrics.answered(status, now - self.started)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def was_unread(error: Exception, slots: ReplicaConcurrency) -> bool:
    """Whether a Unix peer closed without having read all of the request.

    The kernel then reports a reset instead of an end: a replica that drains closes the
    connections on which it has read nothing. On TCP a reset may have other causes.
    """
    unix = isinstance(slots.replica.address, UnixAddress)
    return unix and isinstance(error.__cause__, ConnectionResetError | BrokenPipeError)
