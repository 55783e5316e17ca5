"""The tables of calls in PostgreSQL, which several gateways may share: leases skip locked rows."""

from typing import Any, Final

from gateway.queue.sql import Database, Dialect
from gateway.queue.tables import SqlStore
from sluice.migrations import missing

try:
    import psycopg
except ImportError as error:  # pragma: no cover - depends on what is installed
    raise ImportError(
        "calls in PostgreSQL need psycopg: pip install 'sluice-faas[postgresql]'"
    ) from error


def _full(error: Exception) -> bool:
    return isinstance(error, psycopg.errors.DiskFull)


DIALECT: Final = Dialect("%s", "BYTEA", "BEGIN", " FOR UPDATE SKIP LOCKED", (psycopg.Error,), _full)
CONNECT_SECONDS: Final = 10
# Held while tables are made, so that of gateways that start together one makes them.
MIGRATION_LOCK: Final = 5_158_001
# The registry may use the same database.
SCHEMA: Final = "sluice_queue"
MIGRATIONS: Final = (
    """
    CREATE TABLE calls (
        id TEXT COLLATE "C" PRIMARY KEY, function TEXT NOT NULL, state INTEGER NOT NULL,
        due DOUBLE PRECISION NOT NULL, attempts INTEGER NOT NULL, owner TEXT,
        accepted DOUBLE PRECISION NOT NULL, callback TEXT NOT NULL,
        callback_state TEXT NOT NULL, host TEXT NOT NULL, name TEXT NOT NULL,
        size BIGINT NOT NULL, status INTEGER, reason TEXT NOT NULL,
        finished DOUBLE PRECISION, seconds DOUBLE PRECISION, idempotency_key TEXT, digest BYTEA
    );
    CREATE INDEX calls_due ON calls (function, due, id) INCLUDE (size) WHERE state = 0;
    CREATE INDEX calls_finished ON calls (finished) INCLUDE (state, size)
        WHERE finished IS NOT NULL;
    CREATE UNIQUE INDEX calls_key ON calls (function, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    CREATE TABLE requests (
        id TEXT COLLATE "C" PRIMARY KEY, blob TEXT NOT NULL, size BIGINT NOT NULL,
        head BYTEA NOT NULL, body BYTEA NOT NULL
    );
    CREATE TABLE answers (
        id TEXT COLLATE "C" PRIMARY KEY, blob TEXT NOT NULL, size BIGINT NOT NULL,
        head BYTEA NOT NULL, body BYTEA NOT NULL
    );
    CREATE TABLE callbacks (
        id TEXT COLLATE "C" PRIMARY KEY, host TEXT NOT NULL, state INTEGER NOT NULL,
        due DOUBLE PRECISION NOT NULL, attempts INTEGER NOT NULL, owner TEXT
    );
    CREATE INDEX callbacks_due ON callbacks (host, due, id) WHERE state = 0;
    CREATE TABLE owners (owner TEXT PRIMARY KEY, until DOUBLE PRECISION NOT NULL);
    """,
)
VERSIONS: Final = "CREATE TABLE IF NOT EXISTS queue_version (version INTEGER NOT NULL)"


def store(url: str, owner: str) -> SqlStore:
    """The store on a database. url: of libpq; the password may be in PGPASSWORD or ~/.pgpass."""

    def connect() -> Any:
        connection = psycopg.connect(url, autocommit=True, connect_timeout=CONNECT_SECONDS)
        try:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (MIGRATION_LOCK,))
                connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
                # Lasts as long as the connection.
                connection.execute(f"SET search_path TO {SCHEMA}")
                _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    return SqlStore(Database(connect, DIALECT), owner, exclusive=False)


def _migrate(connection: "psycopg.Connection[Any]") -> None:
    connection.execute(VERSIONS)
    row = connection.execute("SELECT max(version) FROM queue_version").fetchone()
    applied = (row[0] if row else None) or 0
    name = f"PostgreSQL database {connection.info.dbname}, schema {SCHEMA},"
    for number, script in missing(name, applied, MIGRATIONS):
        connection.execute(script.encode())
        connection.execute("INSERT INTO queue_version (version) VALUES (%s)", (number,))
