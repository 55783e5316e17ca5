"""The call of a step: retries with back-off, and waiting for a gateway that cannot be reached."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from pipelines.definition import Step
from pipelines.evaluation import ExpressionError, shown
from pipelines.records import Run
from service.clock import Clock, SystemClock
from service.errors import CallTimeoutError, GatewayUnavailableError, ResponseTooLargeError
from service.gateway_client import FunctionCaller, FunctionResponse
from sluice.backoff import Backoff, centred_jitter, delay

UNAVAILABLE_FIRST_SECONDS, UNAVAILABLE_LONGEST_SECONDS = 0.2, 5.0
BACKOFF_LONGEST: Final = 300.0
SHOWN: Final = 2000  # characters kept of a failed response
TIMED_OUT: Final = 504


@dataclass(frozen=True, slots=True)
class Unit:
    """What one call is for. key: its Idempotency-Key, the same after a restart."""

    step: Step
    key: str
    run: Run
    query: Any


@dataclass(frozen=True, slots=True)
class Success:
    """output: JSON text, or None for an empty response."""

    output: str | None
    status: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Failure:
    """status: 0 where there was no response."""

    error: str
    status: int
    attempts: int


class StepCaller:
    """Calls of all runs of this process, at most `at_once` under way.

    on_retry: called before each further attempt. unavailable_seconds: how long a call waits for a
    gateway that cannot be reached.
    """

    def __init__(
        self,
        gateway: FunctionCaller,
        at_once: int,
        output_bytes: int,
        unavailable_seconds: float,
        on_retry: Callable[[Unit], None],
        clock: Clock | None = None,
    ) -> None:
        self._gateway, self._output_bytes = gateway, output_bytes
        self._slots = asyncio.Semaphore(at_once)
        self._unavailable_seconds = unavailable_seconds
        self._clock = clock or SystemClock()
        self._on_retry = on_retry

    async def call(self, unit: Unit, body: bytes) -> Success | Failure:
        """The step's output, or why there is none after all attempts."""
        path = _path(unit.query)
        retry = unit.step.retry
        attempt = 0
        while True:
            attempt += 1
            outcome, pause = await self._attempt(unit, path, body, attempt)
            last = attempt >= retry.attempts
            if isinstance(outcome, Success) or outcome.status not in retry.codes or last:
                return outcome
            self._on_retry(unit)
            wait = delay(attempt, retry.backoff, BACKOFF_LONGEST, centred_jitter)
            await self._clock.wait(max(pause, wait))

    async def _attempt(
        self, unit: Unit, path: str, body: bytes, attempt: int
    ) -> tuple[Success | Failure, float]:
        """The outcome of one call, and the seconds that its Retry-After asks to wait."""
        try:
            response = await self._reach(unit, path, body)
        except CallTimeoutError:
            text = f"{unit.step.function}: no answer within {unit.step.timeout:g} s"
            return Failure(text, TIMED_OUT, attempt), 0.0
        except ResponseTooLargeError:
            text = f"output over {self._output_bytes} bytes; put it into an artifact"
            return Failure(text, 0, attempt), 0.0
        except (GatewayUnavailableError, ValueError) as error:
            return Failure(str(error), 0, attempt), 0.0
        if not response.succeeded:
            text = response.body[:SHOWN].decode("utf-8", "replace").strip()
            reason = f"{unit.step.function} answered {response.status}: {text}"
            return Failure(reason, response.status, attempt), _retry_after(response)
        try:
            return Success(_output(response.body), response.status, attempt), 0.0
        except ValueError as error:
            return Failure(f"{unit.step.function}: {error}", response.status, attempt), 0.0

    async def _reach(self, unit: Unit, path: str, body: bytes) -> FunctionResponse:
        """The response, waiting for a gateway that is unavailable up to the limit."""
        headers = (
            ("Content-Type", "application/json"),
            ("Idempotency-Key", unit.key),
            ("X-Pipeline-Run", unit.run.id),
        )
        until = 0.0
        backoff = Backoff(UNAVAILABLE_FIRST_SECONDS, UNAVAILABLE_LONGEST_SECONDS)
        while True:
            try:
                async with self._slots:
                    return await self._gateway.call(
                        unit.step.function,
                        path=path,
                        headers=headers,
                        body=body,
                        timeout=unit.step.timeout,
                        response_bytes=self._output_bytes,
                    )
            except GatewayUnavailableError:
                now = self._clock.time()
                until = until or now + self._unavailable_seconds
                wait = backoff.next()
                if now + wait > until:
                    raise
            await self._clock.wait(wait)


def _path(query: Any) -> str:
    if not query:
        return "/"
    for name, value in query.items():
        if isinstance(value, dict | list):
            raise ExpressionError(f"query: {name}: expected a text or number, got {shown(value)}")
    texts = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in query.items()
        if value is not None
    }
    return f"/?{urlencode(texts)}"


def _output(body: bytes) -> str | None:
    """The response body as JSON text: JSON as it is, other text as a JSON string."""
    if not body:
        return None
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise ValueError("expected JSON or text, got other bytes") from None
    if "\0" in text:
        raise ValueError("expected JSON or text, got a NUL")
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return json.dumps(text)
    return text


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _retry_after(response: FunctionResponse) -> float:
    value = response.header("retry-after")
    return min(float(value), BACKOFF_LONGEST) if value.isdecimal() else 0.0
