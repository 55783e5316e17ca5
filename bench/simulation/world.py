"""One function, its replicas and its calls in fake time, under a policy.

The activator (slots, queue, waking) is the gateway's own; only the clock and the replicas are made
up: one is ready START_SECONDS after it is asked for and takes CONCURRENCY calls at once.
"""

import heapq
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

from bench.rows import quantile
from bench.simulation.arrivals import TRACE_SECONDS, Trace
from gateway.metrics import Metrics
from gateway.proxy.activator import Activator, Listeners
from gateway.proxy.routes import ReplicaConcurrency
from gateway.types.errors import OverloadedError, SluiceError
from gateway.types.function import (
    FunctionDeployment,
    FunctionStatus,
    Replica,
    ReplicaState,
    UnixAddress,
)
from gateway.types.ids import FunctionId
from gateway.types.scaling import FunctionLoad, ScalingPolicy

START_SECONDS: Final = 0.1
CONCURRENCY: Final = 2
# The gateway's defaults: so many calls may wait so long.
WAIT_SECONDS: Final = 30.0
WAIT_CALLS: Final = 1000
EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Outcome:
    """What the calls of one or many functions met.

    waits: seconds in the queue, one for each call. cold: calls that found no ready replica.
    starts: replicas started while calls came, which is what a cold start costs, whoever pays it.
    """

    waits: list[float] = field(default_factory=list)
    cold: int = 0
    starts: int = 0
    failed: int = 0
    replica_seconds: float = 0.0

    def add(self, other: "Outcome") -> None:
        """Take in another function's."""
        self.waits += other.waits
        self.cold += other.cold
        self.starts += other.starts
        self.failed += other.failed
        self.replica_seconds += other.replica_seconds

    @property
    def p99(self) -> float:
        return quantile(self.waits, 0.99) if self.waits else 0.0

    @property
    def cold_share(self) -> float:
        """Share of the calls that found no ready replica."""
        return self.cold / max(1, len(self.waits))


class Policy(Protocol):
    """What sets the count of one function's replicas. first: the count before the first call."""

    first: int

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of the function that it steers."""

    def tick(self, world: "World", now: float) -> None:
        """Called once a second while there are replicas."""

    def call_queued(self, world: "World", now: float) -> None:
        """Called when a call found no free slot."""


class Call:
    """One call: a waiter of the activator."""

    __slots__ = ("_duration", "_since", "_world")

    def __init__(self, world: "World", duration: float, since: float) -> None:
        self._world, self._duration, self._since = world, duration, since

    def slot_granted(self, slots: ReplicaConcurrency, now: float) -> None:
        self._world.outcome.waits.append(now - self._since)
        self._world.begin(slots, now, self._duration)

    def wait_failed(self, error: SluiceError, now: float) -> None:
        self._world.outcome.waits.append(now - self._since)
        self._world.outcome.failed += 1


class World:
    """One function, its replicas and its calls, in fake time."""

    def __init__(self, trace: Trace, policy: Policy) -> None:
        self._trace, self._policy = trace, policy
        self.now = 0.0
        self.outcome = Outcome()
        function = FunctionId("traced")
        annotations = {"com.sluice.concurrency": str(CONCURRENCY)}
        self.deployment = FunctionDeployment(
            function, "image", labels=policy.labels, annotations=annotations
        )
        self._replicas: dict[str, Replica] = {}
        self._idle_since: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._born: dict[str, float] = {}
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self.desired = 0
        self._activator = Activator(
            Listeners(
                wake=lambda _function: self.later(0.0, self._wake),
                call_queued=lambda _function: policy.call_queued(self, self.now),
                replica_retired=lambda _replica: None,
            ),
            Metrics(),
            WAIT_SECONDS,
            WAIT_CALLS,
            self._clock,
        )
        self._publish()
        self.route = self._activator.route(function)
        self.scale(policy.first, 0.0)
        if policy.first:
            self._run_until(START_SECONDS)

    @property
    def starting(self) -> int:
        return sum(each.state is ReplicaState.STARTING for each in self._replicas.values())

    def load(self, now: float) -> FunctionLoad:
        """What the autoscaler is told."""
        return self.route.load(now)

    def idle_for(self, seconds: float, now: float) -> int:
        """How many replicas have had no call for so long."""
        return sum(now - since >= seconds for since in self._idle_since.values())

    def run(self) -> Outcome:
        """Replay the trace; what its calls met."""
        tick = START_SECONDS + 1.0
        arrivals = zip(self._trace.times, self._trace.durations, strict=True)
        for at, duration in itertools.chain(arrivals, [(TRACE_SECONDS, -1.0)]):
            moment = at + START_SECONDS
            while tick <= moment:
                self._run_until(tick)
                self._activator.expire(tick)
                if self.desired:
                    self._policy.tick(self, tick)
                # Nothing happens to a function at zero until its next call.
                tick = tick + 1.0 if self.desired or self._events else math.floor(moment) + 1.0
            self._run_until(moment)
            if duration >= 0:
                self._arrive(moment, duration)
        self._run_until(math.inf)
        self.outcome.starts = len(self._born) - self._policy.first
        end = TRACE_SECONDS + START_SECONDS
        for name, born in self._born.items():
            self.outcome.replica_seconds += max(0.0, min(end, self._ended.get(name, end)) - born)
        return self.outcome

    def scale(self, count: int, now: float) -> None:
        """Set the count: new replicas start, the longest idle ones go first."""
        for _ in range(count - self.desired):
            name = f"r-{next(self._numbers)}"
            self._replicas[name] = Replica(name, UnixAddress(name), ReplicaState.STARTING)
            self._born[name] = now
            self.later(START_SECONDS, partial(self._ready, name))
        for _ in range(self.desired - count):
            idle = min(self._idle_since, key=lambda key: self._idle_since[key], default=None)
            name = idle if idle is not None else next(reversed(self._replicas))
            del self._replicas[name]
            self._idle_since.pop(name, None)
            self._ended[name] = now
        self.desired = count
        self._publish()

    def begin(self, slots: ReplicaConcurrency, now: float, duration: float) -> None:
        """Run a call on its slot."""
        name = slots.replica.id
        self._idle_since.pop(name, None)
        self.later(duration, lambda at: self._end(slots, at))

    def later(self, delay: float, act: Callable[[float], None]) -> None:
        """Have `act` done after so many seconds."""
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), act))

    def _arrive(self, now: float, duration: float) -> None:
        self.outcome.cold += not self.route.slots
        try:
            slots = self._activator.reserve(self.route, Call(self, duration, now), now)
        except OverloadedError:
            self.outcome.waits.append(WAIT_SECONDS)
            self.outcome.failed += 1
            return
        if slots is not None:
            self.outcome.waits.append(0.0)
            self.begin(slots, now, duration)

    def _end(self, slots: ReplicaConcurrency, now: float) -> None:
        name = slots.replica.id
        self._activator.release(slots, now)
        if slots.inflight:
            return
        if name in self._replicas:
            self._idle_since[name] = now
        else:
            self._ended[name] = now  # it drained: its last call has ended

    def _ready(self, name: str, now: float) -> None:
        if name in self._replicas:
            self._replicas[name] = Replica(name, UnixAddress(name), ReplicaState.READY)
            self._idle_since[name] = now
            self._publish()

    def _wake(self, now: float) -> None:
        if self.desired == 0:
            waiting = self._activator.waiting(self.deployment.id)
            policy = ScalingPolicy.parse_bounds(self.deployment)
            self.scale(policy.replicas_from_zero(waiting), now)

    def _publish(self) -> None:
        running = tuple(self._replicas.values())
        self._activator.apply(FunctionStatus(self.deployment, self.desired, running, EPOCH))

    def _clock(self) -> float:
        return self.now

    def _run_until(self, moment: float) -> None:
        while self._events and self._events[0][0] <= moment:
            self.now, _, act = heapq.heappop(self._events)
            act(self.now)
        if moment != math.inf:
            self.now = moment
