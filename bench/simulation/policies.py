"""What sets a function's replica count: ours, and what else is done."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bench.simulation.world import CONCURRENCY, World
from gateway.autoscaling.autoscaler import PATIENCE_SECONDS
from gateway.autoscaling.decider import Decider

NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
# What a developer writes for a function that is to sleep soon. The rest are the gateway's own
# defaults, but for a bound that no arrivals reach: the other policies have none.
OUR_LABELS: Final = {
    "com.openfaas.scale.type": "capacity",
    "com.openfaas.scale.max": "100",
    "com.openfaas.scale.zero": "true",
}
ZERO_DURATION: Final = "60s"


class Ours:
    """The gateway's decider: sampled each second, deciding each two and when calls queue."""

    first = 0

    def __init__(self, zero_duration: str = ZERO_DURATION) -> None:
        self.labels = OUR_LABELS | {"com.openfaas.scale.zero-duration": zero_duration}
        self._decider: Decider | None = None
        self._scaling_for_backlog = False

    def tick(self, world: World, now: float) -> None:
        load = world.load(now)
        if self._decider is None:
            self._decider = Decider(world.deployment, load, now)
            return
        self._decider.sample(load, now, None)
        if int(now) % 2 == 0:
            self._set(world, self._decider.desired_scale(load.ready, now), now)

    def call_queued(self, world: World, now: float) -> None:
        if not self._scaling_for_backlog:
            self._scaling_for_backlog = True
            world.later(PATIENCE_SECONDS, lambda at: self._scale_for_backlog(world, at))

    def _scale_for_backlog(self, world: World, now: float) -> None:
        self._scaling_for_backlog = False
        load = world.load(now)
        if self._decider is None and world.desired:
            self._decider = Decider(world.deployment, load, now)
        if self._decider is not None:
            self._set(world, self._decider.for_backlog(load, now), now)

    def _set(self, world: World, count: int | None, now: float) -> None:
        if count is None or self._decider is None:
            return
        self._decider.steer(count)
        if count == 0:
            self._decider = None
        world.scale(count, now)


class Fixed:
    """Always the same count."""

    labels = NO_LABELS

    def __init__(self, count: int) -> None:
        self.first = count

    def tick(self, world: World, now: float) -> None:
        """A fixed count never changes."""

    def call_queued(self, world: World, now: float) -> None:
        """Nor does it when calls wait."""


class Alert:
    """OpenFaaS's standard rule: 10 s rate above 5 for 5 s adds a replica up to 5, else down to 1.

    Looked at every 10 s, repeated every 30 s while it fires (contracts of OpenFaaS, section 8).
    """

    first = 1
    labels = NO_LABELS

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []
        self._above_since: float | None = None
        self._told = -math.inf

    def tick(self, world: World, now: float) -> None:
        arrivals = world.load(now).arrivals
        self._seen = [(at, count) for at, count in self._seen if at > now - 11] + [(now, arrivals)]
        rate = (arrivals - self._seen[0][1]) / 10
        if rate <= 5:
            self._above_since = None
            if world.desired > 1 and int(now) % 10 == 0:
                world.scale(1, now)
            return
        if self._above_since is None:
            self._above_since = now
        if now - self._above_since >= 5 and now - self._told >= 30:
            self._told = now
            world.scale(min(5, world.desired + 1), now)

    def call_queued(self, world: World, now: float) -> None:
        """The rule knows of rates only."""


class ZeroAfterIdle:
    """A replica for each call that finds no slot; each goes after `keep` seconds without a call."""

    first = 0
    labels = NO_LABELS

    def __init__(self, keep: float) -> None:
        self._keep = keep

    def tick(self, world: World, now: float) -> None:
        if idle := world.idle_for(self._keep, now):
            world.scale(world.desired - idle, now)

    def call_queued(self, world: World, now: float) -> None:
        if math.ceil(len(world.route.waiters) / CONCURRENCY) > world.starting:
            world.scale(world.desired + 1, now)
