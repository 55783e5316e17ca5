"""Calls of claimed fire times: what is called, with which retries, and what is recorded."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final, Protocol

from service.clock import Clock
from service.errors import CallError, GatewayUnavailableError, ServiceError
from service.gateway_client import FunctionCaller, FunctionResponse
from sluice.backoff import Backoff
from triggers.cron.entries import Entry
from triggers.cron.store import Claim, FireStore, Outcome
from triggers.metrics import TriggersMetrics
from triggers.settings import TriggersSettings

FIRST_DELAY, LONGEST_DELAY = 0.2, 5.0
ENTRY_AT_ONCE: Final = 10
SHOWN: Final = 500  # characters kept of a failed response
log = logging.getLogger(__name__)


class PipelineStarter(Protocol):
    """The part of PipelineService that cron needs."""

    async def start_for_schedule(self, pipeline: str, key: str) -> str:
        """The id of the run."""


class FireCaller:
    """All calls of one process."""

    def __init__(
        self,
        settings: TriggersSettings,
        gateway: FunctionCaller,
        store: FireStore,
        metrics: TriggersMetrics,
        pipelines: PipelineStarter,
        clock: Clock,
    ) -> None:
        self._timeout = settings.upstream_timeout
        self._gateway, self._store, self._pipelines = gateway, store, pipelines
        self._metrics, self._clock = metrics, clock
        self._under_way: dict[str, int] = {}
        self._slots = asyncio.Semaphore(settings.cron_at_once)

    def busy(self, entry: Entry) -> bool:
        """Whether the schedule has as many calls under way as allowed."""
        return self._under_way.get(entry.id, 0) >= ENTRY_AT_ONCE

    async def call(self, entry: Entry, claim: Claim) -> None:
        """Call what was claimed and record the outcome."""
        self._under_way[entry.id] = self._under_way.get(entry.id, 0) + 1
        try:
            async with self._slots:
                outcome = await self._outcome(entry, claim)
            await self._store.finish(claim, outcome)
        finally:
            self._under_way[entry.id] -= 1
        labels = entry.target, outcome.state
        self._metrics.cron_fires.labels(*labels).inc()
        self._metrics.cron_seconds.labels(entry.target).observe(outcome.seconds)
        self._metrics.cron_late_seconds.labels(entry.target).set(
            outcome.started_at - claim.fire_time
        )
        log.log(
            logging.INFO if outcome.state == "succeeded" else logging.WARNING,
            "event=fired target=%s fire_time=%s status=%d seconds=%.3f error=%r",
            claim.target,
            fire_time_text(claim),
            outcome.status,
            outcome.seconds,
            outcome.error,
        )

    async def _outcome(self, entry: Entry, claim: Claim) -> Outcome:
        started, status, error = self._clock.time(), 0, ""
        try:
            if entry.kind == "pipeline":
                await self._pipelines.start_for_schedule(entry.target, claim.key)
                status = 202
            else:
                response = await self._response(entry, claim, started)
                status = response.status
                if not response.succeeded:
                    error = response.body[:SHOWN].decode("utf-8", "replace")
        except ServiceError as failure:
            error = str(failure)
        state = "succeeded" if 200 <= status < 300 else "failed"
        return Outcome(state, started, self._clock.time() - started, status, error)

    async def _response(self, entry: Entry, claim: Claim, started: float) -> FunctionResponse:
        """Call, and retry while the gateway is unavailable, within the time of one call."""
        backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
        while True:
            try:
                return await self._gateway.call(
                    entry.target,
                    headers=_headers(claim),
                    timeout=self._timeout,
                    asynchronous=entry.asynchronous,
                )
            except GatewayUnavailableError:
                delay = backoff.next()
                if self._clock.time() + delay > started + self._timeout:
                    raise
            except ValueError as error:
                raise CallError(str(error)) from error
            await self._clock.wait(delay)


def _headers(claim: Claim) -> list[tuple[str, str]]:
    return [
        ("X-Topic", "cron-function"),
        ("X-Connector", "cron-connector"),
        ("Idempotency-Key", claim.key),
        ("X-Cron-Fire-Time", fire_time_text(claim)),
    ]


def fire_time_text(claim: Claim) -> str:
    """The fire time, as logs and headers show it."""
    return datetime.fromtimestamp(claim.fire_time, UTC).isoformat()
