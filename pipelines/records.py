"""Runs and results as the store keeps them. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

RunState = Literal["waiting", "running", "succeeded", "failed", "cancelled"]
StepState = Literal["succeeded", "failed", "skipped", "cancelled"]
OPEN: Final[frozenset[str]] = frozenset({"waiting", "running"})
WHOLE: Final = -1


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a pipeline. version: of its definitions; input: checked, with defaults."""

    id: str
    pipeline: str
    version: str
    input: Mapping[str, Any]
    cause: str
    created_at: float
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a step, or of one item of its map. output: JSON text, or None."""

    step: str
    item: int
    state: StepState
    input: str | None
    output: str | None
    error: str | None
    status: int
    attempts: int
    started_at: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Start:
    """A request for a run. key: repeated for the same pipeline, it gives the same run."""

    pipeline: str
    input: Any
    cause: str
    key: str | None = None
