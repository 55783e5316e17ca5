"""A whole gateway in front of fake replicas, with a queue, and a receiver of callbacks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from gateway.app import Gateway, create
from gateway.queue.call import CallState, CallView
from gateway.types.function import TcpAddress
from tests.fake_replica import Behaviour, FakeReplica, ReplicaCall
from tests.fakes import FakeProvider, deployment, echo
from tests.gateway.test_app import client_of, settings_in

PATIENCE = 60.0
# So that a test of retries takes no seconds.
QUICK = {"com.openfaas.retry.min_wait": "1ms", "com.openfaas.retry.max_wait": "2ms"}


@dataclass
class Queue:
    """The gateway with its provider and an identified client."""

    gateway: Gateway
    provider: FakeProvider
    client: httpx.AsyncClient

    async def post(self, name: str, body: bytes = b"x", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.post(
            f"/async-function/{name}", content=body, headers=named, auth=httpx.Auth()
        )

    async def accept(self, name: str, body: bytes = b"x", **headers: str) -> str:
        """The id of a call that was taken."""
        response = await self.post(name, body, **headers)
        assert response.status_code == 202, response.text
        return str(response.headers["x-call-id"])

    async def until(self, call: str, *states: CallState) -> CallView:
        """The call once it is in one of the states."""
        async with asyncio.timeout(PATIENCE):
            while True:
                view = await self.gateway.queue.call(call)
                if view.state in states:
                    return view
                await asyncio.sleep(0.005)

    async def called_back(self, call: str, state: str) -> str:
        """How the call's callback stands once that begins with `state`."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = (await self.gateway.queue.call(call)).callback_state
                if found.startswith(state):
                    return found
                await asyncio.sleep(0.005)

    async def done(self, call: str) -> CallView:
        return await self.until(call, CallState.SUCCEEDED, CallState.DEAD, CallState.CANCELLED)

    def calls(self, name: str) -> list[ReplicaCall]:
        return [call for replica in self.provider.replicas(name) for call in replica.calls]


@asynccontextmanager
async def queue_in(
    folder: Path,
    functions: dict[str, Behaviour] | None = None,
    annotations: dict[str, str] | None = None,
    **knobs: Any,
) -> AsyncIterator[Queue]:
    """A gateway on `folder`. functions: behaviours by name; an echo named `f` without them."""
    provider = FakeProvider(folder)
    for name, behaviour in (functions or {"f": echo}).items():
        provider.behaviours[name] = behaviour
        await provider.deploy(deployment(name, annotations={**QUICK, **(annotations or {})}))
        await provider.ready(name)
    async with (
        create(replace(settings_in(folder), **knobs), provider) as gateway,
        client_of(gateway) as client,
    ):
        yield Queue(gateway, provider, client)


@asynccontextmanager
async def receiver(behaviour: Behaviour) -> AsyncIterator[tuple[str, FakeReplica]]:
    """A server on the loopback address; its URL."""
    server = FakeReplica("receiver", behaviour, None)
    await server.start()
    address = server.address
    assert isinstance(address, TcpAddress)
    try:
        yield f"http://127.0.0.1:{address.port}", server
    finally:
        await server.close()


async def eventually(condition: Callable[[], object]) -> None:
    """Returns once it is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - conditions of many kinds, most without an event
            await asyncio.sleep(0.005)
