"""The autoscaler on a simulated function: fake time, fake provider, its own arithmetic."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from gateway.autoscaler import Autoscaler
from gateway.function import (
    FunctionDeployment,
    FunctionId,
    FunctionRemoved,
    FunctionStatus,
)
from gateway.scaling import FunctionLoad
from gateway.signals import Signals
from tests.fakes import FakeProvider

FUNCTION = FunctionId("f")
ZERO = {"com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": "60s"}
CAPACITY = {
    "com.openfaas.scale.type": "capacity",
    "com.openfaas.scale.target": "10",
    "com.openfaas.scale.target-proportion": "0.7",
}


@dataclass
class Stage:
    """One function whose load the test sets; its replicas are ready as soon as asked for."""

    labels: dict[str, str] = field(default_factory=dict)
    now: float = 1000.0
    count: int = 1
    inflight: int = 0
    arrivals: int = 0
    demand_seconds: float = 0.0
    asked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.signals = Signals(lambda: self.now)
        self.autoscaler = Autoscaler(_Recorder(self), self._load, self.signals, lambda: self.now)
        self.tell()

    def tell(self) -> None:
        """Give the autoscaler the provider's status."""
        deployment = FunctionDeployment(FUNCTION, "image", labels=self.labels)
        status = FunctionStatus(deployment, self.count, (), datetime.now(UTC))
        self.autoscaler.apply(status)

    def set_by_hand(self, count: int) -> None:
        self.count = count
        self.tell()

    def _load(self, function: FunctionId, now: float) -> FunctionLoad:
        assert now == self.now
        return FunctionLoad(
            function, self.count, self.count, self.inflight, 0, self.demand_seconds, self.arrivals
        )

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
