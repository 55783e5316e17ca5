"""The schema's migrations in order."""

from typing import Final

from service.schema import Migration, Schema
from triggers.migrations import m0001_tables

SCHEMA: Final = Schema(
    service="triggers",
    table="triggers_schema_version",
    lock_key=0x51_C1CF,
    migrations=(Migration("tables", m0001_tables.STATEMENTS),),
)
