"""The stores on SQLite and, where a server can be started, on PostgreSQL: races included."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection

from registry import tables
from registry.app import open_database
from registry.errors import ConflictError
from registry.idempotency import Claim, Reply, forget_old, idempotent
from registry.migrations import SCHEMA
from registry.store import aliases, artifacts, datasets, events, models, predictions, runs
from service.database import Database
from tests.databases import check_tables

T = TypeVar("T")
DIGEST = "a" * 64
CONTENT: dict[str, Any] = {
    "sha256": DIGEST,
    "rows": 1,
    "bytes": 1,
    "format": "csv",
    "reading": {"delimiter": ",", "header": True},
    "columns": [],
    "rejects": {"count": 0, "rows": []},
    "notes": [],
    "files": {},
}
VERSION: dict[str, Any] = {
    "run": None,
    "artifact": DIGEST,
    "signature": {},
    "metrics": {},
    "parity": {},
    "dataset": None,
    "dataset_version": None,
    "feature_set": None,
    "framework": {},
    "tags": {},
}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = open_database(database_url)
    yield opened
    opened.close()


@pytest.fixture
def writers(database_url: str, database: Database) -> Iterator[list[Database]]:
    """As many writers as may be: on PostgreSQL one for each of several processes."""
    more = [open_database(database_url) for _ in range(3)] if database.shared else []
    yield [database, *more]
    for one in more:
        one.close()


def put_versions(connection: Connection, count: int) -> None:
    artifacts.put(connection, DIGEST, 1)
    for _ in range(count):
        models.register(connection, "m", VERSION, "admin")


def compare_and_set(version: int, expected: int | None) -> Callable[[Connection], int | None]:
    asked = aliases.Move("m", "champion", version, compare=True, expected=expected)
    return lambda connection: aliases.move(connection, asked)


async def at_once(
    writers: list[Database], works: list[Callable[[Connection], T]]
) -> list[T | BaseException]:
    """What each work gave or raised, all waiting for the writers at the same moment."""
    outcomes = await asyncio.gather(
        *(writers[number % len(writers)].write(work) for number, work in enumerate(works)),
        return_exceptions=True,
    )
    unexpected = [
        one
        for one in outcomes
        if isinstance(one, BaseException) and not isinstance(one, ConflictError)
    ]
    assert not unexpected
    return outcomes


async def test_migrated_schema_is_the_one_that_the_code_speaks_of(database: Database) -> None:
    await database.write(lambda connection: check_tables(connection, tables.metadata, SCHEMA))


async def test_compare_and_set_at_once_has_one_winner(
    database: Database, writers: list[Database]
) -> None:
    await database.write(lambda connection: put_versions(connection, 13))
    first = aliases.Move("m", "champion", 1)
    await database.write(lambda connection: aliases.move(connection, first))
    works = [compare_and_set(version, 1) for version in range(2, 14)]
    outcomes = await at_once(writers, works)
    assert outcomes.count(1) == 1
    assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 11
    history = await database.write(
        lambda connection: aliases.history(connection, "m", "champion", None, 100)
    )
    assert len(history) == 2
    moved = await database.write(
        lambda connection: events.after(connection, 0, 100, events.ALIAS_MOVED)
    )
    assert [event.data["version"] for event in moved] == [1, history[0].version]


async def test_first_set_of_an_alias_at_once_has_one_winner(
    database: Database, writers: list[Database]
) -> None:
    await database.write(lambda connection: put_versions(connection, 8))
    works = [compare_and_set(version, None) for version in range(1, 9)]
    outcomes = await at_once(writers, works)
    assert sum(outcome is None for outcome in outcomes) == 1


async def test_versions_and_events_at_once_are_numbered_without_gap(
    database: Database, writers: list[Database]
) -> None:
    await database.write(lambda connection: artifacts.put(connection, DIGEST, 1))
    outcomes = await at_once(
        writers, [lambda connection: models.register(connection, "m", VERSION, "admin")] * 12
    )
    assert sorted(getattr(outcome, "version", 0) for outcome in outcomes) == list(range(1, 13))
    told = await database.write(lambda connection: events.after(connection, 0, 100))
    assert [event.id for event in told] == list(range(1, 13))


async def test_same_content_at_once_is_one_version(
    database: Database, writers: list[Database]
) -> None:
    outcomes = await at_once(
        writers, [lambda connection: datasets.add(connection, "d", CONTENT, "admin")] * 8
    )
    made = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert [version.version for version, _ in made] == [1] * 8
    assert sum(fresh for _, fresh in made) == 1


async def test_key_at_once_does_the_work_once(database: Database, writers: list[Database]) -> None:
    claim = Claim("POST /runs", "key", "digest")

    def work(connection: Connection) -> Reply:
        content: dict[str, Any] = {"params": {}, "tags": {}, "inputs": {}}
        return Reply(201, {"id": runs.create(connection, "e", content).id})

    outcomes = await at_once(writers, [lambda connection: idempotent(connection, claim, work)] * 8)
    assert len({str(outcome) for outcome in outcomes}) == 1
    listed = await database.write(lambda connection: runs.list_all(connection, {}, None, 10))
    assert len(listed) == 1
    other = Claim("POST /runs", "key", "another digest")
    with pytest.raises(ConflictError, match="used for another request"):
        await database.write(lambda connection: idempotent(connection, other, work))


async def test_old_keys_events_and_predictions_are_forgotten(database: Database) -> None:
    claim = Claim("POST /x", "key", "digest")
    row = {"model": "m", "version": 1, "function": "f", "at": "x", "inputs": None, "output": 1}

    def fill(connection: Connection) -> None:
        idempotent(connection, claim, lambda _: Reply(200, {}))
        for _ in range(5):
            events.append(connection, "model.registered", {})
        predictions.add(connection, [{**row, "latency": None, "request_id": None}] * 5)

    def tidy(connection: Connection) -> tuple[int, ...]:
        return (
            forget_old(connection, 60.0),
            forget_old(connection, -60.0),
            events.forget_old(connection, 2),
            predictions.forget_old(connection, 1),
        )

    await database.write(fill)
    assert await database.write(tidy) == (0, 1, 3, 4)
    left = await database.write(lambda connection: events.after(connection, 0, 10))
    assert [event.id for event in left] == [4, 5]
