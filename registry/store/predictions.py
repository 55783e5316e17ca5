"""Logged predictions, limited in number: the oldest are deleted first."""

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
    """Predictions with ids above `number`, ascending. where: model, version, function."""
    query = select(prediction).where(prediction.c.id > number)
    for name, value in where.items():
        query = query.where(prediction.c[name] == value)
    rows = connection.execute(query.order_by(prediction.c.id).limit(limit))
    return [Prediction(**row) for row in rows.mappings()]


def forget_old(connection: Connection, kept: int) -> int:
    """Delete all but the newest `kept` predictions; returns how many."""
    newest: int = connection.scalar(select(func.max(prediction.c.id))) or 0
    return connection.execute(delete(prediction).where(prediction.c.id <= newest - kept)).rowcount
