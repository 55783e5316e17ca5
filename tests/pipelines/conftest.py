import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines.metrics import PipelineMetrics
from pipelines.records import Start
from pipelines.service import PipelineService
from pipelines.settings import PipelineSettings
from service.catalog import Catalog
from service.database import Database
from service.gateway_client import GatewayClient
from tests.service.fakes import FakeGateway
from tests.service.fixtures import client, gateway
from triggers.metrics import TriggersMetrics
from triggers.migrations import SCHEMA

__all__ = ["client", "gateway"]

OPEN = {"waiting", "running"}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'triggers.sqlite'}", SCHEMA)
    yield made
    made.close()


@dataclass
class Desk:
    """A PipelineService that runs."""

    service: PipelineService
    gateway: FakeGateway
    task: "asyncio.Task[None]"

    async def fall_silent(self) -> None:
        """End without giving up the leases, as a killed process does."""
        self.task.cancel()
        await asyncio.wait([self.task])

    async def put(self, source: str) -> None:
        await self.service.definitions.put(source, "pipelines.yml")

    async def start(self, pipeline: str, value: Any = None, key: str | None = None) -> str:
        start = Start(pipeline, {} if value is None else value, "http", key)
        return (await self.service.start(start))[0]

    async def ended(self, run: str) -> dict[str, Any]:
        """The run's row once it has ended."""
        async with asyncio.timeout(60):
            while (row := await self.service.store.row(run))["state"] in OPEN:
                execution = self.service.active(run)
                if execution is None:
                    await asyncio.sleep(0.005)
                    continue
                await asyncio.wait([asyncio.ensure_future(execution.changed())], timeout=0.05)
        return dict(row)

    async def states(self, run: str) -> dict[str, str]:
        """The recorded state of each step."""
        return {r.step: r.state for r in await self.service.store.results(run) if r.item == -1}

    async def outputs(self, run: str) -> dict[tuple[str, int], str | None]:
        return {(r.step, r.item): r.output for r in await self.service.store.results(run)}


@pytest.fixture
async def desk_of(
    gateway: FakeGateway,
    client: GatewayClient,
    database: Database,
) -> AsyncIterator[Callable[..., Desk]]:
    tasks: list[asyncio.Task[None]] = []

    def made(owner: str = "one", **variables: str) -> Desk:
        metrics = TriggersMetrics()
        service = PipelineService(
            PipelineSettings.load(variables),
            owner,
            client,
            Catalog(client, 60),
            database,
            PipelineMetrics(metrics.registry, metrics.failures),
        )
        tasks.append(asyncio.create_task(service.run()))
        return Desk(service, gateway, tasks[-1])

    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def desk(desk_of: Callable[..., Desk]) -> Desk:
    return desk_of()
