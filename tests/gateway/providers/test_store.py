import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.providers.embedded.records import FunctionRecord, Generation
from gateway.providers.embedded.store import Store
from gateway.types.function import FunctionDeployment, Resources
from gateway.types.ids import DEFAULT_NAMESPACE, FunctionId
from sluice.migrations import NewerSchemaError

DEPLOYMENT = FunctionDeployment(
    FunctionId("one"),
    "image:1",
    env_process="cat",
    env_vars={"A": "ä"},
    constraints=("x",),
    secrets=("s", "t"),
    labels={"l": "1"},
    annotations={"topic": "a,b"},
    limits=Resources("128Mi", "100m"),
    requests=Resources(),
    read_only_root_filesystem=True,
)
CREATED = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)


def record(number: int = 1, replicas: int = 1) -> FunctionRecord:
    return FunctionRecord(
        DEPLOYMENT.id, replicas, CREATED, Generation(number, DEPLOYMENT, f"digest-{number}")
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "functions.sqlite")
    await store.open()
    yield store
    await store.close()


async def test_record_comes_back_as_it_was(store: Store) -> None:
    await store.put_function(record(replicas=3))
    assert await store.functions() == [record(replicas=3)]


async def test_serving_generation_is_kept_beside_the_target(store: Store) -> None:
    await store.put_function(record(1))
    await store.set_serving(DEPLOYMENT.id, 1)
    await store.put_function(record(2))
    await store.put_function(record(3))
    (kept,) = await store.functions()
    assert (kept.target, kept.serving) == (record(3).target, record(1).target)


async def test_late_word_of_a_replaced_generation_is_ignored(store: Store) -> None:
    await store.put_function(record(1))
    await store.put_function(record(2))
    await store.set_serving(DEPLOYMENT.id, 1)
    assert await store.functions() == [record(2)]


async def test_created_at_stays_that_of_the_first_deployment(store: Store) -> None:
    await store.put_function(record(1))
    await store.put_function(replace(record(2), created_at=datetime.now(UTC)))
    assert (await store.functions())[0].created_at == CREATED


async def test_counts_and_removal_are_kept(store: Store, tmp_path: Path) -> None:
    await store.put_function(record())
    await store.set_replicas(DEPLOYMENT.id, 7)
    assert (await store.functions())[0].replicas == 7
    await store.delete_function(DEPLOYMENT.id)
    assert await store.functions() == []
    with sqlite3.connect(tmp_path / "functions.sqlite") as database:
        assert database.execute("SELECT count(*) FROM generations").fetchone() == (0,)
    database.close()


async def test_default_namespace_is_there_from_the_start(store: Store) -> None:
    assert [each.name for each in await store.namespaces()] == [DEFAULT_NAMESPACE]


async def test_file_is_durable_at_each_commit(store: Store, tmp_path: Path) -> None:
    await store.put_function(record())
    database = sqlite3.connect(tmp_path / "functions.sqlite")
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


async def test_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "functions.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    store = Store(tmp_path / "functions.sqlite")
    with pytest.raises(NewerSchemaError, match=r"functions\.sqlite has schema 99.*newer release"):
        await store.open()
    await store.close()
