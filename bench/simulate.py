"""Scaling policies on the same arrivals, in fake time: ours, and what else is done.

`python -m bench.simulate` prints the table. Each function is replayed by itself through the real
activator (slots, queue, waking) and, for our policy, the real tracker and decide(); only the
clock and the replicas are made up: one is ready START_SECONDS after it is asked for and takes
CONCURRENCY calls at once.

Arrivals are generated (SEED) after the summary statistics that M. Shahrad et al. published of
Azure Functions, "Serverless in the Wild", USENIX ATC 2020: 45 % of applications are called at most
once an hour, 81 % at most once a minute, and calls last a log-normal time of log-mean -0.38 and
log-deviation 2.36 seconds. Two changes keep a run short: the tail ends at MOST_RATE calls a second,
and times are held within SHORTEST and LONGEST.
"""

import heapq
import itertools
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

from bench.rows import quantile
from gateway.activator import Activator
from gateway.errors import OverloadedError, SluiceError
from gateway.function import (
    FunctionDeployment,
    FunctionId,
    FunctionStatus,
    Replica,
    ReplicaState,
    UnixAddress,
)
from gateway.metrics import Metrics
from gateway.routes import ReplicaSlots
from gateway.scaling import FunctionLoad
from gateway.tracker import Tracker

SEED: Final = 20261122
TRACE_SECONDS: Final = 1800.0
START_SECONDS: Final = 0.1
CONCURRENCY: Final = 2
# The gateway's defaults: so many calls may wait so long.
WAIT_SECONDS: Final = 30.0
WAIT_CALLS: Final = 1000
FUNCTIONS: Final = 1000
FEW: Final = 20
MOST_RATE: Final = 4.0
RATES: Final = ((0.0, 1 / 86400), (0.45, 1 / 3600), (0.81, 1 / 60), (1.0, MOST_RATE))
LOG_MEAN, LOG_DEVIATION = -0.38, 2.36
SHORTEST, LONGEST = 0.005, 5.0
DAY_SECONDS: Final = 1200.0
LABELS: Final = {
    "com.openfaas.scale.type": "capacity",
    "com.openfaas.scale.target": str(CONCURRENCY),
    "com.openfaas.scale.target-proportion": "0.7",
    "com.openfaas.scale.min": "1",
    "com.openfaas.scale.max": "50",
    "com.openfaas.scale.zero": "true",
    "com.openfaas.scale.zero-duration": "60s",
}
KINDS: Final = ("bursty", "diurnal", "heavy-tailed")
EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Trace:
    """One function's calls: moments and durations, in seconds."""

    times: Sequence[float]
    durations: Sequence[float]


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
    """What decides the count of one function's replicas."""

    first: int

    def tick(self, world: "World", now: float) -> int | None:
        """The count to set, once a second; None to leave it."""

    def waiting(self, world: "World") -> int | None:
        """The count to set when a call found no free slot; None to leave it."""


class Ours:
    """The tracker and decide(), sampled each second, deciding each two."""

    first = 0

    def __init__(self) -> None:
        self._tracker: Tracker | None = None

    def tick(self, world: "World", now: float) -> int | None:
        load = world.load(now)
        if load.desired == 0:
            self._tracker = None
            return None
        if self._tracker is None:
            self._tracker = Tracker(world.deployment, load, now)
            return None
        self._tracker.sample(load, now, None)
        if int(now) % 2:
            return None
        count = self._tracker.wish(load.ready, now)
        if count is not None:
            self._tracker.steer(count)
        return count

    def waiting(self, world: "World") -> int | None:
        return None  # the activator wakes it from zero; more is the tracker's to decide


class Fixed:
    """Always the same count."""

    def __init__(self, count: int) -> None:
        self.first = count

    def tick(self, world: "World", now: float) -> int | None:
        return None

    def waiting(self, world: "World") -> int | None:
        return None


class Alert:
    """OpenFaaS's standard rule: 10 s rate above 5 for 5 s adds a replica up to 5, else down to 1.

    Looked at every 10 s, repeated every 30 s while it fires (contracts of OpenFaaS, section 8).
    """

    first = 1

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        self._above_since: float | None = None
        self._told = -math.inf

    def tick(self, world: "World", now: float) -> int | None:
        arrivals = world.load(now).arrivals
        self._seen = [(at, count) for at, count in self._seen if at > now - 11] + [(now, arrivals)]
        rate = (arrivals - self._seen[0][1]) / 10
        if rate <= 5:
            self._above_since = None
            return 1 if world.desired > 1 and int(now) % 10 == 0 else None
        if self._above_since is None:
            self._above_since = now
        if now - self._above_since < 5 or now - self._told < 30:
            return None
        self._told = now
        return min(5, world.desired + 1)

    def waiting(self, world: "World") -> int | None:
        return None


class ZeroAfterIdle:
    """A replica for each call that finds no slot; each goes after `keep` seconds without a call."""

    first = 0

    def __init__(self, keep: float) -> None:
        self._keep = keep

    def tick(self, world: "World", now: float) -> int | None:
        idle = world.idle_for(self._keep, now)
        return world.desired - idle if idle else None

    def waiting(self, world: "World") -> int | None:
        load = world.route.waiters
        wanted = math.ceil(len(load) / CONCURRENCY)
        return world.desired + 1 if wanted > world.starting else None


class Call:
    """One call: a waiter of the activator."""

    __slots__ = ("_duration", "_since", "_world")

    def __init__(self, world: "World", duration: float, since: float) -> None:
        self._world, self._duration, self._since = world, duration, since

    def slot_granted(self, slots: ReplicaSlots, now: float) -> None:
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
            function, "image", labels=LABELS, annotations=annotations
        )
        self._replicas: dict[str, Replica] = {}
        self._idle_since: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._born: dict[str, float] = {}
        self._numbers = itertools.count()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self.desired = 0
        self._activator = Activator(
            lambda _function: self._later(0.0, self._wake),
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
                count = self._policy.tick(self, tick) if self.desired else None
                if count is not None:
                    self.scale(count, tick)
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
            self._later(START_SECONDS, partial(self._ready, name))
        for _ in range(self.desired - count):
            idle = min(self._idle_since, key=lambda key: self._idle_since[key], default=None)
            name = idle if idle is not None else next(reversed(self._replicas))
            del self._replicas[name]
            self._idle_since.pop(name, None)
            self._ended[name] = now
        self.desired = count
        self._publish()

    def begin(self, slots: ReplicaSlots, now: float, duration: float) -> None:
        """Run a call on its slot."""
        name = slots.replica.id
        self._idle_since.pop(name, None)
        self._later(duration, lambda at: self._end(slots, at))

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
            return
        count = self._policy.waiting(self)
        if count is not None:
            self.scale(count, now)

    def _end(self, slots: ReplicaSlots, now: float) -> None:
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
            self.scale(1, now)

    def _publish(self) -> None:
        running = tuple(self._replicas.values())
        self._activator.apply(FunctionStatus(self.deployment, self.desired, running, EPOCH))

    def _clock(self) -> float:
        return self.now

    def _later(self, delay: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._numbers), act))

    def _run_until(self, moment: float) -> None:
        while self._events and self._events[0][0] <= moment:
            self.now, _, act = heapq.heappop(self._events)
            act(self.now)
        if moment != math.inf:
            self.now = moment


def replay(traces: Sequence[Trace], policy: Callable[[], Policy]) -> Outcome:
    """All functions under one policy."""
    outcome = Outcome()
    for trace in traces:
        outcome.add(World(trace, policy()).run())
    return outcome


def fixed_as_fast(traces: Sequence[Trace], ours: Sequence[Outcome]) -> Outcome:
    """Each function with the fewest replicas whose p99 is no longer than ours."""
    outcome = Outcome()
    for trace, other in zip(traces, ours, strict=True):
        count = 1
        while (found := World(trace, Fixed(count)).run()).p99 > other.p99:
            count += 1
        outcome.add(found)
    return outcome


def idle_as_costly(traces: Sequence[Trace], replica_seconds: float) -> tuple[float, Outcome]:
    """Zero after idle, with the keep-time at which it costs as many replica-seconds."""
    low, high = 0.5, TRACE_SECONDS
    best = replay(traces, partial(ZeroAfterIdle, high))
    keep = high
    for _ in range(8):
        middle = math.sqrt(low * high)
        found = replay(traces, partial(ZeroAfterIdle, middle))
        if found.replica_seconds < replica_seconds:
            low = middle
        else:
            high, keep, best = middle, middle, found
    return keep, best


def traces_of(kind: str) -> list[Trace]:
    """The arrivals of one kind: bursty, diurnal or heavy-tailed."""
    source = random.Random(f"{SEED}/{kind}")  # noqa: S311 - arrivals, not keys
    makers = {"bursty": _bursty, "diurnal": _diurnal, "heavy-tailed": _heavy_tailed}
    return [_with_durations(source, times) for times in makers[kind](source)]


def _bursty(source: random.Random) -> Iterator[list[float]]:
    """Ten seconds of 20 calls a second, every five minutes on average, and silence between."""
    for _ in range(FEW):
        times: list[float] = []
        begin = source.expovariate(1 / 150)
        while begin < TRACE_SECONDS:
            times += _poisson(source, lambda _at: 20.0, 20.0, begin, begin + 10)
            begin += 10 + source.expovariate(1 / 300)
        yield [at for at in times if at < TRACE_SECONDS]


def _diurnal(source: random.Random) -> Iterator[list[float]]:
    """Rates that swing between 0.1 and 10 calls a second over a day of twenty minutes."""
    for _ in range(FEW):
        phase = source.uniform(0, DAY_SECONDS)

        def rate(at: float, phase: float = phase) -> float:
            return 0.1 + 9.9 * math.sin(math.pi * (at + phase) / DAY_SECONDS) ** 4

        yield _poisson(source, rate, 10.0, 0.0, TRACE_SECONDS)


def _heavy_tailed(source: random.Random) -> Iterator[list[float]]:
    """Mean rates by the published quantiles, log-linear between them."""
    for _ in range(FUNCTIONS):
        rank = source.random()
        above = next(index for index, (share, _) in enumerate(RATES) if share >= rank)
        (low, slow), (high, fast) = RATES[max(0, above - 1)], RATES[max(1, above)]
        mean = slow * (fast / slow) ** ((rank - low) / (high - low))
        yield _poisson(source, partial(_steady, mean), mean, 0.0, TRACE_SECONDS)


def _steady(rate: float, _at: float) -> float:
    return rate


def _poisson(
    source: random.Random, rate: Callable[[float], float], most: float, begin: float, end: float
) -> list[float]:
    """Arrivals of a Poisson process of that rate (at most `most`), by thinning."""
    times, at = [], begin + source.expovariate(most)
    while at < end:
        if source.random() * most <= rate(at):
            times.append(at)
        at += source.expovariate(most)
    return times


def _with_durations(source: random.Random, times: list[float]) -> Trace:
    """A function's mean after the published fit; its calls spread around it by a quarter."""
    mean = min(LONGEST, max(SHORTEST, source.lognormvariate(LOG_MEAN, LOG_DEVIATION)))
    return Trace(times, [mean * source.lognormvariate(0.0, 0.25) for _ in times])


def compared(kind: str) -> tuple[Outcome, Outcome, Outcome, tuple[float, Outcome]]:
    """Arrivals of one kind under ours, under fixed counts with our p99, under OpenFaaS's alert, and
    under zero-after-idle with the keep-time that costs as much as ours.
    """
    traces = traces_of(kind)
    each = [World(trace, Ours()).run() for trace in traces]
    ours = Outcome()
    for outcome in each:
        ours.add(outcome)
    fixed = fixed_as_fast(traces, each)
    return ours, fixed, replay(traces, Alert), idle_as_costly(traces, ours.replica_seconds)


def main() -> None:
    for kind in KINDS:
        ours, fixed, alert, (keep, idle) = compared(kind)
        named = {"ours": ours, "fixed at our p99": fixed, "OpenFaaS alert": alert}
        for name, outcome in {**named, f"zero after {keep:.0f} s": idle}.items():
            sys.stdout.write(
                f"{kind:13} {name:20} cold {outcome.cold_share:8.4%} starts {outcome.starts:6}  "
                f"p99 {outcome.p99:8.3f} s  "
                f"replica-seconds {outcome.replica_seconds:10.0f}  failed {outcome.failed}\n"
            )


if __name__ == "__main__":
    main()
