"""Runs: write-once params, metric series, named artifacts and the final status."""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, and_, func, insert, select, update

from registry.errors import ConflictError, InvalidRequestError, NotFoundError
from registry.names import timestamp
from registry.records import JsonObject, Metric, Run
from registry.store import artifacts, datasets, feature_sets
from registry.store.upsert import insert_missing
from registry.tables import metric, param, run, run_artifact

RUNNING: Final = "running"
METRICS_A_RUN: Final = 100_000  # points; an endless logging loop must not fill the disk


def create(connection: Connection, experiment: str, content: JsonObject) -> Run:
    """Start a run. content: params, tags, inputs {dataset, version, feature_set}.

    Raises InvalidRequestError for inputs that do not exist.
    """
    inputs = content["inputs"]
    if inputs.get("dataset") is not None and inputs.get("version") is not None:
        datasets.require(connection, inputs["dataset"], inputs["version"])
    if inputs.get("feature_set") is not None:
        feature_sets.require(connection, inputs["feature_set"])
    id_ = secrets.token_hex(12)
    connection.execute(
        insert(run).values(
            id=id_,
            experiment=experiment,
            status=RUNNING,
            tags=content["tags"],
            inputs=inputs,
            error="",
            created_at=timestamp(),
        )
    )
    add_params(connection, id_, content["params"])
    return get(connection, id_)


def add_params(connection: Connection, id_: str, params: Mapping[str, Any]) -> None:
    """Write params; repeating a value changes nothing. Raises ConflictError for another value."""
    _require(connection, id_)
    for name, value in params.items():
        if insert_missing(connection, param, run=id_, name=name, value=value):
            continue
        first = connection.execute(
            select(param.c.value).where(param.c.run == id_, param.c.name == name)
        ).scalar_one()
        if first != value:
            raise ConflictError(
                f"params.{name}: params are written once, it is {first!r}, got {value!r}",
                current=first,
            )


def add_metrics(connection: Connection, id_: str, points: Sequence[JsonObject]) -> int:
    """Append points {name, value, step, at}; returns how many. Raises NotFoundError."""
    _require(connection, id_)
    kept: int = connection.scalar(select(func.count()).where(metric.c.run == id_)) or 0
    if kept + len(points) > METRICS_A_RUN:
        raise InvalidRequestError(
            f"metrics: expected at most {METRICS_A_RUN} points a run, it has {kept}"
        )
    if points:
        connection.execute(insert(metric), [{**point, "run": id_} for point in points])
    return len(points)


def add_artifact(connection: Connection, id_: str, name: str, sha256: str) -> None:
    """Attach an artifact under a name. Raises ConflictError when the name has another artifact."""
    _require(connection, id_)
    artifacts.require(connection, "sha256", [sha256])
    if insert_missing(connection, run_artifact, run=id_, name=name, sha256=sha256):
        return
    first = connection.execute(
        select(run_artifact.c.sha256).where(run_artifact.c.run == id_, run_artifact.c.name == name)
    ).scalar_one()
    if first != sha256:
        raise ConflictError(f"artifact {name!r} of run {id_} is {first}", current=first)


def end(connection: Connection, id_: str, status: str, error: str) -> Run:
    """End a run; repeating the same status changes nothing.

    Raises NotFoundError, ConflictError when it ended with another status.
    """
    changed = connection.execute(
        update(run)
        .where(run.c.id == id_, run.c.status == RUNNING)
        .values(status=status, error=error, ended_at=timestamp())
    ).rowcount
    ended = get(connection, id_)
    if not changed and ended.status != status:
        raise ConflictError(f"run {id_} is {ended.status} already", current=ended.status)
    return ended


def get(connection: Connection, id_: str) -> Run:
    """One run. Raises NotFoundError."""
    row = connection.execute(select(run).where(run.c.id == id_)).first()
    if row is None:
        raise NotFoundError(f"no run {id_}")
    return _complete(connection, [row])[0]


def list_all(
    connection: Connection, where: Mapping[str, str], after: str | None, limit: int
) -> Sequence[Run]:
    """Runs older than `after`, newest first. where: filters by experiment and status."""
    query = select(run).order_by(run.c.seq.desc()).limit(limit)
    for name, value in where.items():
        query = query.where(run.c[name] == value)
    if after is not None:
        query = query.where(
            run.c.seq < select(run.c.seq).where(run.c.id == after).scalar_subquery()
        )
    return _complete(connection, connection.execute(query).all())


def metrics(
    connection: Connection, id_: str, name: str | None, after: int, limit: int
) -> Sequence[Metric]:
    """Metric points of a run with seq above `after`, in the order they were stored."""
    _require(connection, id_)
    query = (
        select(metric.c.seq, metric.c.name, metric.c.step, metric.c.value, metric.c.at)
        .where(metric.c.run == id_, metric.c.seq > after)
        .order_by(metric.c.seq)
        .limit(limit)
    )
    if name is not None:
        query = query.where(metric.c.name == name)
    return [Metric(**row) for row in connection.execute(query).mappings()]


def require(connection: Connection, id_: str) -> None:
    """Raises InvalidRequestError when the run does not exist; for records that refer to a run."""
    try:
        _require(connection, id_)
    except NotFoundError as error:
        raise InvalidRequestError(f"run: expected a known run, got {id_!r}") from error


def _require(connection: Connection, id_: str) -> None:
    if connection.scalar(select(run.c.seq).where(run.c.id == id_)) is None:
        raise NotFoundError(f"no run {id_}")


def _complete(connection: Connection, rows: Sequence[Any]) -> list[Run]:
    ids = [row.id for row in rows]
    params = _grouped(connection, select(param).where(param.c.run.in_(ids)))
    files = _grouped(connection, select(run_artifact).where(run_artifact.c.run.in_(ids)))
    newest = _newest_metrics(connection, ids)
    return [
        Run(
            id=row.id,
            experiment=row.experiment,
            status=row.status,
            params=params.get(row.id, {}),
            tags=row.tags,
            inputs=row.inputs,
            metrics=newest.get(row.id, {}),
            artifacts=files.get(row.id, {}),
            error=row.error,
            created_at=row.created_at,
            ended_at=row.ended_at,
        )
        for row in rows
    ]


def _newest_metrics(connection: Connection, ids: Iterable[str]) -> dict[str, dict[str, float]]:
    """The value of each metric at its highest step; of equal steps the last one stored."""
    last_step = (
        select(metric.c.run, metric.c.name, func.max(metric.c.step).label("step"))
        .where(metric.c.run.in_(ids))
        .group_by(metric.c.run, metric.c.name)
        .subquery()
    )
    same = and_(
        metric.c.run == last_step.c.run,
        metric.c.name == last_step.c.name,
        metric.c.step == last_step.c.step,
    )
    query = (
        select(metric.c.run, metric.c.name, metric.c.value)
        .join(last_step, same)
        .order_by(metric.c.seq)
    )
    return _grouped(connection, query)


def _grouped(connection: Connection, query: Any) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for owner, name, value in connection.execute(query):
        groups.setdefault(owner, {})[name] = value
    return groups
