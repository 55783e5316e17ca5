"""Inserts that keep an existing row, and row locks, for SQLite and PostgreSQL."""

from typing import Any

from sqlalchemy import Connection, Table, select

from service import database


def insert_missing(connection: Connection, table: Table, **values: Any) -> bool:
    """Insert the row unless its key exists; returns whether it is new."""
    statement = database.insert_missing(connection.dialect.name, table).values(**values)
    # Not rowcount: SQLAlchemy 2.1 returns -1 for an INSERT on psycopg.
    key = next(iter(table.primary_key))
    return connection.execute(statement.returning(key)).first() is not None


def lock_named(connection: Connection, table: Table, name: str) -> bool:
    """Lock the row called `name` until the transaction ends; returns whether it exists.

    SQLite has a single writer, so the select alone is enough there.
    """
    statement = select(table.c.name).where(table.c.name == name).with_for_update()
    return connection.execute(statement).first() is not None
