from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, text

from service.database import Database
from service.schema import Migration, Schema


def make_tables(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE note (id INTEGER PRIMARY KEY, words TEXT NOT NULL)"))


SCHEMA = Schema(
    service="notes",
    table="notes_version",
    lock_key=0x7E57,
    migrations=(Migration("tables", make_tables),),
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url, SCHEMA)
    yield opened
    opened.close()
