"""One run: starts each step when what it needs is done, records results, ends the run."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from pipelines.calling import Failure, StepCaller, Unit
from pipelines.definition import Pipeline, Step
from pipelines.evaluation import ExpressionError, shown
from pipelines.records import WHOLE, Result, Run, RunState, StepState
from pipelines.store import RunStore

MOST_ITEMS: Final = 10_000
log = logging.getLogger(__name__)


class Execution:
    """A run under way. revision: grows with each change that a reader of the API can see.

    on_step: called with the name, state and seconds of each step that ended.
    """

    def __init__(
        self,
        run: Run,
        pipeline: Pipeline,
        store: RunStore,
        caller: StepCaller,
        on_step: Callable[[str, str, float], None],
    ) -> None:
        self.run, self.pipeline = run, pipeline
        self._store, self._caller, self._on_step = store, caller, on_step
        self._results: dict[tuple[str, int], Result] = {}
        self._outputs: dict[str, Any] = {}
        self._states: dict[str, StepState] = {}
        self._fault: str | None = None
        self.running: dict[str, float] = {}
        self.revision = 0
        self._changed = asyncio.Event()

    async def execute(self) -> RunState:
        """Run the steps without a recorded result and record the end. Cancelling cuts calls."""
        try:
            await self._restore()
            await self._run_steps()
        except asyncio.CancelledError:
            self._changed.set()
            raise
        state: RunState = "succeeded" if self._fault is None else "failed"
        await self._store.set_state(self.run.id, state, self._fault)
        self._change()
        return state

    async def cancel(self) -> None:
        """Record that the run was cancelled, and which steps were under way; after `execute`."""
        for step, started in self.running.items():
            await self._store.record(
                self.run.id,
                _result(step, WHOLE, "cancelled", started, error="the run was cancelled"),
            )
        self.running.clear()
        await self._store.set_state(self.run.id, "cancelled")
        self._change()

    async def changed(self) -> None:
        """Return at the next change."""
        await self._changed.wait()

    def _change(self) -> None:
        self.revision += 1
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    async def _restore(self) -> None:
        for result in await self._store.results(self.run.id):
            self._results[result.step, result.item] = result
        for name in self.pipeline.steps:
            whole = self._results.get((name, WHOLE))
            if whole is not None:
                self._apply(whole)

    async def _run_steps(self) -> None:
        waiting = [step for name, step in self.pipeline.steps.items() if name not in self._states]
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                ready = [step for step in waiting if step.needs <= self._states.keys()]
                if self._fault is not None:
                    ready = []
                if len(ready) == 1 and not tasks:
                    # A chain needs no task: 1.3x on bench/suites/pipelines.py.
                    waiting.remove(ready[0])
                    await self._run_step(ready[0])
                    continue
                for step in ready:
                    waiting.remove(step)
                    tasks.add(asyncio.create_task(self._run_step(step)))
                if not tasks:
                    return
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _run_step(self, step: Step) -> None:
        started = time.time()
        self.running[step.name] = started
        self._change()
        try:
            result = await self._outcome(step, started)
        except ExpressionError as error:
            result = _result(step.name, WHOLE, "failed", started, error=str(error))
        await self._store.record(self.run.id, result)
        self.running.pop(step.name, None)
        self._results[step.name, WHOLE] = result
        self._apply(result)
        self._on_step(step.name, result.state, result.seconds)
        self._change()

    async def _outcome(self, step: Step, started: float) -> Result:
        skipped = sorted(name for name in step.needs if self._states[name] == "skipped")
        if skipped:
            return _result(
                step.name, WHOLE, "skipped", started, error=f"needs {skipped[0]}, which was skipped"
            )
        scope = self._scope()
        if step.when is not None and not step.when.is_true(scope):
            return _result(
                step.name, WHOLE, "skipped", started, error=f"when {step.when.source} is false"
            )
        if step.map is None:
            return await self._call(step, scope, WHOLE)
        return await self._map(step, scope, started)

    def _scope(self) -> dict[str, Any]:
        steps = {
            name: {"state": state, "output": self._outputs.get(name)}
            for name, state in self._states.items()
        }
        about = {"id": self.run.id, "pipeline": self.run.pipeline, "trigger": self.run.cause}
        return {"input": self.run.input, "steps": steps, "run": about}

    async def _call(self, step: Step, scope: Mapping[str, Any], item: int) -> Result:
        started = time.time()
        value, query = step.input.render(scope), step.query.render(scope)
        try:
            body = json.dumps(value, allow_nan=False)
        except ValueError as error:
            raise ExpressionError(f"input: {error}") from None
        unit = Unit(step, f"{self.run.id}/{step.name}/{max(item, 0)}", self.run, query)
        response = await self._caller.call(unit, body.encode())
        seconds = time.time() - started
        if isinstance(response, Failure):
            return Result(
                step.name, item, "failed", body, None, response.error, response.status,
                response.attempts, started, seconds,
            )  # fmt: skip
        return Result(
            step.name, item, "succeeded", body, response.output, None, response.status,
            response.attempts, started, seconds,
        )  # fmt: skip

    async def _map(self, step: Step, scope: dict[str, Any], started: float) -> Result:
        assert step.map is not None  # noqa: S101 - the caller asked
        items = step.map.items.evaluate(scope)
        if not isinstance(items, list) or len(items) > MOST_ITEMS:
            raise ExpressionError(
                f"map: expected a list of at most {MOST_ITEMS} values, got {shown(items)}"
            )
        left = iter([at for at in range(len(items)) if (step.name, at) not in self._results])

        async def work() -> None:
            for at in left:
                if any(self._results[key].state == "failed" for key in self._failed_items(step)):
                    return
                await self._item(step, {**scope, "item": items[at], "index": at}, at)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(step.map.max_parallel, len(items))):
                group.create_task(work())
        failed = self._failed_items(step)
        if failed:
            first = self._results[failed[0]]
            reason = f"item {first.item}: {first.error}"
            return _result(step.name, WHOLE, "failed", started, error=reason, status=first.status)
        return _result(step.name, WHOLE, "succeeded", started)

    def _failed_items(self, step: Step) -> list[tuple[str, int]]:
        return sorted(
            key
            for key, result in self._results.items()
            if key[0] == step.name and key[1] != WHOLE and result.state == "failed"
        )

    async def _item(self, step: Step, scope: Mapping[str, Any], at: int) -> None:
        started = time.time()
        try:
            result = await self._call(step, scope, at)
        except ExpressionError as error:
            result = _result(step.name, at, "failed", started, error=str(error))
        await self._store.record(self.run.id, result)
        self._results[step.name, at] = result
        self._change()

    def _apply(self, result: Result) -> None:
        step = self.pipeline.steps[result.step]
        self._states[step.name] = result.state
        if result.state in {"failed", "cancelled"}:
            self._fault = self._fault or f"step {step.name}: {result.error}"
        elif step.map is not None and result.state == "succeeded":
            own = [r for key, r in sorted(self._results.items()) if key[0] == step.name]
            self._outputs[step.name] = [_output(r) for r in own if r.item != WHOLE]
        elif result.output is not None:
            self._outputs[step.name] = _output(result)


def _output(result: Result) -> Any:
    return None if result.output is None else json.loads(result.output)


def _result(
    step: str,
    item: int,
    state: StepState,
    started: float,
    *,
    error: str | None = None,
    status: int = 0,
) -> Result:
    """A result for which no call was made."""
    return Result(step, item, state, None, None, error, status, 0, started, time.time() - started)
