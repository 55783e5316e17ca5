"""Assigns calls to replicas, queues those that find no free slot, and wakes functions at zero.

It does no I/O, starts no task and reads the clock only to date a provider's event. `reserve`
returns a free slot; where there is none, the call is called back later. A replica is chosen as
Knative's activator does: with a small hard limit the first that has a free slot (load is packed,
so that other replicas become idle and can be removed), else the least loaded.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.metrics import Metrics
from gateway.proxy.routes import ExitListener, ReplicaConcurrency, Route, Waiter
from gateway.types.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    SluiceError,
    UnavailableError,
)
from gateway.types.function import FunctionEvent, FunctionRemoved, FunctionStatus
from gateway.types.ids import FunctionId
from gateway.types.scaling import FunctionLoad, ScalingPolicy

LOG: Final = logging.getLogger(__name__)

Clock = Callable[[], float]

# Knative packs up to this hard limit: serving/pkg/activator/net/lb_policy.go.
PACK_LIMIT: Final = 3


@dataclass(frozen=True, slots=True)
class Listeners:
    """Called by an activator, from its own calls and callbacks; none of them may block.

    wake: a call wants a function that is at zero; called at most once at a time for each. It
    starts the scaling and reports a failure to `Activator.wake_failed`.
    call_queued: a call has to wait for a slot.
    replica_retired: the id of a replica that gets no further calls; called once for each.
    """

    wake: Callable[[FunctionId], None]
    call_queued: Callable[[FunctionId], None]
    replica_retired: Callable[[str], None]


class Activator:
    """Routes built from the provider's events, and the slots of every replica.

    wait_seconds, wait_calls: how long and how many calls of one function may wait for a slot.
    """

    def __init__(
        self,
        listeners: Listeners,
        metrics: Metrics,
        wait_seconds: float,
        wait_calls: int,
        clock: Clock = time.monotonic,
    ) -> None:
        self._listeners = listeners
        self._metrics = metrics
        self._wait_seconds = wait_seconds
        self._wait_calls = wait_calls
        self._clock = clock
        self._routes: dict[FunctionId, Route] = {}
        # The same routes by every text that names a function.
        self._named: dict[str, Route] = {}
        # Grows whenever a function is added or removed: what was cached by URL is then invalid.
        self.generation = 0
        metrics.read_loads(lambda: self.stats(self._clock()))

    def route(self, function: FunctionId) -> Route:
        """The route of a deployed function. Raises NotFoundError."""
        route = self._routes.get(function)
        if route is None:
            raise _not_found(function)
        return route

    def route_named(self, name: str) -> Route:
        """The route of the function that a URL names. Raises NotFoundError."""
        route = self._named.get(name)
        return route if route is not None else self.route(FunctionId.parse(name))

    def reserve(self, route: Route, waiter: Waiter, now: float) -> ReplicaConcurrency | None:
        """A slot at once, or None: then `waiter` is called back later.

        Raises NotFoundError, OverloadedError when too many wait, UnavailableError with the
        reason when no replica starts.
        """
        route.arrivals += 1
        slots = free_slots(route)
        if slots is None:
            self._enqueue(route, waiter, now, now + self._wait_seconds)
            return None
        # Route.add_demand in place, here and in `release`: 2 % of a call less on
        # bench/pythonpath.py.
        route.demand_seconds += route.demand * (now - route.since)
        route.since = now
        route.demand += 1
        slots.inflight += 1
        return slots

    def reserve_again(
        self, route: Route, waiter: Waiter, now: float, since: float
    ) -> ReplicaConcurrency | None:
        """As `reserve`, for a call whose replica was lost: it goes before those that wait.

        since: when it came; the time that it may wait counts from then.
        """
        slots = free_slots(route)
        if slots is None:
            self._enqueue(route, waiter, now, since + self._wait_seconds)
            route.waiters.move_to_end(waiter, last=False)
            return None
        route.add_demand(1, now)
        slots.inflight += 1
        return slots

    def release(self, slots: ReplicaConcurrency, now: float) -> None:
        """Give a slot back and serve the first that waits."""
        route = slots.route
        route.demand_seconds += route.demand * (now - route.since)
        route.since = now
        route.demand -= 1
        slots.inflight -= 1
        if route.waiters:
            self._serve(route, now)

    def leave(self, route: Route, waiter: Waiter, now: float) -> None:
        """Stop waiting; no effect for one that does not wait."""
        if route.waiters.pop(waiter, None) is not None:
            route.add_demand(-1, now)

    def await_exit(self, slots: ReplicaConcurrency, exit_listener: ExitListener) -> str | None:
        """The reason if the replica has ended; else None, and the listener is called later."""
        if slots.ended:
            return slots.replica.reason
        slots.exit_listeners[exit_listener] = None
        return None

    def expire(self, now: float) -> None:
        """End the waits whose deadline has passed; to be called a few times a second."""
        for route in list(self._routes.values()):
            while route.waiters:
                waiter, (deadline, _since) = next(iter(route.waiters.items()))
                if deadline > now:
                    break
                del route.waiters[waiter]
                route.add_demand(-1, now)
                waiter.wait_failed(_waited_too_long(route, self._wait_seconds), now)

    def wake_failed(self, function: FunctionId, error: SluiceError) -> None:
        """Fail the calls that wait for a function which could not be scaled from zero."""
        route = self._routes.get(function)
        if route is None:
            return
        route.waking_since = None
        if not route.slots:
            reason = f"{route.name}: cannot be scaled from zero: {error}"
            _fail_waiters(route, UnavailableError(reason), self._clock())

    def stats(self, now: float) -> list[FunctionLoad]:
        """The load of every function up to `now`, in seconds of this activator's clock."""
        return [route.load(now) for route in self._routes.values()]

    def load(self, function: FunctionId, now: float) -> FunctionLoad | None:
        """The load of one function up to `now`, None when there is no such function."""
        route = self._routes.get(function)
        return route.load(now) if route is not None else None

    def waiting(self, function: FunctionId) -> int:
        """Calls that wait for a slot of the function."""
        route = self._routes.get(function)
        return len(route.waiters) if route is not None else 0

    def apply(self, event: FunctionEvent) -> None:
        """The provider's listener: bring the routes up to date.

        Once it returns, a replica that is no longer ready gets no further calls.
        """
        now = self._clock()
        if isinstance(event, FunctionRemoved):
            self._remove(event.id, now)
            return
        route = self._routes.get(event.id)
        if route is None:
            route = Route(event, self._metrics.function(str(event.id)), now)
            self._routes[event.id] = route
            self._named |= dict.fromkeys(event.id.spellings, route)
            self.generation += 1
            route.set_scaling(_scaling(event))
        elif event.deployment is not route.status.deployment:
            route.set_scaling(_scaling(event))
        for slots in route.follow_replicas(event):
            self._listeners.replica_retired(slots.replica.id)
        self._settle(route, now)

    def _settle(self, route: Route, now: float) -> None:
        """Serve, fail or wake for the calls that wait, as the new status requires."""
        if route.status.replicas > 0:
            route.waking_since = None
        if route.slots:
            if route.cold_since is not None:
                route.metrics.cold_starts.observe(now - route.cold_since)
                route.cold_since = None
            self._serve(route, now)
            return
        failure = route.start_failure()
        if failure is not None:
            _fail_waiters(route, _no_start(route, failure), now)
        elif route.waiters:
            self._wake_if_asleep(route, now)

    def _enqueue(self, route: Route, waiter: Waiter, now: float, deadline: float) -> None:
        if route.removed:
            raise _not_found(route.function)
        failure = route.start_failure()
        if failure is not None:
            raise _no_start(route, failure)
        if len(route.waiters) >= self._wait_calls:
            raise OverloadedError(
                f"{route.name}: no slot is free and {len(route.waiters)} calls wait already"
            )
        route.waiters[waiter] = (deadline, now)
        route.add_demand(1, now)
        self._listeners.call_queued(route.function)
        if not route.slots:
            if route.cold_since is None:
                route.cold_since = now
            self._wake_if_asleep(route, now)

    def _wake_if_asleep(self, route: Route, now: float) -> None:
        if route.status.replicas > 0:
            return
        # A wake call that neither scaled nor failed is repeated after the time a call may wait.
        if route.waking_since is None or now - route.waking_since > self._wait_seconds:
            route.waking_since = now
            self._listeners.wake(route.function)

    def _serve(self, route: Route, now: float) -> None:
        """Hand free slots to waiters in their order.

        Does nothing when re-entered: a call that fails at once releases its slot within
        slot_granted.
        """
        if route.serving:
            return
        route.serving = True
        try:
            while route.waiters and (slots := free_slots(route)) is not None:
                waiter, (_deadline, since) = route.waiters.popitem(last=False)
                slots.inflight += 1
                route.metrics.waits.observe(now - since)
                _grant(waiter, slots, now)
        finally:
            route.serving = False

    def _remove(self, function: FunctionId, now: float) -> None:
        route = self._routes.pop(function, None)
        if route is None:
            return
        for name in function.spellings:
            del self._named[name]
        self.generation += 1
        for slots in route.end_all():
            self._listeners.replica_retired(slots.replica.id)
        _fail_waiters(route, _not_found(function), now)
        self._metrics.forget(route.name)


def free_slots(route: Route) -> ReplicaConcurrency | None:
    """The replica that should take the next call; None when each is full or there is none."""
    best: ReplicaConcurrency | None = None
    for slots in route.slots:
        taken, limit = slots.inflight, slots.limit
        if limit and taken >= limit:
            continue
        if taken == 0 or 0 < limit <= PACK_LIMIT:
            return slots
        if best is None or taken < best.inflight:
            best = slots
    return best


def _grant(waiter: Waiter, slots: ReplicaConcurrency, now: float) -> None:
    try:
        waiter.slot_granted(slots, now)
    except Exception:
        # A failing call must not keep those behind it waiting.
        LOG.exception("call_failed function=%s stage=slot_granted", slots.route.name)


def _fail_waiters(route: Route, error: SluiceError, now: float) -> None:
    route.cold_since = None
    while route.waiters:
        waiter, _times = route.waiters.popitem(last=False)
        route.add_demand(-1, now)
        waiter.wait_failed(error, now)


def _scaling(status: FunctionStatus) -> ScalingPolicy:
    try:
        return ScalingPolicy.parse_bounds(status.deployment)
    except InvalidRequestError as error:
        # The API refuses such a deployment; one from another source is served all the same.
        LOG.warning("scaling_ignored function=%s error=%s", status.id, error)
        return ScalingPolicy()


def _not_found(function: FunctionId) -> NotFoundError:
    return NotFoundError(f"error finding function {function}: not found")


def _no_start(route: Route, reason: str) -> UnavailableError:
    return UnavailableError(f"{route.name}: no replica starts: {reason}")


def _waited_too_long(route: Route, seconds: float) -> DeadlineExceededError:
    if route.slots:
        return DeadlineExceededError(f"{route.name}: no slot became free within {seconds:g} s")
    reason = route.reason()
    why = f": {reason}" if reason else ""
    return DeadlineExceededError(f"{route.name}: no replica was ready within {seconds:g} s{why}")
