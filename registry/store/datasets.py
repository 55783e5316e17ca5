"""Datasets and their versions: numbered from 1, one per content and parsing options."""

from collections.abc import Sequence

from sqlalchemy import Connection, func, insert, select

from registry.errors import InvalidRequestError, NotFoundError
from registry.names import LATEST, timestamp
from registry.records import Dataset, DatasetVersion, JsonObject
from registry.store import events
from registry.store.upsert import insert_missing, lock_named
from registry.tables import dataset, dataset_version


def add(
    connection: Connection, name: str, content: JsonObject, created_by: str
) -> tuple[DatasetVersion, bool]:
    """The version with this `content`, and whether it is new.

    content: the fields of DatasetVersion that come from reading the upload. A new version
    appends an event.
    """
    insert_missing(connection, dataset, name=name, created_at=timestamp())
    lock_named(connection, dataset, name)
    known = same_content(connection, name, content["sha256"], content["format"], content["reading"])
    if known is not None:
        return known, False
    version = (_newest(connection, name) or 0) + 1
    values = {
        **content,
        "name": name,
        "version": version,
        "created_at": timestamp(),
        "created_by": created_by,
    }
    connection.execute(insert(dataset_version).values(**values))
    payload = {key: values[key] for key in ("name", "version", "sha256", "rows")}
    events.append(connection, events.DATASET_UPLOADED, payload)
    return DatasetVersion(**values), True


def same_content(
    connection: Connection, name: str, sha256: str, form: str | None, reading: JsonObject
) -> DatasetVersion | None:
    """The version made from the same bytes with the same parsing options, if any.

    form None and keys missing from `reading` match any value.
    """
    query = select(dataset_version).where(
        dataset_version.c.name == name, dataset_version.c.sha256 == sha256
    )
    for row in connection.execute(query.order_by(dataset_version.c.version)).mappings():
        same_form = form in (None, row["format"])
        if same_form and all(row["reading"].get(key) == value for key, value in reading.items()):
            return DatasetVersion(**row)
    return None


def get(connection: Connection, name: str, version: str) -> DatasetVersion:
    """A version by number or `latest`. Raises NotFoundError."""
    query = select(dataset_version).where(dataset_version.c.name == name)
    if version == LATEST:
        query = query.order_by(dataset_version.c.version.desc()).limit(1)
    elif version.isdecimal() and len(version) < 10:
        query = query.where(dataset_version.c.version == int(version))
    else:
        raise NotFoundError(f"version: expected a number or {LATEST}, got {version!r}")
    row = connection.execute(query).mappings().first()
    if row is None:
        raise NotFoundError(f"no dataset {name} version {version}")
    return DatasetVersion(**row)


def require(connection: Connection, name: str, version: int) -> None:
    """Raises InvalidRequestError when the version does not exist."""
    if not connection.execute(
        select(dataset_version.c.version).where(
            dataset_version.c.name == name, dataset_version.c.version == version
        )
    ).first():
        raise InvalidRequestError(f"dataset: expected an uploaded version, got {name} {version}")


def versions(connection: Connection, name: str, after: int, limit: int) -> Sequence[DatasetVersion]:
    """Versions above `after`, ascending. Raises NotFoundError when the dataset does not exist."""
    if _newest(connection, name) is None:
        raise NotFoundError(f"no dataset {name}")
    query = (
        select(dataset_version)
        .where(dataset_version.c.name == name, dataset_version.c.version > after)
        .order_by(dataset_version.c.version)
        .limit(limit)
    )
    return [DatasetVersion(**row) for row in connection.execute(query).mappings()]


def list_all(connection: Connection, after: str, limit: int) -> Sequence[Dataset]:
    """Datasets with names after `after`, by name, each with its newest version."""
    newest = (
        select(dataset_version.c.name, func.max(dataset_version.c.version).label("version"))
        .where(dataset_version.c.name > after)
        .group_by(dataset_version.c.name)
        .order_by(dataset_version.c.name)
        .limit(limit)
        .subquery()
    )
    query = (
        select(
            dataset_version.c.name,
            dataset_version.c.version.label("latest"),
            dataset_version.c.rows,
            dataset_version.c.bytes,
            dataset_version.c.created_at,
        )
        .join(
            newest,
            (newest.c.name == dataset_version.c.name)
            & (newest.c.version == dataset_version.c.version),
        )
        .order_by(dataset_version.c.name)
    )
    return [Dataset(**row) for row in connection.execute(query).mappings()]


def _newest(connection: Connection, name: str) -> int | None:
    newest: int | None = connection.scalar(
        select(func.max(dataset_version.c.version)).where(dataset_version.c.name == name)
    )
    return newest
