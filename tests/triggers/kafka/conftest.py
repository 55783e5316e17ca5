"""A connector on the real broker, in front of a gateway that does what a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from service.catalog import Catalog
from service.gateway_client import GatewayClient
from testbed.kafka import KafkaBroker, collect_sockets, kafka_broker
from tests.triggers.kafka.fake_gateway import FakeGateway
from triggers.kafka.connector import Connector
from triggers.metrics import TriggersMetrics
from triggers.settings import TriggersSettings

__all__ = ["kafka_broker"]

# kafka-python leaves sockets to the collector when it reconnects.
LEAKS = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
ENVIRON = {
    # A member that a slow machine keeps silent is not to be taken for a dead one.
    "SLUICE_TRIGGERS_KAFKA_SESSION_TIMEOUT": "30s",
    "SLUICE_TRIGGERS_KAFKA_SIGNAL_INTERVAL": "300ms",
    "SLUICE_TRIGGERS_KAFKA_METADATA_INTERVAL": "300ms",
}


class RunningConnector:
    """One connector with its own catalog, until `stop`."""

    def __init__(self, gateway: FakeGateway, bootstrap: str, **environ: str) -> None:
        self.metrics = TriggersMetrics()
        self.client = GatewayClient(f"http://127.0.0.1:{gateway.port}", "admin", "secret")
        self.catalog = Catalog(self.client, 0.1)
        settings = {**ENVIRON, "KAFKA_BOOTSTRAP": bootstrap, **environ}
        self.connector = Connector(
            TriggersSettings.load({}), self.client, self.catalog, self.metrics, environ=settings
        )
        self._tasks = [
            asyncio.create_task(self.catalog.run()),
            asyncio.create_task(self.connector.run()),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self.client.close()

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


Starting = Callable[..., RunningConnector]


async def eventually(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for what another thread changes, which has no event to wait for."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.02)


@pytest.fixture
async def gateway(collected: None) -> AsyncIterator[FakeGateway]:
    gateway = FakeGateway()
    await gateway.start()
    yield gateway
    await gateway.stop()


@pytest.fixture
def address(kafka_broker: KafkaBroker) -> str:
    """Where connectors find the broker."""
    return kafka_broker.bootstrap


@pytest.fixture
async def connect(gateway: FakeGateway, address: str) -> AsyncIterator[Starting]:
    """Starts connectors that end with the test."""
    started: list[RunningConnector] = []

    def start(**environ: str) -> RunningConnector:
        started.append(RunningConnector(gateway, address, **environ))
        return started[-1]

    yield start
    for one in started:
        await one.stop()


@pytest.fixture
def collected(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Leave no socket of kafka-python's to the tests that follow."""
    yield
    # What was logged of an error holds its frames, and those the sockets.
    caplog.get_records("setup").clear()
    caplog.get_records("call").clear()
    collect_sockets()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return Path(request.node.name).name.replace("[", "-").replace("]", "")
