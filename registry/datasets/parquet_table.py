"""Loads a Parquet file into DuckDB table `raw`; limits are checked before decompression."""

import re
from typing import Final

import duckdb

from registry.datasets.csv_table import Connection, Loaded, quoted_name, quoted_text
from registry.datasets.job import Job, RefusedError, check_names, shown

MAGIC: Final = b"PAR1"
PATH: Final = re.compile(r"""["'][^"']*/[^"']*["']:?""")
CASTS: Final = {
    "TINYINT": "BIGINT",
    "SMALLINT": "BIGINT",
    "INTEGER": "BIGINT",
    "BIGINT": "BIGINT",
    "UTINYINT": "BIGINT",
    "USMALLINT": "BIGINT",
    "UINTEGER": "BIGINT",
    "UBIGINT": "BIGINT",
    "FLOAT": "DOUBLE",
    "DOUBLE": "DOUBLE",
    "DECIMAL": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "VARCHAR": "VARCHAR",
    "ENUM": "VARCHAR",
    "UUID": "VARCHAR",
    "TIME": "VARCHAR",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP",
    "TIMESTAMP_S": "TIMESTAMP",
    "TIMESTAMP_MS": "TIMESTAMP",
    "TIMESTAMP_NS": "TIMESTAMP",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMP",
}


def load_parquet(connection: Connection, job: Job) -> Loaded:
    """Read the upload of `job` into `raw`. Raises RefusedError."""
    source = quoted_text(job.source)
    try:
        _check_size(connection, job, source)
        names = _names(connection, source)
        check_names(names, job.table_columns)
        kinds = _kinds(connection, source, names)
        _create(connection, source, kinds)
    except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
        raise RefusedError(f"expected values that fit 64 bits: {_message(error)}") from None
    except duckdb.Error as error:
        if isinstance(error, duckdb.OutOfMemoryException) or over_file_limit(error):
            raise
        raise RefusedError(f"expected a whole Parquet file: {_message(error)}") from None
    loaded = Loaded("parquet", names, [CASTS[kind] for kind in kinds])
    _check_text(connection, loaded)
    return loaded


def over_file_limit(error: duckdb.Error) -> bool:
    """Whether a file exceeded the process's file size limit (EFBIG)."""
    return "File too large" in str(error)


def _check_size(connection: Connection, job: Job, source: str) -> None:
    rows = connection.execute(
        f"SELECT sum(num_rows) FROM parquet_file_metadata({source})"
    ).fetchone()[0]
    size = connection.execute(
        f"SELECT coalesce(sum(total_uncompressed_size), 0) FROM parquet_metadata({source})"
    ).fetchone()[0]
    if rows > job.table_rows:
        raise RefusedError(f"expected at most {job.table_rows} rows, got {rows}", 413)
    if size > job.table_bytes:
        raise RefusedError(f"expected at most {job.table_bytes} bytes unpacked, got {size}", 413)


def _names(connection: Connection, source: str) -> list[str]:
    """Column names from the file's schema, because DuckDB renames duplicates."""
    rows = connection.execute(f"SELECT name, num_children FROM parquet_schema({source})").fetchall()
    nested = [name for name, children in rows[1:] if children]
    if nested:
        raise RefusedError(f"column {shown(nested[0])}: expected plain values, got a nested type")
    return [str(name) for name, _ in rows[1:]]


def _kinds(connection: Connection, source: str, names: list[str]) -> list[str]:
    described = connection.execute(f"DESCRIBE FROM read_parquet({source})").fetchall()
    kinds = [str(row[1]).partition("(")[0] for row in described]
    for name, kind in zip(names, kinds, strict=True):
        if kind not in CASTS:
            raise RefusedError(
                f"column {shown(name)}: expected numbers, text, booleans, dates or timestamps, "
                f"got {kind}"
            )
    return kinds


def _create(connection: Connection, source: str, kinds: list[str]) -> None:
    described = connection.execute(f"DESCRIBE FROM read_parquet({source})").fetchall()
    casts = []
    for number, (row, kind) in enumerate(zip(described, kinds, strict=True)):
        column = quoted_name(row[0])
        moment = kind == "TIMESTAMP WITH TIME ZONE"
        value = f"timezone('UTC', {column})" if moment else f"CAST({column} AS {CASTS[kind]})"
        casts.append(f"{value} AS c{number}")
    connection.execute(f"CREATE TABLE raw AS SELECT {', '.join(casts)} FROM read_parquet({source})")


def _check_text(connection: Connection, loaded: Loaded) -> None:
    for number, kind in enumerate(loaded.kinds):
        if kind != "VARCHAR":
            continue
        row = connection.execute(
            f"SELECT min(rowid) FROM raw WHERE contains(c{number}, chr(0))"
        ).fetchone()[0]
        if row is not None:
            name = shown(loaded.names[number])
            raise RefusedError(f"column {name}, row {row + 1}: expected text, got a NUL character")


def _message(error: Exception) -> str:
    """DuckDB's error message without the path of the upload."""
    text = str(error).partition("\n")[0].partition(": ")[2] or "it cannot be read"
    # DuckDB puts the file name in quotes.
    return " ".join(PATH.sub("", text).split())
