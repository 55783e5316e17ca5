"""The migrations of the registry's schema, in order."""

from typing import Final

from registry.migrations import m0001_tables
from service.schema import Migration, Schema

SCHEMA: Final = Schema(
    service="registry",
    table="schema_version",
    lock_key=0x51_C1CE,
    migrations=(Migration("tables", m0001_tables.STATEMENTS),),
)
