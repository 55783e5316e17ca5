"""The tables of calls in a SQLite file: WAL and synchronous=FULL, so that a commit is durable."""

import sqlite3
from pathlib import Path
from typing import Any, Final

from gateway.queue.sql import Database, Dialect
from gateway.queue.tables import SqlStore
from gateway.types.errors import UnavailableError
from sluice.file_lock import FileLock, LockedError
from sluice.migrations import NewerSchemaError, migrate_file

# The second: no room for the shared index of the log, which grows with it.
FULL: Final = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def _full(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", None) in FULL


WRITER: Final = Dialect("?", "BLOB", "BEGIN IMMEDIATE", "", (sqlite3.Error,), _full)
READER: Final = Dialect("?", "BLOB", "BEGIN", "", (sqlite3.Error,), _full)
# A statement for each number of rows that a group may have.
STATEMENTS: Final = 1024
CACHE_KIB: Final = 16 * 1024
# Pages after which the log is written back: 16 MiB, so that few groups are delayed by it.
CHECKPOINT_PAGES: Final = 4096
MIGRATIONS: Final = (
    """
    CREATE TABLE calls (
        id TEXT PRIMARY KEY, function TEXT NOT NULL, state INTEGER NOT NULL, due REAL NOT NULL,
        attempts INTEGER NOT NULL, owner TEXT, accepted REAL NOT NULL,
        callback TEXT NOT NULL, callback_state TEXT NOT NULL, host TEXT NOT NULL,
        name TEXT NOT NULL, size INTEGER NOT NULL, status INTEGER, reason TEXT NOT NULL,
        finished REAL, seconds REAL, idempotency_key TEXT, digest BLOB
    ) WITHOUT ROWID;
    CREATE INDEX calls_due ON calls (function, due, id, size) WHERE state = 0;
    CREATE INDEX calls_finished ON calls (finished, state, size) WHERE finished IS NOT NULL;
    CREATE UNIQUE INDEX calls_key ON calls (function, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    CREATE TABLE requests (
        id TEXT PRIMARY KEY, blob TEXT NOT NULL, size INTEGER NOT NULL,
        head BLOB NOT NULL, body BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE answers (
        id TEXT PRIMARY KEY, blob TEXT NOT NULL, size INTEGER NOT NULL,
        head BLOB NOT NULL, body BLOB NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE callbacks (
        id TEXT PRIMARY KEY, host TEXT NOT NULL, state INTEGER NOT NULL, due REAL NOT NULL,
        attempts INTEGER NOT NULL, owner TEXT
    ) WITHOUT ROWID;
    CREATE INDEX callbacks_due ON callbacks (host, due, id) WHERE state = 0;
    CREATE TABLE owners (owner TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
    """,
)


class SqliteStore(SqlStore):
    """The only writing connection of a file; `open` locks the file for this process."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(Database(self._connect, WRITER), owner, exclusive=True)
        self._path, self._lock = path, FileLock(path.with_suffix(".lock"))

    def open(self) -> None:
        """Raises UnavailableError when another gateway has locked the file."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._lock.acquire()
        except LockedError as error:
            raise UnavailableError(f"{self._path}: another gateway works on it") from error
        super().open()

    def close(self) -> None:
        super().close()
        self._lock.release()

    def _connect(self) -> sqlite3.Connection:
        connection = _open(self._path)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        try:
            migrate_file(connection, self._path, MIGRATIONS)
        except NewerSchemaError:
            connection.close()
            raise
        return connection


def reader(path: Path) -> SqlStore:
    """A store that only reads, while the writer continues."""

    def connect() -> Any:
        connection = _open(path)
        connection.execute("PRAGMA query_only = ON")
        return connection

    return SqlStore(Database(connect, READER), "", exclusive=True)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=STATEMENTS
    )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    return connection
