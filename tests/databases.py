"""An empty database for a test, on SQLite and where a server can be started on PostgreSQL."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, MetaData, NullPool, create_engine, inspect, text

from service.schema import Schema
from tests.postgres import server


@pytest.fixture(scope="module")
def postgresql_url() -> Iterator[str]:
    """A server that the tests of one module share."""
    with server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The test runs once with each kind; SQLAlchemy's URL of it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'database.sqlite'}"
        return
    shared: str = request.getfixturevalue("postgresql_url")
    yield shared
    engine = create_engine(shared, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))


def check_tables(connection: Connection, metadata: MetaData, schema: Schema) -> None:
    """Fail unless the migrated tables are those that the code speaks of."""
    found = inspect(connection)
    assert set(found.get_table_names()) == {*metadata.tables, schema.table}
    for table in metadata.sorted_tables:
        columns = {column["name"]: column for column in found.get_columns(table.name)}
        assert set(columns) == set(table.c.keys())
        key = found.get_pk_constraint(table.name)["constrained_columns"]
        assert key == [column.name for column in table.primary_key]
        assert {index["name"] for index in found.get_indexes(table.name)} >= {
            index.name for index in table.indexes
        }
        for column in table.c:
            if not column.primary_key:
                assert columns[column.name]["nullable"] == column.nullable, column
            same = columns[column.name]["type"]._type_affinity
            assert same is column.type._type_affinity, column


@contextmanager
def without_table(path: Path, table: str) -> Iterator[None]:
    """A database that fails whoever asks for `table`, as a broken one does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"ALTER TABLE {table} RENAME TO away")
        try:
            yield
        finally:
            connection.execute(f"ALTER TABLE away RENAME TO {table}")
