"""Sets replica counts by load: samples once a second, decides every two, and when calls queue.

Only functions above zero are looked at, so that thousands at zero cost nothing here.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final

from gateway.autoscaling.decider import Decider
from gateway.autoscaling.signals import Signals
from gateway.providers import Provider
from gateway.types.errors import InvalidRequestError, SluiceError
from gateway.types.function import FunctionEvent, FunctionRemoved, FunctionStatus
from gateway.types.ids import FunctionId
from gateway.types.scaling import FunctionLoad
from sluice.labels.values import ScaleType

LOG: Final = logging.getLogger(__name__)
SAMPLE_SECONDS: Final = 1.0
TICK_SAMPLES: Final = 2
# About the time of a start from a zygote: a queue that is gone sooner needs no replica.
PATIENCE_SECONDS: Final = 0.1

Loads = Callable[[FunctionId, float], FunctionLoad | None]


class Autoscaler:
    """One decider for each function above zero.

    loads: the call path's totals of a function at a time. clock: monotonic seconds, the same
    clock as the call path's.
    """

    def __init__(
        self,
        provider: Provider,
        loads: Loads,
        signals: Signals,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._loads = loads
        self._signals = signals
        self._clock = clock
        self._deciders: dict[FunctionId, Decider] = {}
        self._at_zero: set[FunctionId] = set()
        # Functions a call of which had to wait, and whether there are any.
        self._queued: set[FunctionId] = set()
        self._any_queued = asyncio.Event()

    def call_queued(self, function: FunctionId) -> None:
        """Note that a call must wait for a slot; called by the activator."""
        self._queued.add(function)
        self._any_queued.set()

    def apply(self, event: FunctionEvent) -> None:
        """Follow a change: a listener of the provider, after the activator."""
        if isinstance(event, FunctionRemoved) or event.replicas == 0:
            self._deciders.pop(event.id, None)
            self._at_zero.discard(event.id)
            if not isinstance(event, FunctionRemoved):
                self._at_zero.add(event.id)
            return
        try:
            self._follow(event, self._clock())
        except InvalidRequestError as error:
            # Deployed by a release without this rule: the count stays until its labels are fixed.
            LOG.warning("not autoscaled function=%s reason=%s", event.id, error)
            self._deciders.pop(event.id, None)

    def _follow(self, status: FunctionStatus, now: float) -> None:
        decider = self._deciders.get(status.id)
        if decider is None:
            load = self._loads(status.id, now)
            if load is not None:
                # No call waits for it, so it was raised by hand or by an alert.
                manual_override = status.id in self._at_zero and not load.waiting
                self._deciders[status.id] = Decider(status.deployment, load, now, manual_override)
                self._at_zero.discard(status.id)
            return
        if decider.deployment is not status.deployment:
            decider.redeploy(status.deployment)
        decider.follow(status.replicas, now)

    async def run(self) -> None:
        """Sample, decide and scale for queues until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._decide())
            group.create_task(self._scale_for_backlog())

    async def _decide(self) -> None:
        samples = 0
        while True:
            # The clock drives this loop: there is no event to wait for.
            await asyncio.sleep(SAMPLE_SECONDS)
            samples += 1
            try:
                await self.sample()
                if samples % TICK_SAMPLES == 0:
                    await self.tick()
            except Exception:
                LOG.exception("autoscaling failed")

    async def _scale_for_backlog(self) -> None:
        while True:
            await self._any_queued.wait()
            # Gives a short queue the time to end by itself.
            await asyncio.sleep(PATIENCE_SECONDS)
            try:
                await self.scale_for_backlog()
            except Exception:
                LOG.exception("scaling for queued calls failed")

    async def sample(self) -> None:
        """Sample the load of every function above zero."""
        for function, decider in list(self._deciders.items()):
            value = await self._external_value(function, decider)
            now = self._clock()
            load = self._loads(function, now)
            if load is not None:
                decider.sample(load, now, value)

    async def tick(self) -> None:
        """Decide for every function above zero, and scale those whose count changes."""
        now = self._clock()
        changes = []
        for function, decider in self._deciders.items():
            load = self._loads(function, now)
            count = decider.desired_scale(load.ready, now) if load is not None else None
            if count is not None:
                changes.append(self._scale(function, decider, count))
        await asyncio.gather(*changes)

    async def scale_for_backlog(self) -> None:
        """Scale functions whose calls still wait for a slot."""
        now = self._clock()
        queued, self._queued = self._queued, set()
        self._any_queued.clear()
        changes = []
        for function in queued:
            decider, load = self._deciders.get(function), self._loads(function, now)
            if load is None or not load.waiting:
                continue
            if decider is None:
                if function in self._at_zero:
                    self.call_queued(function)  # it is being scaled from zero: looked at again
                continue
            count = decider.for_backlog(load, now)
            if count is not None:
                changes.append(self._scale(function, decider, count))
        await asyncio.gather(*changes)

    async def _scale(self, function: FunctionId, decider: Decider, count: int) -> None:
        before = decider.steer(count)
        try:
            await self._provider.scale(function, count)
        except SluiceError as error:
            decider.steer(before)
            LOG.warning(
                "autoscale failed function=%s replicas=%d reason=%s", function, count, error
            )
        else:
            LOG.info("autoscaled function=%s replicas=%d", function, count)

    async def _external_value(self, function: FunctionId, decider: Decider) -> float | None:
        """The load of a type that the call path does not measure, None for the other types."""
        scale_type = decider.policy.scale_type
        if scale_type is ScaleType.QUEUE:
            return self._signals.waiting(function)
        if scale_type is not ScaleType.CPU:
            return None
        try:
            return (await self._provider.usage(function)).cpu_millicores
        except SluiceError:
            return None
