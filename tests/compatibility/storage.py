"""What a platform leaves in an empty data folder: files, and the tables of its databases."""

import functools
import os
import re
import sqlite3
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from testbed.platform import live_platform

# Sockets, locks and process ids: of no meaning once the platform has stopped.
PASSING: Final = "run"
# The code that functions run, below a name that tells its content: it changes with each release.
COPIED: Final = re.compile(r"(?<=^runtime/)[0-9a-f]{16}(/.*)?$")
# What a user's files usually are; those of ours that are narrower say so themselves.
USUAL_MASK: Final = 0o022


def files() -> Iterable[str]:
    """Path and mode of every file and folder."""
    return _fresh()[0]


def databases() -> Iterable[str]:
    """File, and the SQL, the version marks and the journal of each SQLite database."""
    return _fresh()[1]


def one_line(statement: str) -> str:
    """SQL without the white space of its layout."""
    return " ".join(statement.split())


@functools.cache
def _fresh() -> tuple[tuple[str, ...], tuple[str, ...]]:
    with tempfile.TemporaryDirectory(prefix="fresh-", dir="/tmp") as text:
        folder = Path(text) / ".sluice"
        mask = os.umask(USUAL_MASK)
        try:
            with live_platform(folder):
                pass
        finally:
            os.umask(mask)
        return tuple(_files(folder)), tuple(databases_of(folder))


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if name.partition("/")[0] != PASSING and not COPIED.search(name):
            yield f"{name} {stat.filemode(path.stat().st_mode)}"


def databases_of(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*.sqlite"):
        name = path.relative_to(folder)
        with closing(sqlite3.connect(path)) as connection:
            yield from (f"{name} {line}" for line in _database(connection))


def _database(connection: sqlite3.Connection) -> Iterator[str]:
    for pragma in ("user_version", "journal_mode"):
        (value,) = connection.execute(f"PRAGMA {pragma}").fetchone()
        yield f"{pragma} = {value}"
    tables = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    for kind, name, sql in tables:
        yield f"{kind} {name}: {one_line(sql or 'made by SQLite')}"
    for kind, name, _ in tables:
        if kind == "table" and name.endswith("schema_version"):
            query = f"SELECT version, name FROM {name} ORDER BY version"  # noqa: S608 - of the file
            for version, migration in connection.execute(query):
                yield f"{name} holds {version} {migration}"
