from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, NullPool, create_engine, text

from service.database import Database
from service.schema import Migration, Schema
from tests.postgres import server


def make_tables(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE note (id INTEGER PRIMARY KEY, words TEXT NOT NULL)"))


SCHEMA = Schema(
    service="notes",
    table="notes_version",
    lock_key=0x7E57,
    migrations=(Migration("tables", make_tables),),
)


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'notes.sqlite'}"
        return
    shared: str = request.getfixturevalue("postgresql")
    yield shared
    engine = create_engine(shared, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url, SCHEMA)
    yield opened
    opened.close()
