"""The tables of cron as SQLAlchemy Core sees them; triggers.migrations creates them.

Times are seconds since the epoch.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text

METADATA: Final = MetaData()

# since: fire times before it are never made up for.
SCHEDULES: Final = Table(
    "cron_schedule",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("since", Float, nullable=False),
)
# The key is the claim: the process that inserts the row makes the call.
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
