"""Events: written in the transaction of the change they report, read in id order."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select, update

from registry.names import timestamp
from registry.records import JsonObject, RegistryEvent
from registry.tables import counter, event

ALIAS_MOVED: Final = "alias.moved"
ALIAS_REMOVED: Final = "alias.removed"
MODEL_REGISTERED: Final = "model.registered"
DATASET_UPLOADED: Final = "dataset.uploaded"
KINDS: Final = (ALIAS_MOVED, ALIAS_REMOVED, MODEL_REGISTERED, DATASET_UPLOADED)


def append(connection: Connection, kind: str, data: JsonObject) -> int:
    """Write an event; returns its id.

    The counter's row stays locked until the commit, so ids become visible in order. With a
    PostgreSQL sequence, a reader of "after N" could skip an event that commits late.
    """
    number: int = connection.execute(
        update(counter)
        .where(counter.c.name == "event")
        .values(value=counter.c.value + 1)
        .returning(counter.c.value)
    ).scalar_one()
    connection.execute(insert(event).values(id=number, kind=kind, data=data, at=timestamp()))
    return number


def after(
    connection: Connection, number: int, limit: int, kind: str | None = None
) -> Sequence[RegistryEvent]:
    """Events with ids above `number`, oldest first."""
    query = select(event).where(event.c.id > number).order_by(event.c.id).limit(limit)
    if kind is not None:
        query = query.where(event.c.kind == kind)
    return [RegistryEvent(**row) for row in connection.execute(query).mappings()]


def last(connection: Connection) -> int:
    """The id of the newest event, 0 when there is none."""
    number: int = connection.scalar(select(counter.c.value).where(counter.c.name == "event")) or 0
    return number


def forget_old(connection: Connection, kept: int) -> int:
    """Delete all but the newest `kept` events; returns how many."""
    newest: int = connection.scalar(select(func.max(event.c.id))) or 0
    return connection.execute(delete(event).where(event.c.id <= newest - kept)).rowcount
