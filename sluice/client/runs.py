"""Training runs of the registry: parameters, metrics, artifacts, how they ended."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sluice.client.connection import Connection, Request, segment
from sluice.client.paging import pages
from sluice.client.records import read


@dataclass(frozen=True, slots=True)
class Run:
    """A training run. status: running, finished or failed. metrics: the newest value of each.

    artifacts: sha256 by name.
    """

    id: str
    experiment: str
    status: str
    params: Mapping[str, Any]
    tags: Mapping[str, str]
    inputs: Mapping[str, Any]
    metrics: Mapping[str, float]
    artifacts: Mapping[str, str]
    error: str
    created_at: str
    ended_at: str | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One point of a run's metric."""

    name: str
    step: int
    value: float
    at: str


class Runs:
    """`client.runs`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def start(
        self,
        experiment: str,
        *,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> Run:
        """A new run. inputs: `dataset`, `version` and `feature_set` that it reads."""
        document = {
            "experiment": experiment,
            "params": dict(params or {}),
            "tags": dict(tags or {}),
            "inputs": dict(inputs or {}),
        }
        return read(Run, self._post("/registry/runs", document))

    def log(self, run: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Append one point to each metric."""
        points = [{"name": name, "value": value, "step": step} for name, value in metrics.items()]
        self._post(f"/registry/runs/{segment(run)}/metrics", points)

    def finish(self, run: str, error: str = "") -> Run:
        """End a run: as finished, or with `error` as failed. A run ends once."""
        document = {"status": "failed", "error": error} if error else {"status": "finished"}
        path = f"/registry/runs/{segment(run)}"
        request = Request("PATCH", path, document=document, key=uuid.uuid4().hex)
        return read(Run, self._connection.json(request, dict))

    def get(self, run: str) -> Run:
        """One run. Raises NotFoundError."""
        return read(
            Run, self._connection.json(Request("GET", f"/registry/runs/{segment(run)}"), dict)
        )

    def list(self, experiment: str = "", status: str = "", limit: int = 100) -> tuple[Run, ...]:
        """Runs, newest first."""
        query = {"experiment": experiment, "status": status}
        found = pages(self._connection, "/registry/runs", "runs", query, limit)
        return tuple(read(Run, one) for one in found)

    def metrics(self, run: str, name: str = "") -> tuple[Metric, ...]:
        """Every point of a run, or those of one metric, in the order they were logged."""
        path = f"/registry/runs/{segment(run)}/metrics"
        found = pages(self._connection, path, "metrics", {"name": name})
        return tuple(read(Metric, one) for one in found)

    def _post(self, path: str, document: Any) -> Any:
        request = Request("POST", path, document=document, key=uuid.uuid4().hex)
        return self._connection.json(request, dict)
