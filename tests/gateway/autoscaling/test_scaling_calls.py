"""What the autoscaler is told of calls under way, through a whole gateway."""

import asyncio
from pathlib import Path

import httpx

from tests.fake_replica import ReplicaCall
from tests.gateway.queue.running import Queue, queue_in

IN_FLIGHT = 'sluice_calls_in_flight{function_name="f.openfaas-fn"}'


async def in_flight(queue: Queue) -> str:
    """What the gateway's metrics tell: the number that the autoscaler is given."""
    async with httpx.AsyncClient(timeout=60) as client:
        response = await client.get(f"http://127.0.0.1:{queue.gateway.metrics_port}/metrics")
    return next(line.split()[1] for line in response.text.splitlines() if IN_FLIGHT in line)


async def test_asynchronous_call_under_way_is_load_that_keeps_its_replica(tmp_path: Path) -> None:
    came, go = asyncio.Event(), asyncio.Event()

    async def manual_override(call: ReplicaCall) -> None:
        await call.body()
        came.set()
        await go.wait()
        await call.reply(200)

    async with queue_in(tmp_path, {"f": manual_override}) as queue:
        accepted = await queue.accept("f")
        await asyncio.wait_for(came.wait(), 60)
        assert await in_flight(queue) == "1.0"
        go.set()
        await queue.done(accepted)
        assert await in_flight(queue) == "0.0"
