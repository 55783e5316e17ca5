"""Numbered migrations and their runner: each runs once, in order, under a lock."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    insert,
    select,
    text,
)

from sluice.migrations import missing

# {serial} in a statement: an auto-incremented key.
SERIAL: Final = {
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "postgresql": "BIGSERIAL PRIMARY KEY",
}


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of a schema, in SQL that SQLite and PostgreSQL both accept.

    Frozen once released: later changes of the tables are new migrations.
    """

    name: str
    statements: tuple[str, ...]

    def apply(self, connection: Connection) -> None:
        """Execute every statement in the caller's transaction."""
        serial = SERIAL[connection.dialect.name]
        for statement in self.statements:
            connection.execute(text(statement.replace("{serial}", serial)))


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of one service. migrations: the first one creates version 1.

    table: the table of applied versions. lock_key: an advisory lock id, the same for all
    processes of the service on one PostgreSQL and different from those of other services.
    """

    service: str
    table: str
    lock_key: int
    migrations: tuple[Migration, ...]

    def migrate(self, connection: Connection) -> int:
        """Apply missing migrations in the caller's transaction; returns the version.

        The transaction holds a lock: BEGIN IMMEDIATE on SQLite, an advisory lock on PostgreSQL.
        Raises NewerSchemaError.
        """
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self.lock_key})
        versions = _versions(self.table)
        versions.create(connection, checkfirst=True)
        current: int = connection.scalar(select(func.max(versions.c.version))) or 0
        name = connection.engine.url.render_as_string(hide_password=True)
        for version, migration in missing(name, current, self.migrations):
            migration.apply(connection)
            note = {"version": version, "name": migration.name, "applied_at": _now()}
            connection.execute(insert(versions), note)
        return len(self.migrations)


def _versions(name: str) -> Table:
    return Table(
        name,
        MetaData(),
        Column("version", Integer, primary_key=True),
        Column("name", Text, nullable=False),
        Column("applied_at", Text, nullable=False),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
