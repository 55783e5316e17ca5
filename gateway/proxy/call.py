"""One call of a function, whoever wants the answer: slot, connection, retry, deadline, end.

Callbacks only: while a slot and a kept connection are free, a call makes no task, timer or lock.
Whatever way it ends, `_finish` runs once: the slot goes back, the call is counted.

When a connection breaks before any byte of the answer:
1. it was a kept one, and the request did not arrive or may be repeated: once more to the same
   replica, on a new connection (the replica had closed the old one);
2. otherwise the replica may be gone: the slot is held for up to half a second, until the provider
   says why. The request then goes to another replica if it certainly was not processed; else, and
   in the third attempt, the caller is told the reason.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from gateway.metrics import CLIENT_GONE
from gateway.proxy.routes import ReplicaConcurrency, Route
from gateway.types.errors import (
    DeadlineExceededError,
    SluiceError,
    UnavailableError,
    UpstreamError,
)
from gateway.types.function import UnixAddress
from sluice.http1.client import ClientConnection
from sluice.http1.errors import MalformedResponseError

if TYPE_CHECKING:
    from gateway.proxy.invoker import Invoker

ATTEMPTS: Final = 3
# How long the provider has to say why a replica broke off.
REASON_SECONDS: Final = 0.5
REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})
NEVER: Final = float("inf")


class Call(ABC):
    """The course of a call; subclasses know the request's bytes and where the answer goes.

    It is a Waiter and ExitListener of the activator, a ConnectionUser of the connection pool and
    the listener of its connection. Defaults stand on the class: filling 15 fields per call costs
    more.
    """

    method: str = "POST"
    slots: ReplicaConcurrency | None = None
    connection: ClientConnection | None = None
    deadline: float = NEVER
    attempts: int = 1
    reused: bool = False
    # A request that may have been processed is not sent to a second replica.
    maybe_processed: bool = False
    # The replica's head came; the caller was given some of the answer; nothing is to come.
    response_begun: bool = False
    response_sent: bool = False
    finished: bool = False
    _loss: Exception | None = None
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, invoker: "Invoker", route: Route, now: float) -> None:
        self.invoker = invoker
        self.route = route
        self.started = now
        route.metrics.started += 1
        invoker.calls.add(self)

    # What a subclass adds.

    def can_repeat(self, slots: ReplicaConcurrency, *, unread: bool) -> bool:
        """Whether the request may go to any replica once more after its connection broke.

        unread: the replica closed without having read all of it. A request sent in one write was
        then not begun either.
        """
        return unread

    @abstractmethod
    def send(self, connection: ClientConnection) -> None:
        """Send the request, as far as it is there."""

    @abstractmethod
    def refuse(self, status: int, error: SluiceError) -> None:
        """Answer with an error of the gateway; nothing was answered yet."""

    @abstractmethod
    def break_off(self) -> None:
        """End an answer that was begun, so that it cannot be taken for whole."""

    # The course.

    def start(self, now: float) -> None:
        """Ask for a slot; all else follows by callbacks, perhaps before this returns."""
        try:
            slots = self.invoker.activator.reserve(self.route, self, now)
        except SluiceError as error:
            self.fail(error, now)
            return
        if slots is not None:
            self.slot_granted(slots, now)

    def slot_granted(self, slots: ReplicaConcurrency, now: float) -> None:
        self.slots = slots
        self.deadline = now + (self.route.timeout or self.invoker.call_seconds)
        connection = self.invoker.connection_pool.take(slots.replica.id)
        if connection is None:
            self._connect(slots)
        else:
            self.reused = True
            self.connection = connection
            self.send(connection)

    def wait_failed(self, error: SluiceError, now: float) -> None:
        self.fail(error, now)

    def connected(self, connection: ClientConnection) -> None:
        if self.slots is not None and not self.slots.ready:
            # It drains since: whether it still accepts this connection is anybody's guess.
            connection.abort()
            self._replica_lost(ConnectionError("the replica stops"), processed=False)
            return
        self.connection = connection
        self.send(connection)

    def connect_failed(self, error: Exception) -> None:
        self._replica_lost(error, processed=self.maybe_processed)

    def response_failed(self, error: Exception, nothing_sent: bool) -> None:
        self.connection = None
        slots = self.slots
        if self.finished or slots is None:
            return
        if self.response_sent or isinstance(error, MalformedResponseError):
            self.route.metrics.lost += 1
            self.fail(UpstreamError(f"{self.route.name}: {error}"), time.monotonic())
            return
        unread = nothing_sent or was_unread(error, slots)
        arrived = self.response_begun or not self.can_repeat(slots, unread=unread)
        may_repeat = not arrived or (self.method in REPEATABLE and not self.response_begun)
        if not self.reused or not may_repeat or not slots.ready:
            self._replica_lost(error, processed=arrived)
            return
        self.reused = False
        self.maybe_processed = arrived
        self.route.metrics.retries += 1
        self._connect(slots)

    def replica_ended(self, reason: str) -> None:
        """The provider's word on a replica that broke off, or silence after half a second."""
        loss, slots = self._loss, self.slots
        if self.finished or loss is None or slots is None:
            return
        self._stop_awaiting_exit()
        now = time.monotonic()
        if not self.maybe_processed and self.attempts < ATTEMPTS:
            self._try_another(slots, now)
            return
        self.route.metrics.lost += 1
        why = reason or _text(loss)
        self.fail(UpstreamError(f"{self.route.name}: replica {slots.replica.id} ended: {why}"), now)

    def expire(self, now: float) -> None:
        """End a call whose deadline has passed."""
        seconds = self.route.timeout or self.invoker.call_seconds
        self.fail(DeadlineExceededError(f"{self.route.name}: no answer within {seconds:g} s"), now)

    def client_gone(self) -> None:
        """Nobody wants the answer: the replica is told by the connection's end."""
        if not self.finished:
            self._let_go()
            self._finish(CLIENT_GONE, time.monotonic())

    def fail(self, error: SluiceError, now: float) -> None:
        """End the call with an error of the gateway."""
        if self.finished:
            return
        self._let_go()
        self._finish(error.status, now)
        if self.response_sent:
            self.break_off()
        else:
            self.refuse(error.status, error)

    def complete(self, status: int, reusable: bool, now: float) -> None:
        """The answer came whole: connection and slot go back."""
        connection, slots, invoker = self.connection, self.slots, self.invoker
        if connection is None or slots is None:
            return
        self.connection = self.slots = None
        self.finished = True
        if reusable and slots.ready:
            replica = slots.replica
            invoker.connection_pool.give_back(replica.id, replica.address, connection)
        else:
            connection.abort()
        invoker.calls.discard(self)
        invoker.activator.release(slots, now)
        self.route.metrics.answered(status, now - self.started)

    # Details.

    def _connect(self, slots: ReplicaConcurrency) -> None:
        self.invoker.connection_pool.connect(slots.replica.address, self)

    def _replica_lost(self, error: Exception, *, processed: bool) -> None:
        slots = self.slots
        if self.finished or slots is None:
            return
        self.maybe_processed = processed
        if self.route.service:
            text = f"{self.route.name}: the service is away, try again: {_text(error)}"
            self.fail(UnavailableError(text), time.monotonic())
            return
        if not (processed or slots.ready) and self.attempts < ATTEMPTS:
            self._try_another(slots, time.monotonic())
            return
        self._loss = error
        known = self.invoker.activator.await_exit(slots, self)
        if known is not None:
            self.replica_ended(known)
        else:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(REASON_SECONDS, self.replica_ended, "")

    def _try_another(self, slots: ReplicaConcurrency, now: float) -> None:
        """Give the slot back and wait for one anywhere, as long as the first wait may last."""
        self.attempts += 1
        self.reused = False
        self.deadline = NEVER
        self.slots = None
        self.route.metrics.retries += 1
        activator = self.invoker.activator
        activator.release(slots, now)
        try:
            found = activator.reserve_again(self.route, self, now, self.started)
        except SluiceError as error:
            self.fail(error, now)
            return
        if found is not None:
            self.slot_granted(found, now)

    def _let_go(self) -> None:
        """Stop waiting for whatever the call waits for, and cut its connection."""
        invoker = self.invoker
        if self.connection is not None:
            self.connection.abort()
            self.connection = None
        elif self.slots is None:
            invoker.activator.leave(self.route, self, time.monotonic())
        elif self._loss is not None:
            self._stop_awaiting_exit()
        else:
            invoker.connection_pool.abandon(self)

    def _stop_awaiting_exit(self) -> None:
        self._loss = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.slots is not None:
            self.slots.exit_listeners.pop(self, None)

    def _finish(self, status: int, now: float) -> None:
        self.finished = True
        self.invoker.calls.discard(self)
        slots = self.slots
        if slots is not None:
            self.slots = None
            self.invoker.activator.release(slots, now)
        self.route.metrics.answered(status, now - self.started)


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def was_unread(error: Exception, slots: ReplicaConcurrency) -> bool:
    """Whether a Unix peer closed without having read all of the request.

    The kernel then reports a reset instead of an end: a replica that was told to stop closes the
    connections on which it has read nothing. On TCP a reset may have other causes.
    """
    unix = isinstance(slots.replica.address, UnixAddress)
    return unix and isinstance(error.__cause__, ConnectionResetError | BrokenPipeError)
