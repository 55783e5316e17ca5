"""Turns an upload into clean files and a description: load, type, reject, measure, write."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import duckdb

from registry.datasets.column_types import Typed, types_of
from registry.datasets.csv_table import (
    Connection,
    Loaded,
    lines_of,
    load_csv,
    quoted_name,
    quoted_text,
)
from registry.datasets.job import (
    CSV_FILE,
    PARQUET_FILE,
    REJECTS_SHOWN,
    Job,
    RefusedError,
    Reject,
    shown,
)
from registry.datasets.parquet_table import MAGIC, load_parquet, over_file_limit
from registry.datasets.statistics import describe

PLAIN: Final = {
    "BIGINT": "integer",
    "DOUBLE": "float",
    "BOOLEAN": "boolean",
    "VARCHAR": "string",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
}
NAMED_IN_ERROR: Final = 5


def read_table(job: Job) -> dict[str, Any]:
    """The description of the upload; writes Parquet and CSV files into the job's folder.

    Raises RefusedError when the upload is invalid or too many rows are rejected.
    """
    form = _form(job)
    with open_sandbox(job) as connection:
        try:
            loaded = (load_parquet if form == "parquet" else load_csv)(connection, job)
            return _described(connection, job, loaded)
        except duckdb.OutOfMemoryException:
            raise RefusedError(
                f"expected a table that can be read in {job.memory} bytes of memory", 413
            ) from None
        except duckdb.Error as error:
            if not over_file_limit(error):
                raise
            raise RefusedError(
                f"expected a table of at most {job.table_bytes} bytes as a file", 413
            ) from None


def open_sandbox(job: Job) -> Connection:
    """A database in the job's folder that can open only the upload and this folder."""
    folder = Path(job.folder)
    connection = duckdb.connect(folder / "work.duckdb")
    reachable = [job.source, *(str(folder / name) for name in (PARQUET_FILE, CSV_FILE))]
    listed = ", ".join(quoted_text(path) for path in reachable)
    for option, value in (
        ("memory_limit", f"'{job.memory // 1024}KiB'"),
        ("threads", str(max(job.threads, 1))),
        ("temp_directory", quoted_text(str(folder / "spill"))),
        ("max_temp_directory_size", f"'{job.table_bytes // 1024}KiB'"),
        ("autoload_known_extensions", "false"),
        ("autoinstall_known_extensions", "false"),
        ("allow_community_extensions", "false"),
        ("allowed_paths", f"[{listed}]"),
        ("enable_external_access", "false"),
        ("lock_configuration", "true"),
    ):
        connection.execute(f"SET {option} = {value}")
    return connection


def _form(job: Job) -> str:
    with Path(job.source).open("rb") as file:
        parquet = file.read(len(MAGIC)) == MAGIC
    if job.form == "csv" and parquet:
        raise RefusedError("expected CSV, the file is Parquet")
    if job.form == "parquet" and not parquet:
        raise RefusedError("expected Parquet, the file does not begin with PAR1")
    return "parquet" if parquet else "csv"


def _described(connection: Connection, job: Job, loaded: Loaded) -> dict[str, Any]:
    total: int = connection.execute("SELECT count(*) FROM raw").fetchone()[0]
    if total > job.table_rows:
        raise RefusedError(f"expected at most {job.table_rows} rows, got {total}", 413)
    _check_share(job, loaded, total)
    if total == 0:
        raise RefusedError("line 2: expected at least one row, got column names only")
    typed = _types(connection, loaded)
    _reject_unfit(connection, job, loaded, typed)
    kept: int = connection.execute("SELECT count(*) FROM raw").fetchone()[0]
    _check_share(job, loaded, kept)
    notes = _notes(connection, job, loaded, typed)
    _write(connection, job, loaded, typed)
    return {
        "format": loaded.form,
        "reading": loaded.reading,
        "rows": kept,
        "columns": describe(
            connection,
            [(name, one.type) for name, one in zip(loaded.names, typed, strict=True)],
            job.categories,
        ),
        "rejects": {
            "count": loaded.rejected,
            "rows": [asdict(reject) for reject in loaded.rejects],
        },
        "notes": notes,
    }


def _check_share(job: Job, loaded: Loaded, kept: int) -> None:
    """Raises RefusedError naming the first rejected rows when too many were rejected."""
    share = loaded.rejected / max(kept + loaded.rejected, 1)
    if not loaded.rejected or (share <= job.reject_share and kept):
        return
    named = "; ".join(_named(reject) for reject in loaded.rejects[:NAMED_IN_ERROR])
    raise RefusedError(
        f"{loaded.rejected} of {kept + loaded.rejected} rows do not fit, "
        f"expected at most {job.reject_share:.1%}: {named}"
    )


def _named(reject: Reject) -> str:
    where = f"line {reject.line}" if reject.line else "a line"
    column = f", column {reject.column}" if reject.column else ""
    return f"{where}{column}: {reject.reason}"


def _types(connection: Connection, loaded: Loaded) -> list[Typed]:
    if loaded.form == "csv":
        return types_of(connection, loaded.names)
    return [_plain(f"c{number}", kind) for number, kind in enumerate(loaded.kinds)]


def _plain(column: str, kind: str) -> Typed:
    """The type of a Parquet column."""
    if kind != "DOUBLE":
        return Typed(PLAIN[kind], column)
    # Parquet writers often use NaN for missing. Infinities are rejected: no model can use them.
    value = f"CASE WHEN isnan({column}) THEN NULL ELSE {column} END"
    return Typed("float", value, unfit=f"isinf({column})")


def _reject_unfit(connection: Connection, job: Job, loaded: Loaded, typed: Sequence[Typed]) -> None:
    """Delete rows from `raw` whose values a number column cannot hold; list them as rejects."""
    conditions = {f"c{n}": one.unfit for n, one in enumerate(typed) if one.unfit}
    if not conditions:
        return
    anywhere = " OR ".join(f"({condition})" for condition in conditions.values())
    bad = connection.execute(f"SELECT rowid FROM raw WHERE {anywhere} ORDER BY rowid").fetchall()
    if not bad:
        return
    rows = [row for (row,) in bad[:REJECTS_SHOWN]]
    total: int = connection.execute("SELECT count(*) FROM raw").fetchone()[0]
    lines = lines_of(job, loaded, set(rows), total)
    for column, condition in conditions.items():
        if len(loaded.rejects) >= REJECTS_SHOWN:
            break
        for row, value in connection.execute(
            f"SELECT rowid, CAST({column} AS VARCHAR) FROM raw WHERE ({condition}) "
            f"AND rowid IN ({', '.join(map(str, rows))}) ORDER BY rowid"
        ).fetchall():
            reason = f"expected a finite number, got {shown(value)}"
            loaded.rejects.append(Reject(lines.get(row, 0), loaded.names[int(column[1:])], reason))
    del loaded.rejects[REJECTS_SHOWN:]
    loaded.rejected += len(bad)
    loaded.rejects.sort(key=lambda reject: reject.line)
    connection.execute(f"DELETE FROM raw WHERE {anywhere}")


def _notes(connection: Connection, job: Job, loaded: Loaded, typed: Sequence[Typed]) -> list[str]:
    """Notes for the owner, each with the first value that differs from the rest."""
    firsts: dict[int, tuple[int, str]] = {}
    for number, one in enumerate(typed):
        if one.odd is None:
            continue
        found = connection.execute(
            f"SELECT rowid, c{number} FROM raw WHERE {one.odd} ORDER BY rowid LIMIT 1"
        ).fetchone()
        if found is not None:
            firsts[number] = found
    total: int = connection.execute("SELECT count(*) FROM raw").fetchone()[0]
    lines = lines_of(job, loaded, {row for row, _ in firsts.values()}, total)
    notes = []
    for number, one in enumerate(typed):
        if one.note is None:
            continue
        row, value = firsts.get(number, (None, ""))
        where = f"line {lines[row]}" if row in lines else f"row {(row or 0) + 1}"
        notes.append(one.note if row is None else f"{one.note}, {where} holds {shown(value)}")
    return notes


def _write(connection: Connection, job: Job, loaded: Loaded, typed: Sequence[Typed]) -> None:
    values = ", ".join(
        f"{one.value} AS {quoted_name(name)}" for name, one in zip(loaded.names, typed, strict=True)
    )
    connection.execute(f"CREATE TABLE clean AS SELECT {values} FROM raw")
    folder = Path(job.folder)
    parquet, text = (quoted_text(str(folder / name)) for name in (PARQUET_FILE, CSV_FILE))
    connection.execute(f"COPY clean TO {parquet} (FORMAT parquet, COMPRESSION zstd)")
    connection.execute(f"COPY clean TO {text} (FORMAT csv, HEADER, DELIMITER ',')")
