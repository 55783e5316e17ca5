"""Retries and patience, in fake time."""

import asyncio
from collections.abc import Sequence

import pytest

from pipelines.calling import Failure, StepCaller, Success, Unit
from pipelines.definition import Retry, Step
from pipelines.records import Run
from pipelines.template import compile_template
from service.errors import CallTimeoutError, GatewayUnavailableError
from service.gateway_client import FunctionResponse
from tests.service.fakes import FakeClock

RUN = Run("r", "p", "v", {}, "http", 0.0)
Scripted = FunctionResponse | Exception


class Script:
    """A gateway that answers by a list; the last entry goes on for ever."""

    def __init__(self, *answers: Scripted) -> None:
        self.answers = list(answers)
        self.calls = 0

    async def call(self, function: str, **_: object) -> FunctionResponse:
        self.calls += 1
        response = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(response, Exception):
            raise response
        return response


def status(code: int, **headers: str) -> FunctionResponse:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return FunctionResponse(code, pairs, b"{}")


def unit(retry: Retry) -> Unit:
    empty = compile_template({})
    step = Step("s", "f", empty, empty, frozenset(), retry, 5.0)
    return Unit(step, "r/s/0", RUN, {})


async def outcome(
    script: Script, retry: Retry, clock: FakeClock, away: float = 60.0
) -> Success | Failure:
    """What the call comes to, the clock moved on whenever it waits."""
    retried: list[Unit] = []
    caller = StepCaller(script, 4, 1000, away, retried.append, clock)
    task = asyncio.create_task(caller.call(unit(retry), b"{}"))
    while not task.done():
        waited = len(clock.waited)
        await asyncio.sleep(0)
        if len(clock.waited) > waited:
            await asyncio.sleep(0)
            clock.push(clock.waited[-1])
    return task.result()


def between(values: Sequence[float], expected: Sequence[float]) -> bool:
    """Whether each value is within 20 % of what is expected."""
    return len(values) == len(expected) and all(
        0.8 * b <= a <= 1.2 * b for a, b in zip(values, expected, strict=True)
    )


async def test_pause_doubles_from_attempt_to_attempt() -> None:
    clock, script = FakeClock(0.0), Script(*[status(503)] * 4, status(200))
    found = await outcome(script, Retry(attempts=5, backoff=2.0), clock)
    assert isinstance(found, Success)
    assert found.attempts == script.calls == 5
    assert between(clock.waited, [2, 4, 8, 16])


async def test_pause_is_at_least_what_the_function_asks_for() -> None:
    clock, script = FakeClock(0.0), Script(status(429, retry_after="30"), status(200))
    assert isinstance(await outcome(script, Retry(backoff=1.0), clock), Success)
    assert clock.waited == [30.0]


async def test_pause_is_bounded() -> None:
    clock, script = FakeClock(0.0), Script(status(503))
    found = await outcome(script, Retry(attempts=20, backoff=100.0), clock)
    assert isinstance(found, Failure)
    assert max(clock.waited) <= 1.2 * 300


async def test_timeout_is_an_attempt_and_a_missing_gateway_is_none() -> None:
    clock = FakeClock(0.0)
    away = GatewayUnavailableError("away")
    script = Script(away, away, CallTimeoutError("late"), away, status(200))
    found = await outcome(script, Retry(attempts=2, backoff=1.0), clock)
    assert isinstance(found, Success)
    assert (found.attempts, script.calls) == (2, 5)


async def test_gateway_that_stays_away_fails_the_step_after_its_limit() -> None:
    clock, script = FakeClock(0.0), Script(GatewayUnavailableError("the gateway is away"))
    found = await outcome(script, Retry(attempts=3), clock, away=60.0)
    assert isinstance(found, Failure)
    assert found.error == "the gateway is away"
    assert 50 < sum(clock.waited) <= 60


@pytest.mark.parametrize("code", [400, 401, 404, 422, 500])
async def test_other_statuses_are_final(code: int) -> None:
    clock, script = FakeClock(0.0), Script(status(code))
    found = await outcome(script, Retry(attempts=9), clock)
    assert isinstance(found, Failure)
    assert (found.status, script.calls, clock.waited) == (code, 1, [])
