"""What functions at zero cost the functions that are called: work that does not grow with them."""

import time
from datetime import UTC, datetime

from gateway.autoscaling.autoscaler import Autoscaler
from gateway.autoscaling.signals import Signals
from gateway.metrics import Metrics
from gateway.proxy.activator import Activator, Listeners
from gateway.types.function import (
    FunctionDeployment,
    FunctionStatus,
    Replica,
    ReplicaState,
    UnixAddress,
)
from gateway.types.ids import FunctionId
from gateway.types.scaling import FunctionLoad
from tests.fakes import FakeProvider

AWAKE = FunctionId("awake")
CROWD = 200


def status(function: FunctionId, replicas: int) -> FunctionStatus:
    replica = Replica(f"{function.name}-1", UnixAddress("nowhere"), ReplicaState.READY)
    deployment = FunctionDeployment(function, "image")
    return FunctionStatus(deployment, replicas, (replica,) * replicas, datetime.now(UTC))


async def test_tick_of_the_autoscaler_looks_at_no_function_at_zero() -> None:
    listeners = Listeners(lambda _function: None, lambda _function: None, lambda _replica: None)
    activator = Activator(listeners, Metrics(), 30.0, 100)
    looked_at: list[FunctionId] = []

    def load(function: FunctionId, now: float) -> FunctionLoad | None:
        looked_at.append(function)
        return activator.load(function, now)

    scaler = Autoscaler(FakeProvider(), load, Signals(time.monotonic, lambda _function: 0))
    crowd = [status(FunctionId(f"idle-{number}"), 0) for number in range(CROWD)]
    for event in (*crowd, status(AWAKE, 1)):
        activator.apply(event)
        scaler.apply(event)
    looked_at.clear()
    await scaler.sample()
    await scaler.tick()
    assert set(looked_at) == {AWAKE}
