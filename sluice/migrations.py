"""Numbered migrations of a database: which of them are missing, and their runner for SQLite files.

A database that a newer release has migrated is refused: going on could lose what that one keeps.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

M = TypeVar("M")


class NewerSchemaError(Exception):
    """A database was written by a newer release. name: its file or where it is, without secrets."""

    def __init__(self, name: str, version: int, known: int) -> None:
        super().__init__(
            f"{name} has schema {version}, this release knows up to {known}: it was written by a"
            " newer release; start that one, or restore a copy from before the upgrade"
        )


def missing(name: str, version: int, migrations: Sequence[M]) -> Iterator[tuple[int, M]]:
    """The migrations to apply to a database of schema `version`, each with its number, from 1.

    name: the database as an error names it. Raises NewerSchemaError.
    """
    if version > len(migrations):
        raise NewerSchemaError(name, version, len(migrations))
    return iter(list(enumerate(migrations, start=1))[version:])


def migrate_file(database: sqlite3.Connection, path: Path, scripts: Sequence[str]) -> None:
    """Apply the SQL scripts that are missing, each in a transaction of its own.

    PRAGMA user_version holds the number of the last one. Raises NewerSchemaError; the caller
    closes the connection.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    for number, script in missing(str(path), version, scripts):
        database.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
