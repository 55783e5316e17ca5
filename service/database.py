"""The database: one writer thread, a few readers; a write is reported only after its commit.

SQLite runs in WAL mode with synchronous=FULL. Queued writes share one transaction and so one
fsync; each has its own savepoint, so a failed write rolls back only itself. Rows appended by
one statement are sent as one batch. The event loop is woken once per commit.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, Executable, Insert, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from service.schema import Schema

T = TypeVar("T")
Work = Callable[[Connection], T]
Row = Mapping[str, Any]

READERS: Final = 4
GROUP: Final = 512  # writes that may share one commit
RETRIES: Final = 5  # of a PostgreSQL transaction after a conflict with another process
LOST: Final = {"40001", "40P01"}  # serialization failure, deadlock
PRAGMAS: Final = (
    "busy_timeout = 10000",
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
)
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """A queued write: `work`, or `statement` with its row."""

    future: asyncio.Future[Any]
    work: Work[Any] | None
    statement: Executable | None = None
    row: Row | None = None


class Database:
    """Reads and writes of one database, from one event loop. url: a SQLAlchemy URL.

    shared_group: writes that may share one commit when other processes write too; 1 when they
    contend for the same rows, because two groups could deadlock.
    """

    def __init__(self, url: str, schema: Schema, shared_group: int = GROUP) -> None:
        self._sqlite = make_url(url).get_backend_name() == "sqlite"
        self._group = GROUP if self._sqlite else shared_group
        self._writing = _engine(url, "BEGIN IMMEDIATE", 1)
        self._reading = _engine(url, "BEGIN", READERS)
        self._readers = ThreadPoolExecutor(READERS, f"{schema.service}-read")
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = False
        self.version = self._migrate(schema)
        self._writer = threading.Thread(
            target=self._write_all, name=f"{schema.service}-write", daemon=True
        )
        self._writer.start()

    def _migrate(self, schema: Schema) -> int:
        try:
            with self._writing.begin() as connection:
                return schema.migrate(connection)
        except BaseException:
            self._writing.dispose()
            raise

    @property
    def shared(self) -> bool:
        """Whether other processes may write to the database too."""
        return not self._sqlite

    def insert_missing(self, table: Table) -> Insert:
        """An insert that does nothing when a row with the same key exists."""
        return insert_missing("sqlite" if self._sqlite else "postgresql", table)

    async def append(self, statement: Executable, row: Row) -> None:
        """Execute `statement` with `row`; returns once it is durable."""
        future = asyncio.get_running_loop().create_future()
        self._submit(_Job(future, None, statement, row))
        await future

    async def write(self, work: Work[T]) -> T:
        """The result of `work` after its commit; an error rolls back only this work.

        work runs in the writer's thread, even when its caller has stopped waiting.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._submit(_Job(future, work))
        return await future

    async def read(self, work: Work[T]) -> T:
        """The result of `work` in a read transaction."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, work)

    def close(self) -> None:
        """Finish accepted writes, then close every connection."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        self._writer.join()
        self._readers.shutdown()
        self._writing.dispose()
        self._reading.dispose()

    def _submit(self, job: _Job) -> None:
        if self._closed:
            raise RuntimeError("the database is closed")
        self._jobs.put(job)

    def _read(self, work: Work[T]) -> T:
        with self._reading.connect() as connection, connection.begin():
            return work(connection)

    def _write_all(self) -> None:
        open_ = True
        while open_:
            group, open_ = self._next_group()
            if group:
                self._write_group(group)

    def _next_group(self) -> tuple[list[_Job], bool]:
        job = self._jobs.get()
        group: list[_Job] = []
        while job is not None:
            group.append(job)
            if len(group) == self._group:
                return group, True
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return group, True
        return group, False

    def _write_group(self, group: list[_Job]) -> None:
        for attempt in range(1, RETRIES + 1):
            try:
                outcomes = self._commit(group)
            except Exception as error:  # noqa: BLE001 - every caller of the group must get it
                if attempt < RETRIES and _lost(error):
                    continue
                log.warning("event=commit-failed writes=%d error=%r", len(group), error)
                outcomes = [error] * len(group)
            break
        else:  # pragma: no cover - the last attempt always breaks
            raise AssertionError
        loop = group[0].future.get_loop()
        try:
            loop.call_soon_threadsafe(_settle, group, outcomes)
        except RuntimeError:
            log.warning("event=loop-closed writes=%d", len(group))

    def _commit(self, group: list[_Job]) -> list[Any]:
        outcomes: list[Any] = [None] * len(group)
        with self._writing.begin() as connection:
            for statement, rows in _batches(group):
                connection.execute(statement, rows)
            for position, job in enumerate(group):
                if job.work is None:
                    continue
                try:
                    with connection.begin_nested():
                        outcomes[position] = job.work(connection)
                except Exception as error:
                    if _lost(error):
                        raise
                    outcomes[position] = error
        return outcomes


def insert_missing(dialect: str, table: Table) -> Insert:
    """An insert that does nothing when a row with the same key exists.

    With `returning` the result shows whether a row was written; a driver's rowcount may not. On
    PostgreSQL it waits for another transaction that is inserting the same key.
    """
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return postgresql.insert(table).on_conflict_do_nothing()


def _batches(group: list[_Job]) -> list[tuple[Executable, Sequence[Row]]]:
    """The appended rows grouped by statement; order within one group does not matter."""
    batches: dict[int, tuple[Executable, list[Row]]] = {}
    for job in group:
        if job.statement is not None and job.row is not None:
            batches.setdefault(id(job.statement), (job.statement, []))[1].append(job.row)
    return list(batches.values())


def _settle(group: list[_Job], outcomes: list[Any]) -> None:
    for job, outcome in zip(group, outcomes, strict=True):
        if job.future.done():
            continue
        if isinstance(outcome, BaseException):
            job.future.set_exception(outcome)
        else:
            job.future.set_result(outcome)


def _lost(error: BaseException) -> bool:
    """Whether PostgreSQL rolled the transaction back because of a conflict with another one."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in LOST


def _engine(url: str, begin: str, connections: int) -> Engine:
    is_sqlite = make_url(url).get_backend_name() == "sqlite"
    engine = create_engine(url, pool_size=connections, max_overflow=0, pool_pre_ping=not is_sqlite)
    if is_sqlite:
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The sqlite3 module must not begin transactions: _engine issues BEGIN.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
