from collections.abc import Iterator

import pytest

from service.database import Database
from service.schema import Migration, Schema
from tests.service.fixtures import client, gateway

__all__ = ["client", "gateway"]

SCHEMA = Schema(
    service="notes",
    table="notes_version",
    lock_key=0x7E57,
    migrations=(
        Migration("tables", ("CREATE TABLE note (id INTEGER PRIMARY KEY, words TEXT NOT NULL)",)),
    ),
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url, SCHEMA)
    yield opened
    opened.close()
