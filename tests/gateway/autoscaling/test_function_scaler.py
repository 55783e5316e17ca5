import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from gateway.autoscaling.function_scaler import FunctionScaler
from gateway.types.errors import SluiceError, UnavailableError
from gateway.types.function import FunctionDeployment
from gateway.types.ids import FunctionId
from tests.gateway.api.recording import RecordingProvider

ECHO = FunctionId("echo")


@pytest.fixture
async def provider() -> AsyncIterator[RecordingProvider]:
    provider = RecordingProvider()
    labels = {"com.openfaas.scale.min": "2"}
    await provider.deploy(FunctionDeployment(ECHO, "echo:1", labels=labels))
    await provider.scale(ECHO, 0)
    yield provider
    await provider.close()


@dataclass
class Calls:
    """The activator's side: calls that wait, by function, and the failures it was told."""

    waiting: Counter[FunctionId] = field(default_factory=Counter)
    failures: asyncio.Queue[tuple[FunctionId, SluiceError]] = field(default_factory=asyncio.Queue)

    def failed(self, function: FunctionId, error: SluiceError) -> None:
        self.failures.put_nowait((function, error))


@pytest.fixture
def calls() -> Calls:
    return Calls(Counter({ECHO: 1}))


@pytest.fixture
async def function_scaler(
    provider: RecordingProvider, calls: Calls
) -> AsyncIterator[FunctionScaler]:
    function_scaler = FunctionScaler(provider, calls.waiting.__getitem__, calls.failed)
    running = asyncio.ensure_future(function_scaler.run())
    yield function_scaler
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def scaled(provider: RecordingProvider, count: int) -> None:
    """Returns when the function is to have so many replicas."""
    changed = asyncio.Event()
    end = provider.watch(lambda _event: changed.set())
    async with asyncio.timeout(60):
        while (await provider.status(ECHO)).replicas != count:
            changed.clear()
            await changed.wait()
    end()


async def test_wake_scales_to_the_minimum(
    function_scaler: FunctionScaler, provider: RecordingProvider
) -> None:
    function_scaler.wake(ECHO)
    await scaled(provider, 2)


async def test_wake_scales_to_what_the_calls_need_that_wait_by_then(
    function_scaler: FunctionScaler, provider: RecordingProvider, calls: Calls
) -> None:
    annotations = {"com.sluice.concurrency": "2"}
    await provider.deploy(FunctionDeployment(ECHO, "echo:1", annotations=annotations))
    await provider.scale(ECHO, 0)
    calls.waiting[ECHO] = 7
    function_scaler.wake(ECHO)
    await scaled(provider, 4)


async def test_wake_of_a_function_that_runs_changes_nothing(
    function_scaler: FunctionScaler, provider: RecordingProvider, calls: Calls
) -> None:
    await provider.scale(ECHO, 7)
    function_scaler.wake(ECHO)
    function_scaler.wake(FunctionId("gone"))
    await asyncio.wait_for(calls.failures.get(), 60)
    assert (await provider.status(ECHO)).replicas == 7


async def test_wake_that_fails_is_told_and_the_next_one_served(
    function_scaler: FunctionScaler,
    provider: RecordingProvider,
    calls: Calls,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for broken, text in ((UnavailableError("no room"), "no room"), (KeyError("bug"), "see the")):
        provider.broken = broken
        function_scaler.wake(ECHO)
        function, error = await asyncio.wait_for(calls.failures.get(), 60)
        assert function == ECHO
        assert text in str(error)
    assert "waking failed function=echo.openfaas-fn" in caplog.text
    provider.broken = None
    function_scaler.wake(ECHO)
    await scaled(provider, 2)
