"""Fixtures that the tests of more than one package use: a scripted gateway and its client."""

from collections.abc import AsyncIterator

import pytest

from service.gateway_client import GatewayClient
from tests.service.fakes import FakeGateway, echo


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
