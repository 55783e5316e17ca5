"""Models and their versions, numbered from 1; `latest` is the highest version."""

from collections.abc import Sequence

from sqlalchemy import Connection, func, insert, select

from registry.errors import InvalidRequestError, NotFoundError
from registry.names import LATEST, timestamp
from registry.records import JsonObject, Model, ModelVersion
from registry.store import artifacts, datasets, events, feature_sets, runs
from registry.store.upsert import insert_missing, lock_named
from registry.tables import alias, model, model_version


def register(
    connection: Connection, name: str, content: JsonObject, created_by: str
) -> ModelVersion:
    """Add the next version of a model and its event.

    content: the fields of ModelVersion supplied by the caller. Raises InvalidRequestError for a
    run, artifact, dataset version or feature set that does not exist.
    """
    _check_links(connection, content)
    insert_missing(connection, model, name=name, created_at=timestamp())
    lock_named(connection, model, name)
    version = (newest(connection, name) or 0) + 1
    values = {
        **content,
        "name": name,
        "version": version,
        "created_at": timestamp(),
        "created_by": created_by,
    }
    connection.execute(insert(model_version).values(**values))
    payload = {key: values[key] for key in ("name", "version", "run", "artifact")}
    events.append(connection, events.MODEL_REGISTERED, payload)
    return ModelVersion(**values)


def get(connection: Connection, name: str, version: str) -> ModelVersion:
    """A version by number or `latest`. Raises NotFoundError."""
    query = select(model_version).where(model_version.c.name == name)
    if version == LATEST:
        query = query.order_by(model_version.c.version.desc()).limit(1)
    elif version.isdecimal() and len(version) < 10:
        query = query.where(model_version.c.version == int(version))
    else:
        raise NotFoundError(f"version: expected a number or {LATEST}, got {version!r}")
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(f"no model {name} version {version}")
    return ModelVersion(**row)


def versions(connection: Connection, name: str, after: int, limit: int) -> Sequence[ModelVersion]:
    """Versions above `after`, ascending. Raises NotFoundError."""
    describe(connection, name)
    query = (
        select(model_version)
        .where(model_version.c.name == name, model_version.c.version > after)
        .order_by(model_version.c.version)
        .limit(limit)
    )
    return [ModelVersion(**row) for row in connection.execute(query).mappings()]


def describe(connection: Connection, name: str) -> Model:
    """A model with its aliases. Raises NotFoundError."""
    row = connection.execute(select(model).where(model.c.name == name)).first()
    if row is None:
        raise NotFoundError(f"no model {name}")
    return _complete(connection, [(row.name, row.created_at)])[0]


def list_all(connection: Connection, after: str, limit: int) -> Sequence[Model]:
    """Models with names after `after`, by name."""
    query = select(model).where(model.c.name > after).order_by(model.c.name).limit(limit)
    return _complete(connection, [(row.name, row.created_at) for row in connection.execute(query)])


def newest(connection: Connection, name: str) -> int | None:
    """The highest version of a model, None when it has none."""
    version: int | None = connection.scalar(
        select(func.max(model_version.c.version)).where(model_version.c.name == name)
    )
    return version


def _complete(connection: Connection, rows: Sequence[tuple[str, str]]) -> list[Model]:
    names = [name for name, _ in rows]
    aliases: dict[str, dict[str, int]] = {}
    for owner, name, version in connection.execute(
        select(alias.c.model, alias.c.alias, alias.c.version)
        .where(alias.c.model.in_(names))
        .order_by(alias.c.alias)
    ):
        aliases.setdefault(owner, {})[name] = version
    highest = select(model_version.c.name, func.max(model_version.c.version)).where(
        model_version.c.name.in_(names)
    )
    latest = {row[0]: row[1] for row in connection.execute(highest.group_by(model_version.c.name))}
    return [Model(name, latest[name], aliases.get(name, {}), at) for name, at in rows]


def _check_links(connection: Connection, content: JsonObject) -> None:
    artifacts.require(connection, "artifact", [content["artifact"]])
    if content["run"] is not None:
        runs.require(connection, content["run"])
    if content["feature_set"] is not None:
        feature_sets.require(connection, content["feature_set"])
    if (content["dataset"] is None) != (content["dataset_version"] is None):
        raise InvalidRequestError("dataset, dataset_version: expected both or none")
    if content["dataset"] is not None:
        datasets.require(connection, content["dataset"], content["dataset_version"])
