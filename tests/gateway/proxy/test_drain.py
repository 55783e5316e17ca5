"""Both ends real: replicas that are http1 servers, replaced again and again under load."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from gateway.types.function import FunctionStatus, Replica, ReplicaState, UnixAddress
from sluice.http1.exchange import Exchange
from sluice.http1.server import Server
from tests.fakes import deployment
from tests.gateway.proxy.running import Gateway, running

# Bytes of body; from 65,537 on it is streamed.
SIZES = (1, 600, 600, 60_000, 100_000, 300_000, 3_000_000)


class Echo:
    """Responds with the body, a moment later."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange, self.body = exchange, b""

    def body_received(self, data: bytes) -> None:
        self.body += data

    def body_complete(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(0.001, self.exchange.respond, 200, b"", self.body)

    def client_gone(self) -> None: ...

    def writing_paused(self) -> None: ...

    def writing_resumed(self) -> None: ...


class Rollout:
    """One function whose replicas are made and drained by the test."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self.gateway, self.folder = gateway, folder
        self.deployment = deployment("f", annotations={"com.sluice.concurrency": "4"})
        self.count = 0

    async def start(self) -> tuple[Replica, Server]:
        self.count += 1
        path = self.folder / f"replica-{self.count}.sock"
        server = Server(Echo)
        await server.listen_unix(path)
        return Replica(f"r{self.count}", UnixAddress(str(path)), ReplicaState.READY), server

    def tell(self, *replicas: Replica) -> None:
        now = datetime.now(UTC)
        self.gateway.activator.apply(FunctionStatus(self.deployment, 1, replicas, now))


async def test_replicas_replaced_under_load_lose_no_call(tmp_path: Path) -> None:
    async with running(tmp_path) as gateway:
        rollout = Rollout(gateway, tmp_path)
        old, server = await rollout.start()
        rollout.tell(old)
        statuses: list[int] = []
        stop = asyncio.Event()

        async def load(size: int) -> None:
            client = await gateway.connect()
            body = b"b" * size
            while not stop.is_set():
                client.request("POST", "/function/f", body)
                reply = await client.reply()
                statuses.append(reply.status if reply.body == body else -1)

        loads = [asyncio.create_task(load(size)) for size in SIZES]
        for _ in range(25):
            new, other = await rollout.start()
            rollout.tell(old, new)
            enough = len(statuses) + 5
            while len(statuses) < enough:  # noqa: ASYNC110 - a list has no event
                await asyncio.sleep(0.001)
            rollout.tell(Replica(old.id, old.address, ReplicaState.DRAINING), new)
            assert await server.close(60) == 0
            rollout.tell(new)
            old, server = new, other
        stop.set()
        await asyncio.gather(*loads)
        await gateway.settled()
        await server.close(0)
        assert set(statuses) == {200}
