"""The tables of pipelines as SQLAlchemy Core sees them; triggers.migrations creates them.

Times are seconds since the epoch. Text columns named input, output and error hold JSON or text
within the limits of the settings.
"""

from typing import Final

from sqlalchemy import Column, Float, Index, Integer, MetaData, Table, Text, UniqueConstraint

METADATA: Final = MetaData()

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
