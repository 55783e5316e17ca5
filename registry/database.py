"""The database: one thread writes, a few read, and no answer precedes its commit.

SQLite runs in WAL with synchronous=FULL; writes that wait together share one transaction, each
in a savepoint of its own, so that one fsync serves many and a failed one undoes only itself.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from registry.migrations import migrate

T = TypeVar("T")
Work = Callable[[Connection], T]

READERS: Final = 4
GROUP: Final = 64  # writes that may share one commit
RETRIES: Final = 5  # of a PostgreSQL transaction that lost against another process
LOST: Final = {"40001", "40P01"}  # serialization failure, deadlock
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    work: Work[Any]
    future: Future[Any]


class Database:
    """Reads and writes of one database. url: as SQLAlchemy writes it."""

    def __init__(self, url: str) -> None:
        self._sqlite = make_url(url).get_backend_name() == "sqlite"
        self._writing = _engine(url, "BEGIN IMMEDIATE", 1)
        self._reading = _engine(url, "BEGIN", READERS)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="registry-read")
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self.schema = self._migrate()
        self._writer = threading.Thread(target=self._write_all, name="registry-write", daemon=True)
        self._writer.start()

    def _migrate(self) -> int:
        try:
            with self._writing.begin() as connection:
                return migrate(connection)
        except BaseException:
            self._writing.dispose()
            raise

    @property
    def shared(self) -> bool:
        """Whether other processes may write to it too."""
        return not self._sqlite

    def submit(self, work: Work[T]) -> Future[T]:
        """Queue a write; the future ends when it is durable. work runs in the writer's thread."""
        future: Future[T] = Future()
        with self._closing:
            if self._closed:
                raise RuntimeError("the database is closed")
            self._jobs.put(_Job(work, future))
        return future

    async def write(self, work: Work[T]) -> T:
        """The result of `work` once it is committed; what it raises undoes it alone."""
        return await asyncio.wrap_future(self.submit(work))

    async def read(self, work: Work[T]) -> T:
        """The result of `work` in a transaction that only reads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, work)

    def close(self) -> None:
        """Finish the writes that were accepted and let go of every connection."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._writer.join()
        self._readers.shutdown()
        self._writing.dispose()
        self._reading.dispose()

    def _read(self, work: Work[T]) -> T:
        with self._reading.connect() as connection, connection.begin():
            return work(connection)

    def _write_all(self) -> None:
        open_ = True
        while open_:
            group, open_ = self._next_group()
            group = [job for job in group if job.future.set_running_or_notify_cancel()]
            if group:
                self._write_group(group)

    def _next_group(self) -> tuple[list[_Job], bool]:
        limit = GROUP if self._sqlite else 1
        job = self._jobs.get()
        group: list[_Job] = []
        while job is not None:
            group.append(job)
            if len(group) == limit:
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
            except Exception as error:  # noqa: BLE001 - every caller of the group must hear of it
                if attempt < RETRIES and _lost(error):
                    continue
                log.warning("event=commit-failed writes=%d error=%r", len(group), error)
                outcomes = [error] * len(group)
            break
        else:  # pragma: no cover - the last attempt always breaks
            raise AssertionError
        for job, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

    def _commit(self, group: list[_Job]) -> list[Any]:
        outcomes: list[Any] = []
        with self._writing.begin() as connection:
            for job in group:
                try:
                    with connection.begin_nested():
                        outcomes.append(job.work(connection))
                except Exception as error:
                    if _lost(error):
                        raise
                    outcomes.append(error)
        return outcomes


def _lost(error: BaseException) -> bool:
    """Whether PostgreSQL undid the transaction in favour of another one."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in LOST


def _engine(url: str, begin: str, connections: int) -> Engine:
    sqlite = make_url(url).get_backend_name() == "sqlite"
    engine = create_engine(url, pool_size=connections, max_overflow=0, pool_pre_ping=not sqlite)
    if sqlite:
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _configure(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    # The sqlite3 module must not begin transactions by itself: BEGIN is ours, see _engine.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "busy_timeout = 10000",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
