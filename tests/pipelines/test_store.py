"""Runs on SQLite and on PostgreSQL, by one suite; two owners are two processes."""

import asyncio
from collections.abc import Iterator

import pytest

from pipelines.errors import ConflictError
from pipelines.records import Result, Start
from pipelines.store import RunStore
from service.database import Database
from triggers.migrations import SCHEMA

LEASE = 10.0


@pytest.fixture
def databases(database_url: str) -> Iterator[tuple[Database, Database]]:
    both = Database(database_url, SCHEMA), Database(database_url, SCHEMA)
    yield both
    for one in both:
        one.close()


def result(step: str, output: str = "1") -> Result:
    return Result(step, -1, "succeeded", "{}", output, None, 200, 1, 1.0, 0.5)


async def test_run_is_held_by_its_owner_until_the_lease_runs_out(
    databases: tuple[Database, Database],
) -> None:
    one, two = (RunStore(db, name, LEASE) for db, name in zip(databases, "ab", strict=True))
    run, new = await one.create(Start("p", {}, "http"), "v", {"n": 1}, True, 9)
    assert new
    until = run.created_at + LEASE
    assert await two.take(until - 1, until + LEASE, mine=True) == []
    assert await one.renew(until + LEASE) == []
    assert await two.take(until + 1, until + LEASE, mine=False) == []
    assert await two.take(until + LEASE + 1, until + 3 * LEASE, mine=False) == [run]
    assert await one.renew(until + 9 * LEASE) == []
    assert await two.ask_cancel(run.id)
    assert await two.renew(until + 3 * LEASE) == [run.id]


async def test_first_result_of_a_step_stays(databases: tuple[Database, Database]) -> None:
    one, two = (RunStore(db, name, LEASE) for db, name in zip(databases, "ab", strict=True))
    run, _ = await one.create(Start("p", {}, "http"), "v", {}, True, 9)
    await one.record(run.id, result("s", "1"))
    await two.record(run.id, result("s", "2"))
    assert await two.results(run.id) == [result("s", "1")]


async def test_state_sets_start_and_end_once(databases: tuple[Database, Database]) -> None:
    store = RunStore(databases[0], "a", LEASE)
    run, _ = await store.create(Start("p", {}, "http"), "v", {}, False, 9)
    assert (await store.row(run.id))["started_at"] is None
    await store.set_state(run.id, "running")
    started = (await store.row(run.id))["started_at"]
    await store.set_state(run.id, "failed", "because")
    row = await store.row(run.id)
    assert (row["state"], row["error"], row["started_at"]) == ("failed", "because", started)
    assert row["ended_at"] >= started
    assert not await store.ask_cancel(run.id)


async def test_key_is_one_run_in_both_processes(databases: tuple[Database, Database]) -> None:
    stores = [RunStore(db, name, LEASE) for db, name in zip(databases, "ab", strict=True)]
    start = Start("p", {}, "topic t", "t/0/1")
    made = await asyncio.gather(
        *(store.create(start, "v", {"n": 1}, True, 9) for store in stores for _ in range(10))
    )
    assert len({run.id for run, _ in made}) == 1
    assert sum(new for _, new in made) == 1
    with pytest.raises(ConflictError):
        await stores[0].create(start, "v", {"n": 2}, True, 9)


async def test_copy_begins_with_the_results_that_are_kept(
    databases: tuple[Database, Database],
) -> None:
    store = RunStore(databases[0], "a", LEASE)
    run, _ = await store.create(Start("p", {}, "http"), "v", {"n": 1}, True, 9)
    for step in "abc":
        await store.record(run.id, result(step))
    copy = await store.copy(run.id, Start("p", {"n": 1}, "rerun"), {"a", "b"}, True)
    assert copy.parent == run.id
    assert {one.step for one in await store.results(copy.id)} == {"a", "b"}


async def test_definitions_that_nothing_goes_by_are_forgotten(
    databases: tuple[Database, Database],
) -> None:
    store = RunStore(databases[0], "a", LEASE)
    versions = [await store.put_definitions(f"pipelines: {{}} # {at}") for at in range(3)]
    assert await store.put_definitions("pipelines: {} # 0") == versions[0]
    await store.create(Start("p", {}, "http"), versions[1], {}, True, 9)
    await store.forget_old(10)
    assert await store.definitions() == (versions[0], "pipelines: {} # 0")
    assert await store.definitions(versions[1]) is not None
    assert await store.definitions(versions[2]) is None
