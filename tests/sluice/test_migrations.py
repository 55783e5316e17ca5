import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from sluice.migrations import NewerSchemaError, migrate_file, missing

TABLE = "CREATE TABLE note (id INTEGER PRIMARY KEY);"
COLUMN = "ALTER TABLE note ADD COLUMN words TEXT;"


def test_migrations_that_were_applied_are_not_applied_again(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    with closing(sqlite3.connect(path)) as database:
        migrate_file(database, path, [TABLE])
        migrate_file(database, path, [TABLE, COLUMN])
        migrate_file(database, path, [TABLE, COLUMN])
        assert database.execute("PRAGMA user_version").fetchone() == (2,)
        assert [row[1] for row in database.execute("PRAGMA table_info(note)")] == ["id", "words"]


def test_migration_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    with closing(sqlite3.connect(path)) as database:
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            migrate_file(database, path, [TABLE, f"{COLUMN} DROP TABLE nowhere;"])
        database.execute("ROLLBACK")
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert [row[1] for row in database.execute("PRAGMA table_info(note)")] == ["id"]


def test_file_of_a_newer_release_is_refused_by_name_version_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "notes.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 7")
        with pytest.raises(NewerSchemaError) as refused:
            migrate_file(database, path, [TABLE])
    assert str(refused.value) == (
        f"{path} has schema 7, this release knows up to 1: it was written by a newer release;"
        " start that one, or restore a copy from before the upgrade"
    )


def test_migrations_are_numbered_from_one() -> None:
    assert list(missing("notes", 1, ["a", "b", "c"])) == [(2, "b"), (3, "c")]
