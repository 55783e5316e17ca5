"""The SQLite tables of bundles: images, their builds, and resolved requirements."""

import json
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sluice.migrations import NewerSchemaError, migrate_file

MIGRATIONS: Final = (
    """
    CREATE TABLE bundles (
        digest TEXT PRIMARY KEY, lock_key TEXT NOT NULL, form TEXT NOT NULL, preload TEXT NOT NULL
    );
    CREATE TABLE builds (
        id INTEGER PRIMARY KEY AUTOINCREMENT, image TEXT NOT NULL,
        digest TEXT NOT NULL REFERENCES bundles, built_at TEXT NOT NULL
    );
    CREATE INDEX builds_of_image ON builds (image, id);
    CREATE INDEX builds_of_digest ON builds (digest, id);
    CREATE TABLE resolutions (
        key TEXT PRIMARY KEY, lock_key TEXT NOT NULL, lock TEXT NOT NULL
    );
    """,
)


@dataclass(frozen=True, slots=True)
class BundleRow:
    """What is kept of a bundle besides its folder. image: the name it was last built under."""

    image: str
    digest: str
    lock_key: str
    preload: tuple[str, ...]
    form: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image name and the bundle of its newest build."""

    name: str
    digest: str
    built_at: datetime


class BundleStore:
    """One writing process per file; a row is durable when the method returns. Thread-safe."""

    def __init__(self, path: Path, history: int) -> None:
        """history: how many builds of one image are remembered. Raises NewerSchemaError."""
        self._history = history
        self._lock = threading.RLock()
        self._database = _open(path)

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def newest(self, image: str) -> str | None:
        """Digest of the image's newest build."""
        row = self._row("SELECT digest FROM builds WHERE image = ? ORDER BY id DESC LIMIT 1", image)
        return str(row[0]) if row else None

    def bundle(self, digest: str) -> BundleRow | None:
        row = self._row(
            "SELECT image, lock_key, preload, form FROM bundles JOIN builds USING (digest) "
            "WHERE digest = ? ORDER BY id DESC LIMIT 1",
            digest,
        )
        if row is None:
            return None
        return BundleRow(row[0], digest, row[1], tuple(json.loads(row[2])), row[3])

    def images(self) -> list[Image]:
        rows = self._rows(
            "SELECT image, digest, built_at FROM builds "
            "WHERE id IN (SELECT max(id) FROM builds GROUP BY image) ORDER BY image"
        )
        return [Image(name, digest, datetime.fromisoformat(when)) for name, digest, when in rows]

    def digests(self) -> dict[str, str]:
        """Every bundle's digest with the lock key of its environment."""
        return dict(self._rows("SELECT digest, lock_key FROM bundles"))

    def record(self, row: BundleRow) -> None:
        """Remember a build, and forget the image's builds beyond the history."""
        facts = (row.digest, row.lock_key, row.form, json.dumps(row.preload))
        with self._lock, self._database:
            self._database.execute(
                "INSERT INTO bundles VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE "
                "SET form = excluded.form, preload = excluded.preload",
                facts,
            )
            self._database.execute(
                "INSERT INTO builds (image, digest, built_at) VALUES (?, ?, ?)",
                (row.image, row.digest, datetime.now(UTC).isoformat()),
            )
            self._database.execute(
                "DELETE FROM builds WHERE image = ?1 AND id NOT IN "
                "(SELECT id FROM builds WHERE image = ?1 ORDER BY id DESC LIMIT ?2) "
                "AND EXISTS (SELECT 1 FROM builds b WHERE b.digest = builds.digest "
                "AND b.id > builds.id)",
                (row.image, self._history),
            )

    def forget(self, digests: Iterable[str]) -> None:
        """Remove bundles and every build that made them."""
        with self._lock, self._database:
            for digest in digests:
                self._database.execute("DELETE FROM builds WHERE digest = ?", (digest,))
                self._database.execute("DELETE FROM bundles WHERE digest = ?", (digest,))

    def resolution(self, key: str) -> str | None:
        """The lock that the requirements of that key were resolved to."""
        row = self._row("SELECT lock FROM resolutions WHERE key = ?", key)
        return str(row[0]) if row else None

    def keep_resolution(self, key: str, lock_key: str, lock: str) -> None:
        with self._lock, self._database:
            self._database.execute(
                "INSERT OR REPLACE INTO resolutions VALUES (?, ?, ?)", (key, lock_key, lock)
            )

    def forget_resolutions(self, kept_locks: set[str]) -> None:
        """Remove the resolutions that lead to none of these lock keys."""
        with self._lock, self._database:
            known = {row[0] for row in self._rows("SELECT DISTINCT lock_key FROM resolutions")}
            for lock_key in known - kept_locks:
                self._database.execute("DELETE FROM resolutions WHERE lock_key = ?", (lock_key,))

    def _row(self, query: str, *values: Any) -> Any:
        with self._lock:
            return self._database.execute(query, values).fetchone()

    def _rows(self, query: str) -> list[Any]:
        with self._lock:
            return self._database.execute(query).fetchall()


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA foreign_keys = ON")
    try:
        migrate_file(database, path, MIGRATIONS)
    except NewerSchemaError:
        database.close()
        raise
    return database
