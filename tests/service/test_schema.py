import dataclasses

import pytest
from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from service.database import Database
from service.schema import Migration, Schema
from sluice.migrations import NewerSchemaError
from tests.service.conftest import SCHEMA


def extended(migration: Migration) -> Schema:
    return dataclasses.replace(SCHEMA, migrations=(*SCHEMA.migrations, migration))


async def test_migrations_run_once_each_in_order(database_url: str) -> None:
    Database(database_url, SCHEMA).close()
    later = extended(Migration("author", ("ALTER TABLE note ADD COLUMN author TEXT",)))
    for _ in range(2):
        database = Database(database_url, later)
        assert database.version == 2
        noted = await database.read(
            lambda connection: connection.execute(
                text("SELECT version, name FROM notes_version ORDER BY version")
            ).all()
        )
        assert [tuple(row) for row in noted] == [(1, "tables"), (2, "author")]
        database.close()


async def test_migration_that_fails_leaves_nothing(database_url: str) -> None:
    Database(database_url, SCHEMA).close()
    broken = extended(Migration("broken", ("CREATE TABLE half (id INTEGER)", "DROP TABLE nowhere")))
    with pytest.raises(DBAPIError, match="nowhere"):
        Database(database_url, broken)
    database = Database(database_url, SCHEMA)
    tables = await database.read(lambda connection: inspect(connection).get_table_names())
    assert set(tables) == {"note", "notes_version"}
    database.close()


async def test_counted_key_is_counted_by_the_database(database_url: str) -> None:
    counted = extended(Migration("log", ("CREATE TABLE log (seq {serial}, line TEXT)",)))
    database = Database(database_url, counted)
    put = text("INSERT INTO log (line) VALUES ('x') RETURNING seq")
    assert [await database.write(lambda connection: connection.scalar(put)) for _ in "ab"] == [1, 2]
    database.close()


async def test_database_of_a_newer_release_is_refused(
    database_url: str, database: Database
) -> None:
    later = "INSERT INTO notes_version VALUES (99, 'later', 'x')"
    await database.write(lambda connection: connection.execute(text(later)).rowcount)
    with pytest.raises(NewerSchemaError, match="has schema 99, this release knows up to 1"):
        Database(database_url, SCHEMA)
