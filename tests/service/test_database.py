"""One writer, many readers, on SQLite and where a server can be started on PostgreSQL."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, select

from service.database import Database
from tests.service.conftest import SCHEMA

NOTE = Table("note", MetaData(), Column("id", Integer, primary_key=True), Column("words", Text))


def put(number: int, words: str = "") -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        connection.execute(insert(NOTE).values(id=number, words=words))
        return number

    return work


def ids(connection: Connection) -> list[int]:
    return list(connection.scalars(select(NOTE.c.id).order_by(NOTE.c.id)))


async def test_write_is_seen_by_a_second_process_when_it_is_answered(
    database_url: str, database: Database
) -> None:
    other = Database(database_url, SCHEMA)
    assert await database.write(put(1)) == 1
    assert await other.read(ids) == [1]
    other.close()


async def test_failed_write_undoes_itself_and_not_its_neighbours(database: Database) -> None:
    def fail(connection: Connection) -> None:
        put(2)(connection)
        raise LookupError("as tested")

    gate = threading.Event()
    held = asyncio.ensure_future(database.write(lambda _: gate.wait(10)))
    group = asyncio.gather(
        database.write(put(1)), database.write(fail), database.write(put(3)), return_exceptions=True
    )
    await asyncio.sleep(0)  # all four are handed over
    gate.set()
    outcomes = await group
    assert await held
    assert [outcomes[0], outcomes[2]] == [1, 3]
    assert isinstance(outcomes[1], LookupError)
    assert await database.read(ids) == [1, 3]


async def test_writes_that_wait_together_share_a_commit(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'notes.sqlite'}", SCHEMA)
    gate = threading.Event()
    held = asyncio.ensure_future(database.write(lambda _: gate.wait(10)))
    group = asyncio.gather(*(database.write(Connection.get_transaction) for _ in range(20)))
    await asyncio.sleep(0)
    gate.set()
    assert await held
    assert len(set(await group)) == 1
    database.close()


async def test_rows_are_appended_beside_works_of_their_group(database: Database) -> None:
    statement = database.insert_missing(NOTE)
    rows = [database.append(statement, {"id": number, "words": "x"}) for number in range(5)]
    twice = database.append(statement, {"id": 0, "words": "again"})
    await asyncio.gather(*rows, twice, database.write(put(9)))
    assert await database.read(ids) == [0, 1, 2, 3, 4, 9]
    kept = await database.read(
        lambda connection: connection.scalar(select(NOTE.c.words).where(NOTE.c.id == 0))
    )
    assert kept == "x"


async def test_write_that_nobody_waits_for_any_more_is_made(database: Database) -> None:
    gate = threading.Event()
    held = asyncio.ensure_future(database.write(lambda _: gate.wait(10)))
    left = asyncio.ensure_future(database.write(put(1)))
    await asyncio.sleep(0)
    left.cancel()
    gate.set()
    assert await held
    await database.write(put(2))
    assert await database.read(ids) == [1, 2]
    assert left.cancelled()


async def test_reads_do_not_wait_for_a_writer_and_see_what_is_committed(
    database: Database,
) -> None:
    await database.write(put(1))
    gate = threading.Event()

    def slow(connection: Connection) -> bool:
        put(2)(connection)
        return gate.wait(10)

    pending = asyncio.ensure_future(database.write(slow))
    await asyncio.sleep(0)
    seen = await database.read(ids)
    gate.set()
    assert seen == [1]
    assert await pending
    assert await database.read(ids) == [1, 2]


async def test_closed_database_finishes_what_it_took_and_takes_no_more(database_url: str) -> None:
    opened = Database(database_url, SCHEMA)
    taken = [asyncio.ensure_future(opened.write(put(number))) for number in range(50)]
    await asyncio.sleep(0)
    await asyncio.to_thread(opened.close)
    assert [await one for one in taken] == list(range(50))
    with pytest.raises(RuntimeError, match="closed"):
        await opened.write(put(99))


async def test_database_that_fails_tells_every_caller_of_the_group(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    database = Database(f"sqlite:///{path}", SCHEMA)
    breaker = sqlite3.connect(path)
    breaker.execute("DROP TABLE note")
    breaker.commit()
    breaker.close()
    statement = database.insert_missing(NOTE)
    outcomes = await asyncio.gather(
        *(database.append(statement, {"id": number, "words": ""}) for number in range(3)),
        return_exceptions=True,
    )
    assert ["no such table: note" in str(one) for one in outcomes] == [True] * 3
    assert await database.write(lambda _: "still there") == "still there"
    database.close()
