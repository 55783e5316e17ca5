"""The autoscaler on a simulated function: fake time, fake provider, its own arithmetic."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.autoscaling.autoscaler import Autoscaler
from gateway.autoscaling.signals import Signals
from gateway.types.errors import UnavailableError
from gateway.types.function import FunctionDeployment, FunctionRemoved, FunctionStatus
from gateway.types.ids import FunctionId
from gateway.types.scaling import FunctionLoad
from tests.fakes import FakeProvider

FUNCTION = FunctionId("f")
ZERO = {"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "60s"}
CAPACITY = {
    "com.openfaas.scale.type": "capacity",
    "com.openfaas.scale.target": "10",
    "com.openfaas.scale.target-proportion": "0.7",
}
LIMITLESS = {"com.openfaas.scale.target": "1000"}
LIMITED = {"com.sluice.concurrency": "2"}


@dataclass
class Stage:
    """One function whose load the test sets; its replicas are ready as soon as asked for.

    starting: how many of them are not ready yet. refuses: the provider scales nothing.
    """

    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    now: float = 1000.0
    count: int = 1
    inflight: int = 0
    waiting: int = 0
    starting: int = 0
    refuses: bool = False
    arrivals: int = 0
    demand_seconds: float = 0.0
    asked: list[int] = field(default_factory=list)
    scaled: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        self.signals = Signals(lambda: self.now, lambda _function: 0)
        self.autoscaler = Autoscaler(_Recorder(self), self._load, self.signals, lambda: self.now)
        self.tell()

    def tell(self) -> None:
        """Give the autoscaler the provider's status."""
        deployment = FunctionDeployment(
            FUNCTION, "image", labels=self.labels, annotations=self.annotations
        )
        status = FunctionStatus(deployment, self.count, (), datetime.now(UTC))
        self.autoscaler.apply(status)

    def set_by_hand(self, count: int) -> None:
        self.count = count
        self.tell()

    def _load(self, function: FunctionId, now: float) -> FunctionLoad:
        assert now == self.now
        return FunctionLoad(
            function,
            desired=self.count,
            ready=self.count - self.starting,
            inflight=self.inflight,
            waiting=self.waiting,
            demand_seconds=self.demand_seconds,
            arrivals=self.arrivals,
        )

    async def queue(self, waiting: int) -> None:
        """Let so many calls wait for longer than the autoscaler's patience."""
        self.waiting = waiting
        self.autoscaler.call_queued(FUNCTION)
        await self.autoscaler.scale_for_backlog()

    async def run(self, seconds: int, rps: float = 0, inflight: int = 0) -> None:
        """Let time pass under a steady load."""
        for second in range(seconds):
            self.now += 1
            self.inflight = inflight
            self.demand_seconds += inflight
            self.arrivals += int(rps * (second + 1)) - int(rps * second)
            await self.autoscaler.sample()
            if int(self.now) % 2 == 0:
                await self.autoscaler.tick()


class _Recorder(FakeProvider):
    """A provider that only notes what it is asked and tells the new count back."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage

    async def scale(self, function: FunctionId, replicas: int) -> None:
        self._stage.asked.append(replicas)
        self._stage.scaled()
        if self._stage.refuses:
            raise UnavailableError("no room")
        self._stage.set_by_hand(replicas)


async def test_ten_calls_a_second_bring_a_second_replica_and_it_goes_within_a_minute() -> None:
    stage = Stage()
    await stage.run(60, rps=10)
    assert stage.count == 2
    await stage.run(60)
    assert stage.count == 1


async def test_concurrency_is_steered_to_its_target() -> None:
    stage = Stage(CAPACITY)
    await stage.run(120, inflight=50)
    assert stage.count == 8
    await stage.run(200)
    assert stage.count == 1


async def test_count_never_passes_the_bounds() -> None:
    stage = Stage({**CAPACITY, "com.openfaas.scale.max": "3", "com.openfaas.scale.min": "2"})
    await stage.run(60, inflight=200)
    assert stage.count == 3
    await stage.run(200)
    assert stage.count == 2


async def test_idle_function_sleeps_after_its_zero_duration_and_not_before() -> None:
    stage = Stage(ZERO)
    await stage.run(10, rps=1)
    await stage.run(58)
    assert stage.count == 1
    await stage.run(4)
    assert stage.count == 0


async def test_long_call_keeps_its_replica_awake() -> None:
    stage = Stage(ZERO)
    await stage.run(600, inflight=1)
    assert stage.count == 1


async def test_function_that_may_not_sleep_stays() -> None:
    stage = Stage()
    await stage.run(3600)
    assert stage.count == 1


async def test_no_tick_raises_a_function_from_zero() -> None:
    stage = Stage({"com.openfaas.scale.min": "2"}, count=0)
    await stage.run(60)
    assert stage.asked == []


async def test_manual_scale_stands_while_nothing_else_is_justified() -> None:
    stage = Stage()
    await stage.run(60)
    stage.set_by_hand(4)
    await stage.run(600)
    assert stage.count == 4


async def test_load_beyond_a_manual_scale_ends_it() -> None:
    stage = Stage(CAPACITY)
    stage.set_by_hand(2)
    await stage.run(60, inflight=50)
    assert stage.count == 8


async def test_manual_scale_from_zero_stands_too() -> None:
    stage = Stage(count=0)
    stage.set_by_hand(4)
    await stage.run(600)
    assert (stage.count, stage.asked) == (4, [])


async def test_manual_scale_stands_while_its_replicas_get_ready_one_by_one() -> None:
    stage = Stage()
    await stage.run(60)
    stage.starting = 5
    stage.set_by_hand(6)
    for _ in range(5):
        await stage.run(4)
        stage.starting -= 1
    await stage.run(120)
    assert (stage.count, stage.asked) == (6, [])


async def test_function_woken_by_calls_follows_its_load_again() -> None:
    stage = Stage(CAPACITY, count=0, waiting=1)
    stage.set_by_hand(4)
    stage.waiting = 0
    await stage.run(120, inflight=1)
    assert stage.count == 1


async def test_restart_leaves_replicas_that_are_starting_again() -> None:
    stage = Stage(CAPACITY, count=6, starting=6)
    await stage.run(10, inflight=40)
    assert stage.asked == []
    stage.starting = 0
    await stage.run(40, inflight=40)
    assert (stage.count, stage.asked) == (6, [])


async def test_scale_that_failed_is_tried_again_and_taken_for_nobodys_wish() -> None:
    stage = Stage(CAPACITY, refuses=True)
    await stage.run(10, inflight=50)
    assert len(stage.asked) > 1
    stage.refuses = False
    stage.tell()
    await stage.run(2, inflight=50)
    assert stage.count == 8
    await stage.run(200)
    assert stage.count == 1


async def test_burst_brings_replicas_for_its_queue_before_the_next_tick() -> None:
    stage = Stage(CAPACITY, LIMITED, inflight=2)
    await stage.queue(5)
    assert stage.asked == [4]
    # They stay, though the load alone asks for fewer, until a stable window has passed.
    stage.waiting = 0
    await stage.run(50, inflight=3)
    assert stage.count == 4
    await stage.run(30, inflight=3)
    assert stage.count == 3


async def test_starting_replicas_count_as_capacity_so_that_a_queue_starts_none_twice() -> None:
    stage = Stage(CAPACITY, LIMITED, inflight=2)
    await stage.queue(5)
    stage.starting = 3
    await stage.queue(6)
    assert stage.asked == [4]
    await stage.queue(7)
    assert stage.asked == [4, 5]


async def test_queue_that_ended_by_itself_starts_nothing() -> None:
    stage = Stage(CAPACITY, LIMITED)
    await stage.queue(0)
    await stage.autoscaler.scale_for_backlog()
    assert stage.asked == []


async def test_queue_passes_no_bound_and_raises_nothing_that_is_fixed_or_at_zero() -> None:
    bounded = Stage({**CAPACITY, "com.openfaas.scale.max": "3"}, LIMITED)
    await bounded.queue(50)
    await bounded.queue(50)
    assert bounded.asked == [3]
    fixed = Stage({"com.openfaas.scale.min": "2", "com.openfaas.scale.max": "2"}, LIMITED, count=2)
    asleep = Stage(CAPACITY, LIMITED, count=0)
    unbounded = Stage(CAPACITY)
    for stage in (fixed, asleep, unbounded):
        await stage.queue(50)
        assert stage.asked == []


async def test_queue_of_a_function_that_is_being_woken_is_looked_at_once_it_is() -> None:
    """The start of a slow disk's replicas, told after the queue was first looked at."""
    stage = Stage(LIMITLESS, LIMITED, count=0)
    await stage.queue(6)
    stage.starting = 1
    stage.set_by_hand(1)
    await stage.autoscaler.scale_for_backlog()
    assert stage.asked == [3]


async def test_queue_beyond_a_manual_scale_ends_it() -> None:
    stage = Stage(CAPACITY, LIMITED)
    stage.set_by_hand(2)
    await stage.run(10)
    await stage.queue(4)
    assert stage.count == 4
    stage.waiting = 0
    await stage.run(200)
    assert stage.count == 1


async def test_running_autoscaler_relieves_a_queue_soon_after_it_is_told() -> None:
    stage = Stage(CAPACITY, LIMITED, inflight=2, waiting=4)
    changed = asyncio.Event()
    stage.scaled = changed.set
    running = asyncio.ensure_future(stage.autoscaler.run())
    stage.autoscaler.call_queued(FUNCTION)
    await asyncio.wait_for(changed.wait(), 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert stage.asked == [3]


async def test_equal_bounds_leave_the_count_to_its_owner() -> None:
    stage = Stage({"com.openfaas.scale.min": "2", "com.openfaas.scale.max": "2"}, count=2)
    await stage.run(60, rps=500)
    assert stage.asked == []


async def test_reported_lag_scales_and_keeps_awake() -> None:
    stage = Stage({**ZERO, "com.openfaas.scale.type": "queue", "com.openfaas.scale.target": "100"})
    for _ in range(60):
        stage.signals.report(FUNCTION, "lag", 500.0)
        await stage.run(2)
    assert stage.count == 6
    await stage.run(400)
    assert stage.count == 0


async def test_calls_in_the_own_queue_count_as_waiting() -> None:
    stage = Stage({"com.openfaas.scale.type": "queue", "com.openfaas.scale.target": "10"})
    stage.signals.pending = lambda function: 27 if function == FUNCTION else 0
    await stage.run(30)
    assert stage.count == 3


async def test_removed_function_is_forgotten() -> None:
    stage = Stage(ZERO)
    stage.autoscaler.apply(FunctionRemoved(FUNCTION))
    await stage.run(120)
    assert stage.asked == []


async def test_bad_label_of_an_old_deployment_stops_nothing() -> None:
    stage = Stage({"com.openfaas.scale.type": "memory"})
    await stage.run(60, rps=100)
    assert stage.asked == []
    stage.labels = {}
    stage.tell()
    await stage.run(60, rps=10)
    assert stage.count == 2


async def test_day_of_varied_load_never_leaves_the_bounds() -> None:
    stage = Stage({**CAPACITY, "com.openfaas.scale.max": "12", **ZERO})
    for inflight in (0, 3, 30, 80, 200, 40, 7, 0, 1, 120, 0):
        await stage.run(60, inflight=inflight)
        assert 0 <= stage.count <= 12
        if inflight:
            assert stage.count >= 1
        if stage.count == 0:
            stage.set_by_hand(1)
