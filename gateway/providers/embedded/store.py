"""Deployments, desired counts and namespaces in SQLite, written by one thread.

A change is durable when its method returns.
"""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Final, TypeVar

from gateway.providers.embedded.records import FunctionRecord, Generation, decode, encode
from gateway.types.function import Namespace
from gateway.types.ids import DEFAULT_NAMESPACE, FunctionId
from sluice.migrations import NewerSchemaError, migrate_file

T = TypeVar("T")

# Append only: a data folder of any older release is migrated at start.
MIGRATIONS: Final = (
    """
    CREATE TABLE namespaces (name TEXT PRIMARY KEY, labels TEXT NOT NULL, annotations TEXT NOT NULL)
      STRICT;
    CREATE TABLE functions (
      namespace TEXT NOT NULL REFERENCES namespaces (name),
      name TEXT NOT NULL,
      replicas INTEGER NOT NULL CHECK (replicas >= 0),
      created_at TEXT NOT NULL,
      target INTEGER NOT NULL,
      serving INTEGER,
      PRIMARY KEY (namespace, name)
    ) STRICT;
    CREATE TABLE generations (
      namespace TEXT NOT NULL,
      name TEXT NOT NULL,
      number INTEGER NOT NULL,
      deployment TEXT NOT NULL,
      digest TEXT NOT NULL,
      PRIMARY KEY (namespace, name, number),
      FOREIGN KEY (namespace, name) REFERENCES functions (namespace, name) ON DELETE CASCADE
    ) STRICT;
    """,
)


class Store:
    """One SQLite file, opened by `open`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="functions.sqlite")
        self._database: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the file and bring its tables up to date."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._open)

    async def close(self) -> None:
        """Close the file once all earlier requests are done."""
        if self._database is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown()

    async def functions(self) -> list[FunctionRecord]:
        """Every function."""
        return await self._run(_read_functions)

    async def put_function(self, record: FunctionRecord) -> None:
        """Store the record's target and count; drop other generations except the serving one."""
        await self._run(lambda database: _write_function(database, record))

    async def set_serving(self, function: FunctionId, number: int) -> None:
        """Store that a generation was ready; does nothing if it was already replaced."""
        key = (function.namespace, function.name)
        statement = (
            "UPDATE functions SET serving = ? WHERE namespace = ? AND name = ? AND EXISTS (SELECT 1"
            " FROM generations WHERE namespace = ? AND name = ? AND number = ?)"
        )
        await self._execute(statement, (number, *key, *key, number))

    async def set_replicas(self, function: FunctionId, replicas: int) -> None:
        """Store the desired count."""
        statement = "UPDATE functions SET replicas = ? WHERE namespace = ? AND name = ?"
        await self._execute(statement, (replicas, function.namespace, function.name))

    async def delete_function(self, function: FunctionId) -> None:
        """Delete the function with its generations."""
        statement = "DELETE FROM functions WHERE namespace = ? AND name = ?"
        await self._execute(statement, (function.namespace, function.name))

    async def namespaces(self) -> list[Namespace]:
        """Every namespace, by name."""
        rows = await self._run(
            lambda database: database.execute("SELECT * FROM namespaces ORDER BY name").fetchall()
        )
        return [Namespace(name, json.loads(one), json.loads(two)) for name, one, two in rows]

    async def put_namespace(self, namespace: Namespace) -> None:
        """Store the namespace, replacing one of that name."""
        await self._execute(
            "INSERT INTO namespaces VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE"
            " SET labels = excluded.labels, annotations = excluded.annotations",
            (
                namespace.name,
                json.dumps(dict(namespace.labels)),
                json.dumps(dict(namespace.annotations)),
            ),
        )

    async def delete_namespace(self, name: str) -> None:
        """Delete an empty namespace."""
        await self._execute("DELETE FROM namespaces WHERE name = ?", (name,))

    def _open(self) -> None:
        database = sqlite3.connect(self._path, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA foreign_keys = ON")
        try:
            migrate_file(database, self._path, MIGRATIONS)
        except NewerSchemaError:
            database.close()
            raise
        database.execute(
            "INSERT OR IGNORE INTO namespaces VALUES (?, '{}', '{}')", (DEFAULT_NAMESPACE,)
        )
        self._database = database

    async def _execute(self, statement: str, values: Sequence[object]) -> None:
        await self._run(lambda database: database.execute(statement, values))

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` as one transaction in the thread of the file; returns its result."""

        def transaction() -> T:
            if self._database is None:
                raise RuntimeError("the store is not open")
            with self._database:
                return work(self._database)

        return await asyncio.get_running_loop().run_in_executor(self._thread, transaction)


def _read_functions(database: sqlite3.Connection) -> list[FunctionRecord]:
    generations = {
        (namespace, name, number): Generation(number, decode(deployment), digest)
        for namespace, name, number, deployment, digest in database.execute(
            "SELECT namespace, name, number, deployment, digest FROM generations"
        )
    }
    return [
        FunctionRecord(
            FunctionId(name, namespace),
            replicas,
            datetime.fromisoformat(created_at),
            generations[namespace, name, target],
            None if serving is None else generations[namespace, name, serving],
        )
        for namespace, name, replicas, created_at, target, serving in database.execute(
            "SELECT namespace, name, replicas, created_at, target, serving FROM functions"
        )
    ]


def _write_function(database: sqlite3.Connection, record: FunctionRecord) -> None:
    key = (record.id.namespace, record.id.name)
    database.execute("BEGIN IMMEDIATE")
    database.execute(
        "INSERT INTO functions VALUES (?, ?, ?, ?, ?, NULL) ON CONFLICT (namespace, name)"
        " DO UPDATE SET replicas = excluded.replicas, target = excluded.target",
        (*key, record.replicas, record.created_at.isoformat(), record.target.number),
    )
    database.execute(
        "INSERT OR REPLACE INTO generations VALUES (?, ?, ?, ?, ?)",
        (*key, record.target.number, encode(record.target.deployment), record.target.digest),
    )
    database.execute(
        "DELETE FROM generations WHERE namespace = ? AND name = ? AND number NOT IN"
        " (SELECT number FROM (SELECT target AS number FROM functions WHERE namespace = ? AND"
        " name = ? UNION SELECT serving FROM functions WHERE namespace = ? AND name = ?)"
        " WHERE number IS NOT NULL)",
        key * 3,
    )
