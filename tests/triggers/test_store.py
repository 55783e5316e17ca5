"""Claims on SQLite and on PostgreSQL, by one suite; two owners are two processes."""

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import MetaData

from pipelines import tables as pipeline_tables
from service.database import Database
from tests.databases import check_tables
from triggers import tables as cron_tables
from triggers.cron.store import Claim, FireStore, Outcome
from triggers.migrations import SCHEMA


@pytest.fixture
def databases(database_url: str) -> Iterator[tuple[Database, Database]]:
    both = Database(database_url, SCHEMA), Database(database_url, SCHEMA)
    yield both
    for one in both:
        one.close()


async def test_migrated_schema_is_the_one_that_the_code_speaks_of(database_url: str) -> None:
    database = Database(database_url, SCHEMA)
    metadata = MetaData()
    for tables in (cron_tables, pipeline_tables):
        for table in tables.METADATA.sorted_tables:
            table.to_metadata(metadata)
    await database.write(lambda connection: check_tables(connection, metadata, SCHEMA))
    database.close()


async def test_fire_time_is_claimed_by_one_of_two_processes(
    databases: tuple[Database, Database],
) -> None:
    stores = [FireStore(one, name) for one, name in zip(databases, "ab", strict=True)]
    for store in stores:
        assert await store.follow(["s"], 100.0) == {"s": 100.0}
    claims = [Claim("s", 100 + at, "f") for at in range(1, 31)]
    won = await asyncio.gather(*(store.claim(claim, 500.0) for claim in claims for store in stores))
    assert sum(won) == 30
    assert await stores[1].follow(["s"], 200.0) == {"s": 130.0}
    assert await stores[0].follow([], 200.0) == {}


async def test_claim_without_result_is_taken_over_when_its_time_is_up(
    databases: tuple[Database, Database],
) -> None:
    one, two = (FireStore(db, name) for db, name in zip(databases, "ab", strict=True))
    done, left = Claim("s", 1, "f"), Claim("s", 2, "f")
    assert await one.claim(done, 50.0)
    assert await one.claim(left, 50.0)
    await one.finish(done, Outcome("succeeded", 1.0, 0.1, 200, ""))
    assert await two.take_over(40.0, 99.0, mine=True) == []
    assert await two.take_over(60.0, 99.0, mine=False) == [left]
    assert await one.take_over(60.0, 99.0, mine=True) == []
