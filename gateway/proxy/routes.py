"""A function as calls see it: its ready replicas, their slots, and the calls that wait. No I/O."""

from collections import OrderedDict
from typing import Protocol

from gateway.metrics import FunctionMetrics
from gateway.types.errors import SluiceError
from gateway.types.function import FunctionStatus, Replica, ReplicaState
from gateway.types.scaling import FunctionLoad, ScalingPolicy


class Waiter(Protocol):
    """A call that waits for a slot. Exactly one of the two is called, unless it leaves before."""

    def slot_granted(self, slots: "ReplicaConcurrency", now: float) -> None:
        """The call has a slot of `slots` until it releases it."""

    def wait_failed(self, error: SluiceError, now: float) -> None:
        """The call gets no slot."""


class ExitListener(Protocol):
    """A call that lost its replica and waits for the reason."""

    def replica_ended(self, reason: str) -> None:
        """The provider reported the replica's end; the reason may be empty."""


class ReplicaConcurrency:
    """How many calls a replica has and may have: each holds a slot from `reserve` to `release`.

    limit: the most calls at once, 0 for no bound. ready: whether it gets calls.
    """

    __slots__ = ("exit_listeners", "inflight", "limit", "max_inflight", "ready", "replica", "route")

    def __init__(self, route: "Route", replica: Replica, max_inflight: int) -> None:
        self.route = route
        self.replica = replica
        self.max_inflight = max_inflight
        self.limit = max_inflight
        self.inflight = 0
        self.ready = True
        # In the order in which they were added; a dict, so that each can be removed.
        self.exit_listeners: dict[ExitListener, None] = {}

    def set_concurrency(self, concurrency: int) -> None:
        """Apply the function's hard limit; the one the replica was started with still holds."""
        bounds = [bound for bound in (concurrency, self.max_inflight) if bound]
        self.limit = min(bounds, default=0)

    @property
    def ended(self) -> bool:
        """Whether the provider reported that it ended, not merely that it drains."""
        return self.replica.state is ReplicaState.FAILED

    def end(self, replica: Replica) -> None:
        """Take the replica's last state and pass the reason to the calls that wait for it."""
        self.ready, self.replica = False, replica
        exit_listeners, self.exit_listeners = self.exit_listeners, {}
        for exit_listener in exit_listeners:
            exit_listener.replica_ended(replica.reason)


class Route:
    """One function: where calls may go, which wait, and the totals that an autoscaler reads."""

    __slots__ = (
        "arrivals",
        "cold_since",
        "demand",
        "demand_seconds",
        "draining",
        "function",
        "metrics",
        "name",
        "removed",
        "scaling",
        "service",
        "serving",
        "since",
        "slots",
        "status",
        "timeout",
        "waiters",
        "waking_since",
        "was_ready",
    )

    def __init__(self, status: FunctionStatus, metrics: FunctionMetrics, now: float) -> None:
        self.function = status.id
        self.name = str(status.id)
        self.metrics = metrics
        self.scaling = ScalingPolicy()
        self.status = status
        self.removed = False
        # Seconds a call may take once it has a slot; None: as the gateway is set.
        self.timeout: float | None = None
        # A service of the platform behind a fixed socket: it cannot be started on demand.
        self.service = False
        # Where calls may go, in the provider's order; replicas that still serve earlier calls; ids
        # of running replicas that were ready at some time.
        self.slots: list[ReplicaConcurrency] = []
        self.draining: dict[str, ReplicaConcurrency] = {}
        self.was_ready: set[str] = set()
        # The calls that wait, first come first served: waiter -> (deadline, since when).
        self.waiters: OrderedDict[Waiter, tuple[float, float]] = OrderedDict()
        self.serving = False
        self.waking_since: float | None = None
        self.cold_since: float | None = None
        # demand = calls on replicas + calls waiting; its integral up to `since`.
        self.demand = 0
        self.demand_seconds = 0.0
        self.since = now
        self.arrivals = 0

    def set_scaling(self, scaling: ScalingPolicy) -> None:
        """Apply a deployment's settings; to running replicas with the next event."""
        self.scaling = scaling
        self.timeout = scaling.call_seconds

    def add_demand(self, change: int, now: float) -> None:
        """Bring the integral up to `now`, then change the demand."""
        self.demand_seconds += self.demand * (now - self.since)
        self.since = now
        self.demand += change

    def load(self, now: float) -> FunctionLoad:
        """The totals up to `now`."""
        self.add_demand(0, now)
        return FunctionLoad(
            function=self.function,
            desired=self.status.replicas,
            ready=len(self.slots),
            inflight=self.demand - len(self.waiters),
            waiting=len(self.waiters),
            demand_seconds=self.demand_seconds,
            arrivals=self.arrivals,
        )

    def follow_replicas(self, status: FunctionStatus) -> list[ReplicaConcurrency]:
        """Take the replicas of `status`; returns those that were ready and are no longer."""
        self.status = status
        known = {slots.replica.id: slots for slots in self.slots}
        self.slots = []
        for replica in status.running:
            if replica.state is ReplicaState.READY:
                slots = known.pop(replica.id, None)
                if slots is None:
                    slots = ReplicaConcurrency(self, replica, self.scaling.max_inflight)
                slots.replica = replica
                slots.set_concurrency(self.scaling.concurrency)
                self.slots.append(slots)
        self.was_ready.update(slots.replica.id for slots in self.slots)
        self.was_ready.intersection_update(replica.id for replica in status.running)
        retired = list(known.values())
        self.draining.update(known)
        self._end_drained()
        return retired

    def end_all(self) -> list[ReplicaConcurrency]:
        """Take every replica out, for a function that is removed; returns those that were ready."""
        self.removed = True
        retired, self.slots = self.slots, []
        self.draining.update({slots.replica.id: slots for slots in retired})
        for slots in self.draining.values():
            slots.end(_failed(slots.replica, "the function was removed"))
        self.draining.clear()
        return retired

    def start_failure(self) -> str | None:
        """Why no replica becomes ready: each one failed before it was ready. None if one may."""
        running = self.status.running
        if self.slots or not running:
            return None
        for replica in running:
            if replica.state is not ReplicaState.FAILED or replica.id in self.was_ready:
                return None
        return self.reason() or "no reason known"

    def reason(self) -> str:
        """The provider's reason why the function is not as deployed; may be empty."""
        reasons = (replica.reason for replica in self.status.running if replica.reason)
        return next(reasons, self.status.reason)

    def _end_drained(self) -> None:
        """Drop replicas that ended: failed ones, and those that the provider no longer lists."""
        running = {replica.id: replica for replica in self.status.running}
        for name, slots in list(self.draining.items()):
            replica = running.get(name)
            slots.ready = False
            if replica is None:
                replica = _failed(slots.replica, self._reason_after(slots.replica))
            if replica.state is ReplicaState.FAILED:
                del self.draining[name]
                slots.end(replica)
            else:
                slots.replica = replica

    def _reason_after(self, replica: Replica) -> str:
        """The reason of a replica no longer listed: its own, else the one its successor carries."""
        reasons = [each.reason for each in self.status.running if each.restarts and each.reason]
        return replica.reason or (reasons[-1] if reasons else self.status.reason)


def _failed(replica: Replica, reason: str) -> Replica:
    return Replica(
        replica.id, replica.address, ReplicaState.FAILED, replica.restarts, replica.reason or reason
    )
