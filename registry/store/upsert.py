"""Inserts that leave an existing row alone, and the lock on one row, for both databases."""

from typing import Any

from sqlalchemy import Connection, Table, select

from service import database


def insert_missing(connection: Connection, table: Table, **values: Any) -> bool:
    """Insert the row unless its key exists; returns whether it is new."""
    statement = database.insert_missing(connection.dialect.name, table).values(**values)
    # Not rowcount: of an INSERT on psycopg SQLAlchemy 2.1 says -1.
    key = next(iter(table.primary_key))
    return connection.execute(statement.returning(key)).first() is not None


def lock_named(connection: Connection, table: Table, name: str) -> bool:
    """Hold the row called `name` until the transaction ends; returns whether it exists.

    SQLite has one writer, there the select alone is enough.
    """
    statement = select(table.c.name).where(table.c.name == name).with_for_update()
    return connection.execute(statement).first() is not None
