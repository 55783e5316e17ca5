"""Numbered migrations and their runner: each runs once, in order, under a lock."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from registry.migrations import m0001_tables
from registry.names import timestamp

LOCK_KEY: Final = 0x51_C1CE  # any number: all registries on one PostgreSQL must use the same


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema. statements: DDL with the placeholder {serial} for a counted key."""

    version: int
    name: str
    statements: tuple[str, ...]


MIGRATIONS: Final = (Migration(1, "tables", m0001_tables.STATEMENTS),)
SERIAL: Final = {
    "sqlite": "INTEGER PRIMARY KEY AUTOINCREMENT",
    "postgresql": "BIGSERIAL PRIMARY KEY",
}


class SchemaTooNewError(Exception):
    """The database was written by a newer release; going on could lose what that one keeps."""


def migrate(connection: Connection) -> int:
    """Bring the schema up to date in the caller's transaction; returns its version.

    The transaction holds the lock: SQLite's by BEGIN IMMEDIATE, PostgreSQL's an advisory one.
    Raises SchemaTooNewError.
    """
    dialect = connection.dialect.name
    if dialect == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
    connection.execute(
        text(
            "CREATE TABLE IF NOT EXISTS schema_version "
            "(version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at TEXT NOT NULL)"
        )
    )
    current: int = connection.scalar(text("SELECT max(version) FROM schema_version")) or 0
    newest = MIGRATIONS[-1].version
    if current > newest:
        raise SchemaTooNewError(
            f"the database has schema {current}, this release knows up to {newest}"
        )
    for migration in MIGRATIONS:
        if migration.version > current:
            _apply(connection, migration, SERIAL[dialect])
    return newest


def _apply(connection: Connection, migration: Migration, serial: str) -> None:
    for statement in migration.statements:
        connection.execute(text(statement.replace("{serial}", serial)))
    connection.execute(
        text("INSERT INTO schema_version VALUES (:version, :name, :at)"),
        {"version": migration.version, "name": migration.name, "at": timestamp()},
    )
