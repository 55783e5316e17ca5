"""Pipelines as the API and other sources see them: runs, and those of them under way."""

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from service.database import Database
from triggers.catalog import Catalog
from triggers.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    TooLargeError,
    TriggersError,
)
from triggers.gateway import GatewayClient
from triggers.metrics import TriggersMetrics
from triggers.pipelines.calling import StepCaller, Unit
from triggers.pipelines.definition import Pipeline
from triggers.pipelines.definitions import Definitions, Schedules
from triggers.pipelines.execution import Execution
from triggers.pipelines.inputs import read_json
from triggers.pipelines.records import WHOLE, Run, Start
from triggers.pipelines.store import RunStore
from triggers.settings import TriggersSettings

TIDY_EVERY: Final = 20  # heartbeats
log = logging.getLogger(__name__)


class PipelineService:
    """Everything about pipelines in this process."""

    def __init__(
        self,
        settings: TriggersSettings,
        gateway: GatewayClient,
        catalog: Catalog,
        database: Database,
        metrics: TriggersMetrics,
    ) -> None:
        self._settings, self._metrics = settings, metrics
        self.store = RunStore(database, settings.process_name, settings.lease)
        self.definitions = Definitions(self.store, catalog)
        self._caller = StepCaller(
            gateway, settings.calls_at_once, settings.output_bytes, settings.gateway_away
        )
        self._caller.retried = self._retried
        self._active: dict[str, Execution] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._waiting: deque[Run] = deque()
        self._cancelled: set[str] = set()
        self._starting = 0
        self.stopping = asyncio.Event()

    # What other sources ask for.

    @property
    def topics(self) -> Mapping[str, str]:
        """The pipeline that each topic starts."""
        return self.definitions.topics

    def subscribe(self, listener: Callable[[Schedules], None]) -> None:
        """Call `listener` with the schedules of all pipelines, now and when they were replaced."""
        self.definitions.subscribe(listener)

    # Starting and ending runs.

    async def start(self, start: Start) -> tuple[str, bool]:
        """The run's id and whether it is new; durable before it returns.

        Raises NotFoundError, InvalidRequestError, TooLargeError, ConflictError, BusyError.
        """
        pipeline = await self.definitions.pipeline(start.pipeline)
        value = pipeline.read_input(start.input)
        if len(json.dumps(value)) > self._settings.input_bytes:
            raise TooLargeError(f"input: expected at most {self._settings.input_bytes} bytes")
        begin = self._has_room()
        self._starting += begin
        try:
            run, new = await self.store.create(
                start, self.definitions.version, value, begin, self._settings.runs_waiting
            )
        finally:
            self._starting -= begin
        if new:
            self._accept(run, begin)
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
        if row["state"] in {"waiting", "running"}:
            raise ConflictError(f"run {run} is {row['state']}; cancel it first")
        if step and step not in pipeline.steps:
            known = ", ".join(pipeline.steps)
            raise InvalidRequestError(f"from: no step {step!r}; there are {known}")
        keep = await self._kept(run, pipeline, step)
        start = Start(row["pipeline"], json.loads(row["input"]), "rerun", key)
        begin = self._has_room()
        copy = await self.store.copy(run, start, keep, begin)
        if copy.id not in self._tasks and not any(one.id == copy.id for one in self._waiting):
            self._accept(copy, begin)
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
        await self._cancel_here(run)

    async def _cancel_here(self, run: str) -> None:
        for one in [one for one in self._waiting if one.id == run]:
            self._waiting.remove(one)
            await self.store.set_state(run, "cancelled")
        task = self._tasks.get(run)
        if task is not None:
            self._cancelled.add(run)
            task.cancel()
            await asyncio.wait([task])

    def active(self, run: str) -> Execution | None:
        """The run, where it is under way in this process."""
        return self._active.get(run)

    def stop_waiting(self) -> None:
        """Let requests that wait for a change answer now: the process stops."""
        self.stopping.set()

    # The loop.

    async def run(self) -> None:
        """Take up what was left, keep the leases, until cancelled."""
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
                    # A full disk, a database that is away: what is under way goes on meanwhile.
                    log.exception("event=heartbeat-failed")
                    self._metrics.failures.labels("pipelines").inc()
        finally:
            # What is recorded stays; the next process goes on from there.
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _beat(self, tidy: bool) -> None:
        """Keep the leases, cut what was cancelled elsewhere, take up what others left."""
        for run in await self.store.renew(self._until()):
            await self._cancel_here(run)
        await self._take(mine=False)
        await self.definitions.follow()
        if tidy:
            await self.store.forget_old(self._settings.pipeline_runs)

    def _until(self) -> float:
        return time.time() + self._settings.lease

    async def _take(self, mine: bool) -> None:
        for run in await self.store.take(time.time(), self._until(), mine):
            if run.id not in self._tasks:
                log.info("event=resumed run=%s pipeline=%s", run.id, run.pipeline)
                self._waiting.append(run)
        self._pump()

    def _has_room(self) -> bool:
        used = len(self._tasks) + self._starting
        return not self._waiting and used < self._settings.runs_at_once

    def _accept(self, run: Run, begin: bool) -> None:
        if begin:
            self._begin(run, recorded=True)
        else:
            self._waiting.append(run)
            self._pump()

    def _pump(self) -> None:
        while self._waiting and len(self._tasks) < self._settings.runs_at_once:
            self._begin(self._waiting.popleft(), recorded=False)

    def _again(self, run: Run) -> None:
        if not self.stopping.is_set():
            self._waiting.append(run)
            self._pump()

    def _begin(self, run: Run, recorded: bool) -> None:
        task = asyncio.create_task(self._execute(run, recorded), name=f"run-{run.id}")
        self._tasks[run.id] = task
        self._metrics.pipeline_active.set(len(self._tasks))

    async def _execute(self, run: Run, recorded: bool) -> None:
        try:
            await self._executed(run, recorded)
        except asyncio.CancelledError:
            if run.id not in self._cancelled:
                raise
            await self._record_cancelled(run)
        except TriggersError as error:
            log.warning("event=run-failed run=%s error=%s", run.id, error)
            await self.store.set_state(run.id, "failed", str(error))
        except Exception:
            # A full disk, a database that is away: the run stays open and is taken up again.
            log.exception("event=run-broken run=%s pipeline=%s", run.id, run.pipeline)
            asyncio.get_running_loop().call_later(self._settings.lease, self._again, run)
        finally:
            self._cancelled.discard(run.id)
            self._active.pop(run.id, None)
            self._tasks.pop(run.id, None)
            self._metrics.pipeline_active.set(len(self._tasks))
            self._pump()

    async def _executed(self, run: Run, recorded: bool) -> None:
        pipeline = await self.definitions.pipeline(run.pipeline, run.version)

        def told(step: str, state: str, seconds: float) -> None:
            self._metrics.pipeline_steps.labels(run.pipeline, step, state).inc()
            self._metrics.pipeline_step_seconds.labels(run.pipeline, step).observe(seconds)

        execution = Execution(run, pipeline, self.store, self._caller, told)
        self._active[run.id] = execution
        if not recorded:
            await self.store.set_state(run.id, "running")
        state = await execution.execute()
        self._metrics.pipeline_runs.labels(run.pipeline, state).inc()
        log.info("event=run-ended run=%s pipeline=%s state=%s", run.id, run.pipeline, state)

    async def _record_cancelled(self, run: Run) -> None:
        execution = self._active.get(run.id)
        if execution is not None:
            await execution.cancel()
        else:
            await self.store.set_state(run.id, "cancelled")
        self._metrics.pipeline_runs.labels(run.pipeline, "cancelled").inc()
        log.info("event=run-ended run=%s pipeline=%s state=cancelled", run.id, run.pipeline)

    def _retried(self, unit: Unit) -> None:
        self._metrics.pipeline_retries.labels(unit.run.pipeline, unit.step.name).inc()
