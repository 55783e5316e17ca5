"""Feature sets: results of preprocessing a dataset version."""

import secrets
from collections.abc import Sequence

from sqlalchemy import Connection, insert, select

from registry.errors import InvalidRequestError, NotFoundError
from registry.names import timestamp
from registry.records import FeatureSet, JsonObject
from registry.store import artifacts, datasets
from registry.tables import feature_set

FIELDS = [column for column in feature_set.c if column.name != "seq"]


def create(connection: Connection, content: JsonObject) -> FeatureSet:
    """Add a feature set. Raises InvalidRequestError for an unknown dataset version or artifact."""
    datasets.require(connection, content["dataset"], content["version"])
    for name, sha256 in content["artifacts"].items():
        artifacts.require(connection, f"artifacts.{name}", [sha256])
    created = FeatureSet(id=secrets.token_hex(12), created_at=timestamp(), **content)
    connection.execute(
        insert(feature_set).values(id=created.id, created_at=created.created_at, **content)
    )
    return created


def get(connection: Connection, id_: str) -> FeatureSet:
    """One feature set. Raises NotFoundError."""
    row = connection.execute(select(*FIELDS).where(feature_set.c.id == id_)).mappings().first()
    if row is None:
        raise NotFoundError(f"no feature set {id_}")
    return FeatureSet(**row)


def require(connection: Connection, id_: str) -> None:
    """Raises InvalidRequestError when the feature set does not exist."""
    known = connection.scalar(select(feature_set.c.seq).where(feature_set.c.id == id_))
    if known is None:
        raise InvalidRequestError(f"feature_set: expected a known one, got {id_!r}")


def list_all(
    connection: Connection, dataset: str | None, after: str | None, limit: int
) -> Sequence[FeatureSet]:
    """Feature sets older than `after`, newest first, of one dataset or of all."""
    query = select(*FIELDS).order_by(feature_set.c.seq.desc()).limit(limit)
    if dataset is not None:
        query = query.where(feature_set.c.dataset == dataset)
    if after is not None:
        seq = select(feature_set.c.seq).where(feature_set.c.id == after).scalar_subquery()
        query = query.where(feature_set.c.seq < seq)
    return [FeatureSet(**row) for row in connection.execute(query).mappings()]
