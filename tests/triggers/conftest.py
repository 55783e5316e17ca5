import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from service.database import Database
from tests.triggers.fakes import FakeGateway, echo
from triggers.catalog import Catalog
from triggers.gateway import GatewayClient
from triggers.metrics import TriggersMetrics
from triggers.migrations import SCHEMA
from triggers.pipelines.records import Start
from triggers.pipelines.service import PipelineService
from triggers.settings import TriggersSettings

OPEN = {"waiting", "running"}


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    fake = FakeGateway(functions={"echo": echo})
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def client(gateway: FakeGateway) -> AsyncIterator[GatewayClient]:
    made = GatewayClient(gateway.url, "admin", "of-the-tests")
    yield made
    made.close()


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[..., TriggersSettings]:
    def made(**variables: str) -> TriggersSettings:
        return TriggersSettings.load({"SLUICE_DATA_DIR": str(tmp_path), **variables})

    return made


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'triggers.sqlite'}", SCHEMA)
    yield made
    made.close()


@contextmanager
def without_table(path: Path, table: str) -> Iterator[None]:
    """A database that fails whoever asks for `table`, as one does that is broken."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO away")
        try:
            yield
        finally:
            connection.execute(f"ALTER TABLE away RENAME TO {table}")


@dataclass
class Desk:
    """A PipelineService that runs."""

    service: PipelineService
    gateway: FakeGateway

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
    settings_of: Callable[..., TriggersSettings],
) -> AsyncIterator[Callable[..., Desk]]:
    tasks: list[asyncio.Task[None]] = []

    def made(**variables: str) -> Desk:
        service = PipelineService(
            settings_of(**variables), client, Catalog(client, 60), database, TriggersMetrics()
        )
        tasks.append(asyncio.create_task(service.run()))
        return Desk(service, gateway)

    yield made
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def desk(desk_of: Callable[..., Desk]) -> Desk:
    return desk_of()
