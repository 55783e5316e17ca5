"""The runs of this process: which of them wait, which are under way, and how each one ends."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Final

from pipelines.calling import StepCaller
from pipelines.definitions import Definitions
from pipelines.execution import Execution
from pipelines.metrics import PipelineMetrics
from pipelines.records import Run
from pipelines.store import RunStore
from service.errors import ServiceError

log = logging.getLogger(__name__)


class RunPhase(Enum):
    """Where a run of this process is; its state in the database is RunState."""

    WAITING = "waiting"  # as many runs as may be are under way
    RUNNING = "running"
    CANCELLING = "cancelling"  # its task is cancelled, the end is not recorded yet
    BACKING_OFF = "backing off"  # it broke; it is taken up again after a while
    ENDED = "ended"


TRANSITIONS: Final[Mapping[RunPhase, frozenset[RunPhase]]] = {
    RunPhase.WAITING: frozenset({RunPhase.RUNNING, RunPhase.ENDED}),
    RunPhase.RUNNING: frozenset({RunPhase.CANCELLING, RunPhase.BACKING_OFF, RunPhase.ENDED}),
    RunPhase.CANCELLING: frozenset({RunPhase.BACKING_OFF, RunPhase.ENDED}),
    RunPhase.BACKING_OFF: frozenset({RunPhase.WAITING, RunPhase.ENDED}),
    RunPhase.ENDED: frozenset(),
}
UNDER_WAY: Final = frozenset({RunPhase.RUNNING, RunPhase.CANCELLING})


class LocalRun:
    """A run from its acceptance by this process to its end. task: while it is under way."""

    __slots__ = ("execution", "phase", "run", "task")

    def __init__(self, run: Run) -> None:
        self.run = run
        self.phase = RunPhase.WAITING
        self.task: asyncio.Task[None] | None = None
        self.execution: Execution | None = None

    def enter(self, phase: RunPhase) -> None:
        """Change the phase. Raises RuntimeError for a change that is not in TRANSITIONS."""
        if phase not in TRANSITIONS[self.phase]:
            raise RuntimeError(f"run {self.run.id}: from {self.phase.value} to {phase.value}")
        self.phase = phase


class RunExecutor:
    """Executes at most `limit` runs at once, others wait in order.

    retry_seconds: after how long a run is taken up again that the database broke off.
    """

    def __init__(
        self,
        definitions: Definitions,
        store: RunStore,
        caller: StepCaller,
        metrics: PipelineMetrics,
        limit: int,
        retry_seconds: float,
    ) -> None:
        self._definitions, self._store, self._caller = definitions, store, caller
        self._metrics, self._limit, self._retry_seconds = metrics, limit, retry_seconds
        self._runs: dict[str, LocalRun] = {}
        self._waiting: deque[LocalRun] = deque()
        self._under_way = self._reserved = 0
        self._stopped = False

    def execution(self, run: str) -> Execution | None:
        """The execution of a run that is under way here."""
        found = self._runs.get(run)
        return None if found is None else found.execution

    @contextlib.contextmanager
    def reservation(self) -> Iterator[bool]:
        """Whether a new run may begin at once; its slot is kept free inside the block."""
        free = not self._waiting and self._under_way + self._reserved < self._limit
        self._reserved += free
        try:
            yield free
        finally:
            self._reserved -= free

    def accept(self, run: Run, begin: bool) -> None:
        """Take a new run, unless it is here already. begin: its row says `running` already."""
        if run.id in self._runs:
            return
        local = self._runs[run.id] = LocalRun(run)
        if begin:
            self._begin(local, recorded=True)
        else:
            self._waiting.append(local)
            self._begin_waiting()

    def resume(self, runs: Iterable[Run]) -> None:
        """Take up runs that an earlier or another process left open."""
        for run in runs:
            if run.id not in self._runs:
                log.info("event=resumed run=%s pipeline=%s", run.id, run.pipeline)
                self.accept(run, begin=False)

    async def cancel(self, run: str) -> None:
        """End a run that is here; returns once its end is recorded."""
        local = self._runs.get(run)
        if local is None:
            return
        if local.task is not None:
            if local.phase is RunPhase.RUNNING:
                local.enter(RunPhase.CANCELLING)
                local.task.cancel()
            await asyncio.wait([local.task])
            return
        if local.phase is RunPhase.WAITING:
            self._waiting.remove(local)
        self._end(local)
        await self._store.set_state(run, "cancelled")

    async def stop(self) -> None:
        """Cut every call under way. What is recorded stays; the next process goes on from there."""
        self._stopped = True
        tasks = [local.task for local in self._runs.values() if local.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin_waiting(self) -> None:
        while self._waiting and self._under_way < self._limit and not self._stopped:
            self._begin(self._waiting.popleft(), recorded=False)

    def _begin(self, local: LocalRun, recorded: bool) -> None:
        local.enter(RunPhase.RUNNING)
        local.task = asyncio.create_task(self._execute(local, recorded), name=f"run-{local.run.id}")
        self._count(1)

    def _count(self, change: int) -> None:
        self._under_way += change
        self._metrics.pipeline_active.set(self._under_way)

    def _end(self, local: LocalRun) -> None:
        local.enter(RunPhase.ENDED)
        del self._runs[local.run.id]

    async def _execute(self, local: LocalRun, recorded: bool) -> None:
        run = local.run
        try:
            await self._run_steps(local, recorded)
        except asyncio.CancelledError:
            if local.phase is not RunPhase.CANCELLING:
                raise
            await self._record_cancelled(local)
        except ServiceError as error:
            log.warning("event=run-failed run=%s error=%s", run.id, error)
            await self._store.set_state(run.id, "failed", str(error))
        except Exception:
            # A full disk or an unreachable database: the run stays open and is taken up again.
            log.exception("event=run-broken run=%s pipeline=%s", run.id, run.pipeline)
            local.enter(RunPhase.BACKING_OFF)
            asyncio.get_running_loop().call_later(self._retry_seconds, self._retry, local)
        finally:
            local.task = local.execution = None
            if local.phase in UNDER_WAY:
                self._end(local)
            self._count(-1)
            self._begin_waiting()

    def _retry(self, local: LocalRun) -> None:
        if not self._stopped and local.phase is RunPhase.BACKING_OFF:
            local.enter(RunPhase.WAITING)
            self._waiting.append(local)
            self._begin_waiting()

    async def _run_steps(self, local: LocalRun, recorded: bool) -> None:
        run = local.run
        pipeline = await self._definitions.pipeline(run.pipeline, run.version)

        def count_step(step: str, state: str, seconds: float) -> None:
            self._metrics.pipeline_steps.labels(run.pipeline, step, state).inc()
            self._metrics.pipeline_step_seconds.labels(run.pipeline, step).observe(seconds)

        execution = Execution(run, pipeline, self._store, self._caller, count_step)
        local.execution = execution
        if not recorded:
            await self._store.set_state(run.id, "running")
        state = await execution.execute()
        self._metrics.pipeline_runs.labels(run.pipeline, state).inc()
        log.info("event=run-ended run=%s pipeline=%s state=%s", run.id, run.pipeline, state)

    async def _record_cancelled(self, local: LocalRun) -> None:
        run = local.run
        if local.execution is not None:
            await local.execution.cancel()
        else:
            await self._store.set_state(run.id, "cancelled")
        self._metrics.pipeline_runs.labels(run.pipeline, "cancelled").inc()
        log.info("event=run-ended run=%s pipeline=%s state=cancelled", run.id, run.pipeline)
