"""The stores on SQLite and, where a server can be started, on PostgreSQL: races included."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, NullPool, create_engine, inspect, text

from registry import models as tables
from registry.database import Database
from registry.errors import ConflictError
from registry.idempotency import Claim, Reply, forget_old, once
from registry.migrations import MIGRATIONS, SchemaTooNewError, migrate
from registry.store import aliases, artifacts, datasets, events, models, predictions, runs
from tests.postgres import server

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


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with server() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'registry.sqlite'}"
        return
    shared: str = request.getfixturevalue("postgres")
    yield shared
    engine = create_engine(shared, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url)
    yield opened
    opened.close()


@pytest.fixture
def writers(url: str, database: Database) -> Iterator[list[Database]]:
    """As many writers as may be: on PostgreSQL one for each of several processes."""
    more = [Database(url) for _ in range(3)] if database.shared else []
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


def at_once(writers: list[Database], works: list[Callable[[Connection], T]]) -> list[T | Exception]:
    """What each work gave or raised, all submitted at the same moment from threads."""
    start = threading.Barrier(len(works))

    def run(number: int) -> T | Exception:
        start.wait()
        try:
            return writers[number % len(writers)].submit(works[number]).result()
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, range(len(works))))


def test_migrated_schema_is_the_one_that_the_code_speaks_of(database: Database) -> None:
    def look(connection: Connection) -> None:
        found = inspect(connection)
        assert set(found.get_table_names()) == {*tables.metadata.tables, "schema_version"}
        for table in tables.metadata.sorted_tables:
            columns = {column["name"]: column for column in found.get_columns(table.name)}
            assert set(columns) == set(table.c.keys())
            key = found.get_pk_constraint(table.name)["constrained_columns"]
            assert key == [column.name for column in table.primary_key]
            for column in table.c:
                if not column.primary_key:
                    assert columns[column.name]["nullable"] == column.nullable, column
                same = columns[column.name]["type"]._type_affinity
                assert same is column.type._type_affinity, column

    database.submit(look).result()


def test_migration_runs_once_and_a_newer_schema_is_refused(url: str, database: Database) -> None:
    put = database.submit(lambda connection: put_versions(connection, 1))
    put.result()
    assert database.submit(migrate).result() == MIGRATIONS[-1].version
    later = "INSERT INTO schema_version VALUES (99, 'later', 'x')"
    database.submit(lambda connection: connection.execute(text(later)).rowcount).result()
    with pytest.raises(SchemaTooNewError, match="schema 99"):
        Database(url)


def test_failed_write_undoes_itself_and_not_its_neighbours(database: Database) -> None:
    gate = threading.Event()
    held = database.submit(lambda _: gate.wait(10))

    def broken(connection: Connection) -> None:
        artifacts.put(connection, "b" * 64, 1)
        raise ConflictError("as tested")

    before = database.submit(lambda connection: artifacts.put(connection, DIGEST, 1))
    failed = database.submit(broken)
    after = database.submit(lambda connection: artifacts.put(connection, "c" * 64, 1))
    gate.set()
    assert held.result()
    assert (before.result().sha256, after.result().sha256) == (DIGEST, "c" * 64)
    with pytest.raises(ConflictError, match="as tested"):
        failed.result()
    kept = database.submit(
        lambda connection: (
            connection.execute(text("SELECT sha256 FROM artifact ORDER BY 1")).scalars().all()
        )
    )
    assert kept.result() == [DIGEST, "c" * 64]


def test_closed_database_finishes_what_it_took_and_takes_no_more(url: str) -> None:
    opened = Database(url)
    taken = [opened.submit(partial(artifacts.put, sha256=f"{n:064x}", size=n)) for n in range(50)]
    opened.close()
    assert [future.result().size for future in taken] == list(range(50))
    with pytest.raises(RuntimeError, match="closed"):
        opened.submit(lambda _: None)


def test_compare_and_set_from_many_threads_has_one_winner(
    database: Database, writers: list[Database]
) -> None:
    database.submit(lambda connection: put_versions(connection, 13)).result()
    first = aliases.Move("m", "champion", 1)
    database.submit(lambda connection: aliases.move(connection, first)).result()
    works = [compare_and_set(version, 1) for version in range(2, 14)]
    outcomes = at_once(writers, works)
    assert outcomes.count(1) == 1
    assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 11
    history = database.submit(
        lambda connection: aliases.history(connection, "m", "champion", None, 100)
    ).result()
    assert len(history) == 2
    moved = database.submit(
        lambda connection: events.after(connection, 0, 100, events.ALIAS_MOVED)
    ).result()
    assert [event.data["version"] for event in moved] == [1, history[0].version]


def test_first_set_of_an_alias_from_many_threads_has_one_winner(
    database: Database, writers: list[Database]
) -> None:
    database.submit(lambda connection: put_versions(connection, 8)).result()
    works = [compare_and_set(version, None) for version in range(1, 9)]
    outcomes = at_once(writers, works)
    assert sum(outcome is None for outcome in outcomes) == 1


def test_versions_and_events_from_many_threads_are_numbered_without_gap(
    database: Database, writers: list[Database]
) -> None:
    database.submit(lambda connection: artifacts.put(connection, DIGEST, 1)).result()
    outcomes = at_once(
        writers, [lambda connection: models.register(connection, "m", VERSION, "admin")] * 12
    )
    assert sorted(getattr(outcome, "version", 0) for outcome in outcomes) == list(range(1, 13))
    told = database.submit(lambda connection: events.after(connection, 0, 100)).result()
    assert [event.id for event in told] == list(range(1, 13))


def test_same_content_from_many_threads_is_one_version(
    database: Database, writers: list[Database]
) -> None:
    outcomes = at_once(
        writers, [lambda connection: datasets.add(connection, "d", CONTENT, "admin")] * 8
    )
    made = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert [version.version for version, _ in made] == [1] * 8
    assert sum(fresh for _, fresh in made) == 1


def test_key_from_many_threads_does_the_work_once(
    database: Database, writers: list[Database]
) -> None:
    claim = Claim("POST /runs", "key", "digest")

    def work(connection: Connection) -> Reply:
        content: dict[str, Any] = {"params": {}, "tags": {}, "inputs": {}}
        return Reply(201, {"id": runs.create(connection, "e", content).id})

    outcomes = at_once(writers, [lambda connection: once(connection, claim, work)] * 8)
    assert len({str(outcome) for outcome in outcomes}) == 1
    listed = database.submit(lambda connection: runs.every(connection, {}, None, 10)).result()
    assert len(listed) == 1
    other = Claim("POST /runs", "key", "another digest")
    with pytest.raises(ConflictError, match="used for another request"):
        database.submit(lambda connection: once(connection, other, work)).result()


def test_old_keys_events_and_predictions_are_forgotten(database: Database) -> None:
    claim = Claim("POST /x", "key", "digest")
    row = {"model": "m", "version": 1, "function": "f", "at": "x", "inputs": None, "output": 1}

    def fill(connection: Connection) -> None:
        once(connection, claim, lambda _: Reply(200, {}))
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

    database.submit(fill).result()
    assert database.submit(tidy).result() == (0, 1, 3, 4)
    left = database.submit(lambda connection: events.after(connection, 0, 10)).result()
    assert [event.id for event in left] == [4, 5]


async def test_reads_do_not_wait_for_a_writer_and_see_what_is_committed(
    database: Database,
) -> None:
    await database.write(lambda connection: put_versions(connection, 1))
    gate = threading.Event()

    def slow(connection: Connection) -> bool:
        models.register(connection, "m", VERSION, "admin")
        return gate.wait(10)

    pending = database.submit(slow)
    seen = await database.read(lambda connection: models.newest(connection, "m"))
    gate.set()
    assert seen == 1
    assert pending.result()
    assert await database.read(lambda connection: models.newest(connection, "m")) == 2
