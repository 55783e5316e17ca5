"""Logged predictions, bounded: the oldest go first."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, delete, func, insert, select

from registry.records import JsonObject, Prediction
from registry.tables import prediction


def add(connection: Connection, batch: Sequence[JsonObject]) -> int:
    """Append a batch; returns its length."""
    if batch:
        connection.execute(insert(prediction), list(batch))
    return len(batch)


def after(
    connection: Connection, where: Mapping[str, str | int], number: int, limit: int
) -> Sequence[Prediction]:
    """Predictions with an id above `number`, in order. where: model, version, function."""
    query = select(prediction).where(prediction.c.id > number)
    for name, value in where.items():
        query = query.where(prediction.c[name] == value)
    rows = connection.execute(query.order_by(prediction.c.id).limit(limit))
    return [Prediction(**row) for row in rows.mappings()]


def forget_old(connection: Connection, kept: int) -> int:
    """Drop all but the newest `kept`; returns how many went."""
    newest: int = connection.scalar(select(func.max(prediction.c.id))) or 0
    return connection.execute(delete(prediction).where(prediction.c.id <= newest - kept)).rowcount
