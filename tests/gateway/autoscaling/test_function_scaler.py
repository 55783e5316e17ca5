import asyncio
from collections.abc import AsyncIterator

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


@pytest.fixture
async def function_scaler(provider: RecordingProvider) -> AsyncIterator[FunctionScaler]:
    function_scaler = FunctionScaler(provider)
    running = asyncio.ensure_future(function_scaler.run())
    yield function_scaler
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def failure(
    function_scaler: FunctionScaler,
) -> asyncio.Future[tuple[FunctionId, SluiceError]]:
    future: asyncio.Future[tuple[FunctionId, SluiceError]] = asyncio.Future()
    function_scaler.failed = lambda function, error: future.set_result((function, error))
    return future


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
    function_scaler: FunctionScaler, provider: RecordingProvider
) -> None:
    annotations = {"com.sluice.concurrency": "2"}
    await provider.deploy(FunctionDeployment(ECHO, "echo:1", annotations=annotations))
    await provider.scale(ECHO, 0)
    function_scaler.waiting = {ECHO: 7}.__getitem__
    function_scaler.wake(ECHO)
    await scaled(provider, 4)


async def test_wake_of_a_function_that_runs_changes_nothing(
    function_scaler: FunctionScaler, provider: RecordingProvider
) -> None:
    await provider.scale(ECHO, 7)
    told = await failure(function_scaler)
    function_scaler.wake(ECHO)
    function_scaler.wake(FunctionId("gone"))
    await asyncio.wait_for(told, 60)
    assert (await provider.status(ECHO)).replicas == 7


async def test_wake_that_fails_is_told_and_the_next_one_served(
    function_scaler: FunctionScaler, provider: RecordingProvider, caplog: pytest.LogCaptureFixture
) -> None:
    for broken, text in ((UnavailableError("no room"), "no room"), (KeyError("bug"), "see the")):
        provider.broken = broken
        told = await failure(function_scaler)
        function_scaler.wake(ECHO)
        function, error = await asyncio.wait_for(told, 60)
        assert function == ECHO
        assert text in str(error)
    assert "waking failed function=echo.openfaas-fn" in caplog.text
    provider.broken = None
    function_scaler.wake(ECHO)
    await scaled(provider, 2)
