"""Pipelines: their definitions and their runs."""

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sluice.client.connection import Connection, Request, segment
from sluice.client.errors import WaitTimeoutError
from sluice.client.records import read, value_of

ENDED: Final = frozenset({"succeeded", "failed", "cancelled"})
LONGEST_WAIT: Final = 30.0  # what one request may wait for a change
MARGIN: Final = 15.0


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A definition. inputs, triggers and steps: as docs/pipelines.md describes them."""

    name: str
    description: str
    version: str
    inputs: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]
    triggers: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StepRun:
    """A step of a run. state: waiting, running, succeeded, failed, skipped or `not run`.

    status: of its last call. items: one for each value that a `map` goes over.
    """

    name: str
    function: str
    state: str
    output: Any = None
    error: str | None = None
    status: int | None = None
    attempts: int = 0
    seconds: float | None = None
    items: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """A run. state: queued, running, succeeded, failed or cancelled; steps: empty in lists.

    revision: another one after each change.
    """

    id: str
    pipeline: str
    state: str
    trigger: str
    input: Any
    error: str | None
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    seconds: float | None = None
    revision: str = ""
    steps: tuple[StepRun, ...] = ()

    @property
    def ended(self) -> bool:
        """Whether nothing of it goes on."""
        return self.state in ENDED

    def step(self, name: str) -> StepRun:
        """One step. Raises KeyError."""
        for one in self.steps:
            if one.name == name:
                return one
        raise KeyError(name)


class Pipelines:
    """`client.pipelines`. A run is named by its id."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def apply(self, source: Path | str) -> tuple[Pipeline, ...]:
        """Replace the definitions of all pipelines by those of a YAML file; all there are then."""
        path = Path(source)
        query = {"file": path.name}
        request = Request("PUT", "/triggers/pipelines", query, path.read_bytes())
        return _pipelines(self._connection.json(request, dict))

    def list(self) -> tuple[Pipeline, ...]:
        """Every pipeline."""
        return _pipelines(self._connection.json(Request("GET", "/triggers/pipelines"), dict))

    def get(self, name: str) -> Pipeline:
        """One pipeline. Raises NotFoundError."""
        path = f"/triggers/pipelines/{segment(name)}"
        return read(Pipeline, self._connection.json(Request("GET", path), dict))

    def run(self, name: str, input: Any = None, key: str = "") -> str:  # noqa: A002 (its word)
        """Start a run; its id, once the run is on disk.

        key: the same key gives the first run's id; without one each call of this starts a run.
        """
        request = Request(
            "POST",
            f"/triggers/pipelines/{segment(name)}/runs",
            document={} if input is None else input,
            key=key or uuid.uuid4().hex,
        )
        return str(value_of(self._connection.json(request, dict), "run"))

    def runs(self, name: str = "", state: str = "", limit: int = 100) -> tuple[PipelineRun, ...]:
        """Runs, newest first, without their steps."""
        query: Mapping[str, str | int | None] = {"name": name, "state": state, "limit": limit}
        found = self._connection.json(Request("GET", "/triggers/runs", query), dict)
        return tuple(read(PipelineRun, one) for one in value_of(found, "runs"))

    def show(self, run: str) -> PipelineRun:
        """A run with its steps as it is now. Raises NotFoundError."""
        return self._show(run, {})

    def wait(self, run: str, timeout: float | None = None) -> PipelineRun:
        """The run once it has ended, whatever came of it. Raises WaitTimeoutError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        found = self.show(run)
        while not found.ended:
            seconds = LONGEST_WAIT
            if deadline is not None:
                seconds = min(seconds, deadline - time.monotonic())
                if seconds <= 0:
                    raise WaitTimeoutError(f"run {run} is {found.state} after {timeout:g} s")
            found = self._show(run, {"wait": f"{seconds:.3f}", "revision": found.revision})
        return found

    def cancel(self, run: str) -> PipelineRun:
        """End a run; what it has recorded stays."""
        path = f"/triggers/runs/{segment(run)}/cancel"
        return _run(self._connection.json(Request("POST", path, idempotent=True), dict))

    def rerun(self, run: str, step: str = "") -> str:
        """The id of a new run that keeps the results of this one up to a step.

        step: the first to run again; without it what did not succeed is.
        """
        path = f"/triggers/runs/{segment(run)}/rerun"
        request = Request("POST", path, {"from": step}, key=uuid.uuid4().hex)
        return str(value_of(self._connection.json(request, dict), "run"))

    def _show(self, run: str, query: Mapping[str, str]) -> PipelineRun:
        path = f"/triggers/runs/{segment(run)}"
        timeout = LONGEST_WAIT + MARGIN if query else None
        return _run(self._connection.json(Request("GET", path, query, timeout=timeout), dict))


def _pipelines(document: Any) -> tuple[Pipeline, ...]:
    return tuple(read(Pipeline, one) for one in value_of(document, "pipelines"))


def _run(document: Any) -> PipelineRun:
    steps = tuple(read(StepRun, one) for one in value_of(document, "steps"))
    return read(PipelineRun, document, steps=steps)
