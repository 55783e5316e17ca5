"""Routes for runs and feature sets."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from registry.api.bodies import claim_of, read_json, validate
from registry.api.service import AfterNumber, IdPath, Limit, Registry, body_of, page
from registry.api.wire import (
    FeatureSetIn,
    MetricIn,
    MetricsIn,
    ParamsIn,
    RunArtifactIn,
    RunEndIn,
    RunIn,
)
from registry.errors import InvalidRequestError
from registry.idempotency import Reply
from registry.names import NAME_PATTERN, timestamp
from registry.records import JsonObject
from registry.store import feature_sets, runs

router = APIRouter()
AfterId = Annotated[str | None, Query(pattern=r"^[0-9a-f]{1,64}$")]
NameQuery = Annotated[str | None, Query(pattern=NAME_PATTERN)]


@router.post("/feature-sets")
async def create_feature_set(request: Request, registry: Registry) -> Response:
    """201 with the new feature set."""
    raw = await read_json(request, registry.settings.json_bytes)
    content = validate(raw, FeatureSetIn).model_dump()
    return await registry.change(
        claim_of(request, raw),
        lambda connection: Reply(201, body_of(feature_sets.create(connection, content))),
    )


@router.get("/feature-sets")
async def list_feature_sets(
    registry: Registry, dataset: NameQuery = None, limit: Limit = 100, after: AfterId = None
) -> dict[str, Any]:
    """A page of feature sets, newest first."""
    found = await registry.read(
        lambda connection: feature_sets.list_all(connection, dataset, after, limit)
    )
    return page("feature_sets", [body_of(one) for one in found], limit, "id")


@router.get("/feature-sets/{id_}")
async def feature_set(registry: Registry, id_: IdPath) -> dict[str, Any]:
    """One feature set."""
    return body_of(await registry.read(lambda connection: feature_sets.get(connection, id_)))


@router.post("/runs")
async def create_run(request: Request, registry: Registry) -> Response:
    """201 with the new run, whose status is `running`."""
    raw = await read_json(request, registry.settings.json_bytes)
    asked = validate(raw, RunIn)
    content = asked.model_dump(exclude={"experiment"})
    return await registry.change(
        claim_of(request, raw),
        lambda connection: Reply(201, body_of(runs.create(connection, asked.experiment, content))),
    )


@router.get("/runs")
async def list_runs(
    registry: Registry,
    experiment: NameQuery = None,
    status: Literal["running", "finished", "failed"] | None = None,
    limit: Limit = 100,
    after: AfterId = None,
) -> dict[str, Any]:
    """A page of runs, newest first."""
    wanted = {"experiment": experiment, "status": status}
    where = {name: value for name, value in wanted.items() if value is not None}
    found = await registry.read(lambda connection: runs.list_all(connection, where, after, limit))
    return page("runs", [body_of(one) for one in found], limit, "id")


@router.get("/runs/{id_}")
async def run(registry: Registry, id_: IdPath) -> dict[str, Any]:
    """One run with the newest value of each metric."""
    return body_of(await registry.read(lambda connection: runs.get(connection, id_)))


@router.patch("/runs/{id_}")
async def end_run(request: Request, registry: Registry, id_: IdPath) -> Response:
    """End the run as finished or failed; 200 with the run. A run ends once."""
    raw = await read_json(request, registry.settings.json_bytes)
    asked = validate(raw, RunEndIn)
    return await registry.change(
        claim_of(request, raw),
        lambda connection: Reply(
            200, body_of(runs.end(connection, id_, asked.status, asked.error or ""))
        ),
    )


@router.post("/runs/{id_}/params")
async def add_params(request: Request, registry: Registry, id_: IdPath) -> Response:
    """Add parameters; 200 with the run. A parameter is written once."""
    raw = await read_json(request, registry.settings.json_bytes)
    params = validate({"params": raw}, ParamsIn).params

    def work(connection: Connection) -> Reply:
        runs.add_params(connection, id_, params)
        return Reply(200, body_of(runs.get(connection, id_)))

    return await registry.change(claim_of(request, raw), work)


@router.post("/runs/{id_}/metrics")
async def add_metrics(request: Request, registry: Registry, id_: IdPath) -> Response:
    """Append metric values; the response holds how many were accepted."""
    raw = await read_json(request, registry.settings.json_bytes)
    points = [_point(one) for one in validate({"metrics": _listed(raw)}, MetricsIn).metrics]
    return await registry.change(
        claim_of(request, raw),
        lambda connection: Reply(
            200, {"run": id_, "accepted": runs.add_metrics(connection, id_, points)}
        ),
    )


@router.get("/runs/{id_}/metrics")
async def metrics(
    registry: Registry,
    id_: IdPath,
    name: str | None = None,
    limit: Limit = 1000,
    after: AfterNumber = 0,
) -> dict[str, Any]:
    """A page of metric values in the order they were stored."""
    found = await registry.read(
        lambda connection: runs.metrics(connection, id_, name, after, limit)
    )
    return page("metrics", [body_of(one) for one in found], limit, "seq")


@router.post("/runs/{id_}/artifacts")
async def add_artifact(request: Request, registry: Registry, id_: IdPath) -> Response:
    """Attach an artifact to the run by name; 201."""
    raw = await read_json(request, registry.settings.json_bytes)
    asked = validate(raw, RunArtifactIn)

    def work(connection: Connection) -> Reply:
        runs.add_artifact(connection, id_, asked.name, asked.sha256)
        return Reply(201, {"run": id_, **asked.model_dump()})

    return await registry.change(claim_of(request, raw), work)


def _listed(raw: Any) -> list[Any]:
    """A metrics body as a list; {name: value} becomes one point per name."""
    if isinstance(raw, list):
        return raw
    if isinstance(raw, dict):
        return [{"name": name, "value": value} for name, value in raw.items()]
    raise InvalidRequestError(
        f"body: expected {{name: value}} or a list of points, got {type(raw).__name__}"
    )


def _point(point: MetricIn) -> JsonObject:
    return {
        "name": point.name,
        "value": float(point.value),
        "step": point.step,
        "at": timestamp(point.at),
    }
