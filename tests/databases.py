"""An empty database for a test, on SQLite and where a server can be started on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import NullPool, create_engine, text

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
