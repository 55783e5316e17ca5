"""Tables of the triggers, the same on SQLite and PostgreSQL, and their numbered migrations.

Times are seconds since the epoch. Text columns named input, output and error hold JSON or text
within the limits of the settings.
"""

import time
from collections.abc import Callable
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    select,
    text,
)

LOCK_KEY: Final = 0x51_C1CF  # any number: all triggers on one PostgreSQL must use the same
METADATA: Final = MetaData()

SCHEMA_VERSION: Final = Table(
    "triggers_schema",
    METADATA,
    Column("version", Integer, primary_key=True),
    Column("applied_at", Float, nullable=False),
)
# Since when a schedule is followed; what was missed before is not made up for.
SCHEDULES: Final = Table(
    "cron_schedule",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("since", Float, nullable=False),
)
# The key is the claim: whoever inserts the row calls.
FIRES: Final = Table(
    "cron_fire",
    METADATA,
    Column("schedule", Text, primary_key=True),
    Column("fire_time", BigInteger, primary_key=True),
    Column("target", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("claimed_by", Text, nullable=False),
    Column("claimed_until", Float, nullable=False),
    Column("started_at", Float),
    Column("seconds", Float),
    Column("status", Integer),
    Column("error", Text),
    Index("cron_fire_by_time", "fire_time"),
)
DEFINITIONS: Final = Table(
    "pipeline_definitions",
    METADATA,
    Column("version", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("activated_at", Float, nullable=False),
)
RUNS: Final = Table(
    "pipeline_run",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("key", Text),
    Column("request_sha256", Text, nullable=False),
    Column("input", Text, nullable=False),
    Column("error", Text),
    Column("parent", Text),
    Column("cancel", Integer, nullable=False, default=0),
    Column("owner", Text, nullable=False),
    Column("leased_until", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    UniqueConstraint("pipeline", "key", name="pipeline_run_key"),
    Index("pipeline_run_by_state", "state", "leased_until"),
)
# item: -1 is the step itself, 0 and up the items of its `map`.
STEPS: Final = Table(
    "pipeline_step",
    METADATA,
    Column("run", Text, primary_key=True),
    Column("step", Text, primary_key=True),
    Column("item", Integer, primary_key=True),
    Column("state", Text, nullable=False),
    Column("input", Text),
    Column("output", Text),
    Column("error", Text),
    Column("status", Integer),
    Column("attempts", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("seconds", Float, nullable=False),
)


class SchemaTooNewError(Exception):
    """The database was written by a newer release; going on could lose what that one keeps."""


def _tables(connection: Connection) -> None:
    METADATA.create_all(connection)


MIGRATIONS: Final[tuple[Callable[[Connection], None], ...]] = (_tables,)


def migrate(connection: Connection) -> int:
    """Bring the schema up to date in the caller's transaction; returns its version.

    The transaction holds the lock: SQLite's by BEGIN IMMEDIATE, PostgreSQL's an advisory one.
    Raises SchemaTooNewError.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
    SCHEMA_VERSION.create(connection, checkfirst=True)
    current: int = connection.scalar(select(func.max(SCHEMA_VERSION.c.version))) or 0
    if current > len(MIGRATIONS):
        raise SchemaTooNewError(
            f"the database has schema {current}, this release knows up to {len(MIGRATIONS)}"
        )
    for version, apply in enumerate(MIGRATIONS, start=1):
        if version > current:
            apply(connection)
            connection.execute(
                insert(SCHEMA_VERSION).values(version=version, applied_at=time.time())
            )
    return len(MIGRATIONS)
