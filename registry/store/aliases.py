"""Aliases: names for model versions, moved by compare-and-set, with a history of moves."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select, update

from registry.errors import ConflictError, InvalidRequestError, NotFoundError
from registry.names import timestamp
from registry.records import Alias, AliasMove
from registry.store import events
from registry.store.upsert import lock_named
from registry.tables import alias, alias_move, model, model_version


@dataclass(frozen=True, slots=True)
class Move:
    """A requested alias move. version: None removes the alias.

    compare: whether to check `expected`; expected None then requires that the alias does not exist.
    """

    model: str
    alias: str
    version: int | None
    compare: bool = False
    expected: int | None = None
    reason: str = ""
    moved_by: str = ""


def move(connection: Connection, asked: Move) -> int | None:
    """Move or remove an alias, add history and event; returns the previous version.

    A move to the current version changes nothing. Raises NotFoundError, ConflictError with
    `current` in its details, InvalidRequestError for a version that does not exist.
    """
    if not lock_named(connection, model, asked.model):
        raise NotFoundError(f"no model {asked.model}")
    current = _current(connection, asked)
    if asked.compare and asked.expected != current:
        raise ConflictError(
            f"alias {asked.alias} of {asked.model}: expected {asked.expected}, it is {current}",
            current=current,
        )
    if asked.version is None and current is None:
        raise NotFoundError(f"no alias {asked.alias} of model {asked.model}")
    if asked.version is not None:
        _require_version(connection, asked.model, asked.version)
    if asked.version != current:
        _write(connection, asked, current)
    return current


def get(connection: Connection, model_name: str, name: str) -> Alias:
    """One alias of a model. Raises NotFoundError."""
    row = (
        connection.execute(select(alias).where(alias.c.model == model_name, alias.c.alias == name))
        .mappings()
        .first()
    )
    if row is None:
        raise NotFoundError(f"no alias {name} of model {model_name}")
    return Alias(**row)


def list_all(connection: Connection, model_name: str, after: str, limit: int) -> Sequence[Alias]:
    """A model's aliases with names after `after`, by name. Raises NotFoundError."""
    if not connection.execute(select(model.c.name).where(model.c.name == model_name)).first():
        raise NotFoundError(f"no model {model_name}")
    query = select(alias).where(alias.c.model == model_name, alias.c.alias > after)
    rows = connection.execute(query.order_by(alias.c.alias).limit(limit))
    return [Alias(**row) for row in rows.mappings()]


def history(
    connection: Connection, model_name: str, name: str, before: int | None, limit: int
) -> Sequence[AliasMove]:
    """Moves of an alias with ids below `before`, newest first. Raises NotFoundError."""
    query = select(alias_move).where(alias_move.c.model == model_name, alias_move.c.alias == name)
    if not connection.execute(query.limit(1)).first():
        raise NotFoundError(f"no alias {name} of model {model_name} was ever set")
    if before is not None:
        query = query.where(alias_move.c.id < before)
    rows = connection.execute(query.order_by(alias_move.c.id.desc()).limit(limit))
    return [AliasMove(**row) for row in rows.mappings()]


def _current(connection: Connection, asked: Move) -> int | None:
    version: int | None = connection.scalar(
        select(alias.c.version).where(alias.c.model == asked.model, alias.c.alias == asked.alias)
    )
    return version


def _require_version(connection: Connection, name: str, version: int) -> None:
    if not connection.execute(
        select(model_version.c.version).where(
            model_version.c.name == name, model_version.c.version == version
        )
    ).first():
        raise InvalidRequestError(f"version: expected a version of {name}, got {version}")


def _write(connection: Connection, asked: Move, current: int | None) -> None:
    moved_at = timestamp()
    number = connection.execute(
        insert(alias_move)
        .values(
            model=asked.model,
            alias=asked.alias,
            version=asked.version,
            previous=current,
            reason=asked.reason,
            moved_at=moved_at,
            moved_by=asked.moved_by,
        )
        .returning(alias_move.c.id)
    ).scalar_one()
    _point(connection, asked, current is not None, {"moved_at": moved_at, "move": number})
    payload = {
        "model": asked.model,
        "alias": asked.alias,
        "version": asked.version,
        "previous": current,
        "reason": asked.reason,
    }
    kind = events.ALIAS_REMOVED if asked.version is None else events.ALIAS_MOVED
    events.append(connection, kind, payload)


def _point(connection: Connection, asked: Move, exists: bool, values: dict[str, object]) -> None:
    same = (alias.c.model == asked.model) & (alias.c.alias == asked.alias)
    if asked.version is None:
        connection.execute(delete(alias).where(same))
    elif exists:
        connection.execute(update(alias).where(same).values(version=asked.version, **values))
    else:
        connection.execute(
            insert(alias).values(
                model=asked.model, alias=asked.alias, version=asked.version, **values
            )
        )
