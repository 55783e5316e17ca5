"""Pipelines as the API and the event sources use them: starting, rerunning and ending runs."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from pipelines.calling import StepCaller, Unit
from pipelines.definition import Pipeline, read_json
from pipelines.definitions import Definitions, Schedules
from pipelines.errors import ConflictError, InvalidRequestError, NotFoundError, TooLargeError
from pipelines.execution import Execution
from pipelines.metrics import PipelineMetrics
from pipelines.records import OPEN, WHOLE, Start
from pipelines.run_executor import RunExecutor
from pipelines.settings import PipelineSettings
from pipelines.store import RunStore
from service.catalog import Catalog
from service.database import Database
from service.gateway_client import GatewayClient

TIDY_EVERY: Final = 20  # heartbeats
log = logging.getLogger(__name__)


class PipelineService:
    """Everything about pipelines in this process. owner: its name among those on the database."""

    def __init__(
        self,
        settings: PipelineSettings,
        owner: str,
        gateway: GatewayClient,
        catalog: Catalog,
        database: Database,
        metrics: PipelineMetrics,
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self.store = RunStore(database, owner, settings.lease)
        self.definitions = Definitions(self.store, catalog)
        caller = StepCaller(
            gateway,
            settings.calls_at_once,
            settings.output_bytes,
            settings.gateway_away,
            self._count_retry,
        )
        self.executor = RunExecutor(
            self.definitions, self.store, caller, metrics, settings.runs_at_once, settings.lease
        )
        self.stopping = asyncio.Event()

    def _count_retry(self, unit: Unit) -> None:
        self._metrics.pipeline_retries.labels(unit.run.pipeline, unit.step.name).inc()

    @property
    def topics(self) -> Mapping[str, str]:
        """The pipeline that each topic starts."""
        return self.definitions.topics

    def subscribe(self, listener: Callable[[Schedules], None]) -> None:
        """Call `listener` with the schedules of all pipelines, now and when they were replaced."""
        self.definitions.subscribe(listener)

    async def start(self, start: Start) -> tuple[str, bool]:
        """The run's id and whether it is new; durable before it returns.

        Raises NotFoundError, InvalidRequestError, TooLargeError, ConflictError, BusyError.
        """
        pipeline = await self.definitions.pipeline(start.pipeline)
        value = pipeline.read_input(start.input)
        if len(json.dumps(value)) > self._settings.input_bytes:
            raise TooLargeError(f"input: expected at most {self._settings.input_bytes} bytes")
        with self.executor.reservation() as begin:
            run, new = await self.store.create(
                start, self.definitions.version, value, begin, self._settings.runs_waiting
            )
        if new:
            self.executor.accept(run, begin)
        return run.id, new

    async def start_for_topic(self, topic: str, body: bytes, key: str) -> str:
        """The id of the run that a message on `topic` starts; durable before it returns.

        body: the input as a JSON object. key: names the message, so that it starts one run however
        often it comes. Raises as `start` does.
        """
        name = self.topics.get(topic)
        if name is None:
            raise NotFoundError(f"no pipeline is started by topic {topic!r}")
        return (await self.start(Start(name, read_json(body), f"topic {topic}", key)))[0]

    async def start_for_schedule(self, pipeline: str, key: str) -> str:
        """The id of the run of a fire time, with the input that the definitions give it."""
        found = await self.definitions.pipeline(pipeline)
        value = dict(found.triggers.cron_input or {})
        return (await self.start(Start(pipeline, value, "cron", f"cron/{key}")))[0]

    async def rerun(self, run: str, step: str, key: str | None) -> str:
        """The id of a new run of the same input and definitions.

        It keeps what the old one recorded, but for `step` and all that needs it; without a step,
        but for what did not succeed. Raises NotFoundError, ConflictError, InvalidRequestError.
        """
        row = await self.store.row(run)
        pipeline = await self.definitions.pipeline(row["pipeline"], row["version"])
        if row["state"] in OPEN:
            raise ConflictError(f"run {run} is {row['state']}; cancel it first")
        if step and step not in pipeline.steps:
            known = ", ".join(pipeline.steps)
            raise InvalidRequestError(f"from: no step {step!r}; there are {known}")
        keep = await self._kept(run, pipeline, step)
        start = Start(row["pipeline"], json.loads(row["input"]), "rerun", key)
        with self.executor.reservation() as begin:
            copy = await self.store.copy(run, start, keep, begin)
        self.executor.accept(copy, begin)
        return copy.id

    async def _kept(self, run: str, pipeline: Pipeline, step: str) -> set[str]:
        results = await self.store.results(run)
        done = {r.step for r in results if r.item == WHOLE and r.state in {"succeeded", "skipped"}}
        again = set(pipeline.downstream(step)) if step else set()
        for name in pipeline.steps:
            if name not in done:
                again |= pipeline.downstream(name)
        return done - again

    async def cancel(self, run: str) -> None:
        """End a run that is under way. Raises NotFoundError, ConflictError where it has ended."""
        row = await self.store.row(run)
        if not await self.store.ask_cancel(run):
            raise ConflictError(f"run {run} is {row['state']} already")
        await self.executor.cancel(run)

    def active(self, run: str) -> Execution | None:
        """The run, where it is under way in this process."""
        return self.executor.execution(run)

    def stop_waiting(self) -> None:
        """End the requests that wait for a change: the process stops."""
        self.stopping.set()

    async def run(self) -> None:
        """Resume the runs that were left open and keep the leases, until cancelled."""
        await self.definitions.load()
        try:
            await self._take(mine=True)
            beats = 0
            while True:
                await asyncio.sleep(self._settings.lease / 3)
                beats += 1
                try:
                    await self._beat(tidy=beats % TIDY_EVERY == 0)
                except Exception:
                    # A full disk or an unreachable database: the runs under way go on meanwhile.
                    log.exception("event=heartbeat-failed")
                    self._metrics.failures.labels("pipelines").inc()
        finally:
            await self.executor.stop()

    async def _beat(self, tidy: bool) -> None:
        """Renew the leases, end runs cancelled elsewhere, resume runs that others left."""
        for run in await self.store.renew(self._until()):
            await self.executor.cancel(run)
        await self._take(mine=False)
        await self.definitions.follow()
        if tidy:
            await self.store.forget_old(self._settings.pipeline_runs)

    def _until(self) -> float:
        return time.time() + self._settings.lease

    async def _take(self, mine: bool) -> None:
        self.executor.resume(await self.store.take(time.time(), self._until(), mine))
