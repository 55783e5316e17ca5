"""The API on a fake provider, called through its ASGI interface."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from gateway.api.application import application
from gateway.api.control import About, ControlPlane
from gateway.auth.authenticator import Auth
from gateway.auth.credentials import Credentials
from gateway.autoscaling.signals import Signals
from gateway.settings import GatewaySettings
from gateway.types.ids import FunctionId
from tests.gateway.api.recording import RecordingProvider

CREDENTIALS = Credentials(b"admin", b"p" * 43, b"payload-key", b"registry-token-value")
PASSWORD = ("admin", "p" * 43)


@pytest.fixture
async def provider() -> AsyncIterator[RecordingProvider]:
    provider = RecordingProvider()
    yield provider
    await provider.close()


@pytest.fixture
def invocations() -> dict[FunctionId, float]:
    return {}


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def control(
    provider: RecordingProvider, invocations: dict[FunctionId, float], tmp_path: Path
) -> ControlPlane:
    return ControlPlane(
        settings=GatewaySettings(data_dir=tmp_path, json_bytes=4096, log_streams=2),
        auth=Auth(CREDENTIALS),
        provider=provider,
        about=About("1.2.3", "abc"),
        invocation_count=lambda function: invocations.get(function, 0.0),
        signals=Signals(time.monotonic, lambda _function: 0),
    )


@pytest.fixture
async def api(
    control: ControlPlane, registry: CollectorRegistry
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=application(control, registry))
    async with httpx.AsyncClient(
        transport=transport, base_url="http://gateway", auth=PASSWORD
    ) as client:
        yield client
