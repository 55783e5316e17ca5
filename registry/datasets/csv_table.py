"""Loads a CSV file into DuckDB table `raw` as text; rejected rows are listed by line."""

import csv
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

import duckdb

from registry.datasets.job import (
    LINE_BYTES,
    REJECTS_MOST,
    REJECTS_SHOWN,
    Job,
    RefusedError,
    Reject,
    check_names,
    shown,
)
from registry.datasets.scan import check_quotes, scan
from registry.datasets.sniff import choose_delimiter, column_names, first_record, read_sample

BEFORE: Final = 1 << 16  # bytes read to detect the line ending
Connection = Any  # a DuckDB connection; its methods are not typed
REASONS: Final = {
    "UNQUOTED VALUE": "a quote within the field is not doubled or not closed",
    "INVALID ENCODING": "not UTF-8",
    "LINE SIZE OVER MAXIMUM": f"over {LINE_BYTES} bytes",
}


@dataclass(slots=True)
class Loaded:
    """Table `raw` with columns c0, c1, ... in the order of `names`.

    kinds: the DuckDB type of each. rejected: number of rows left out; `rejects` lists some of them.
    """

    form: str
    names: list[str]
    kinds: list[str]
    reading: dict[str, Any] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    rejected: int = 0


def load_csv(connection: Connection, job: Job) -> Loaded:
    """Read the upload of `job` into `raw`. Raises RefusedError."""
    path = Path(job.source)
    quoted = scan(path)
    sample, _ = read_sample(path)
    delimiter = choose_delimiter(sample, job.delimiter)
    names = column_names(first_record(sample, delimiter), job.header)
    check_names(names, job.table_columns)
    if quoted:
        check_quotes(path, delimiter)
    header = job.header is not False
    _create(connection, path, delimiter, header, len(names))
    loaded = Loaded("csv", names, ["VARCHAR"] * len(names))
    loaded.reading = {"delimiter": delimiter, "header": header}
    _collect_rejects(connection, path, loaded)
    return loaded


def _create(connection: Connection, path: Path, delimiter: str, header: bool, width: int) -> None:
    columns = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(width))
    options = {
        "columns": f"{{{columns}}}",
        "auto_detect": "false",
        "header": str(header).lower(),
        "delim": quoted_text(delimiter),
        "quote": "'\"'",
        "escape": "'\"'",
        "nullstr": "''",
        "max_line_size": str(LINE_BYTES),
        "store_rejects": "true",
        "rejects_limit": str(REJECTS_MOST),
        "rejects_line_size_limit": "100",
        "compression": "'none'",
    }
    listed = ", ".join(f"{name} = {value}" for name, value in options.items())
    source = quoted_text(str(path))
    try:
        connection.execute(f"CREATE TABLE raw AS FROM read_csv({source}, {listed})")
    except (duckdb.InvalidInputException, duckdb.ConversionException) as error:
        raise RefusedError(f"expected CSV: {_first_line(error)}") from None


def _collect_rejects(connection: Connection, path: Path, loaded: Loaded) -> None:
    rows = connection.execute(
        "SELECT line, any_value(line_byte_position), any_value(column_idx), "
        "any_value(error_type), any_value(error_message), any_value(csv_line) "
        "FROM reject_errors GROUP BY line ORDER BY line"
    ).fetchall()
    loaded.rejected = len(rows)
    if loaded.rejected >= REJECTS_MOST:
        raise RefusedError(f"at least {REJECTS_MOST} rows do not fit, the first at {rows[0][0]}")
    some = rows[:REJECTS_SHOWN]
    lines = _lines_at(path, [position for _, position, *_ in some])
    for line, (_, _, column, kind, message, text) in zip(lines, some, strict=True):
        named = loaded.names[column - 1] if column and column <= len(loaded.names) else ""
        structural = kind in {"TOO MANY COLUMNS", "MISSING COLUMNS"}
        reason = f"{_reason(kind, message)}: {shown(text)}"
        loaded.rejects.append(Reject(line, "" if structural else named, reason))


def _reason(kind: str, message: str) -> str:
    if kind in {"TOO MANY COLUMNS", "MISSING COLUMNS"}:
        expected, found = (part.split()[0] for part in message.split(":")[1:3])
        return f"expected {expected} fields, got {found}"
    return REASONS.get(kind, kind.lower())


def _lines_at(path: Path, positions: Iterable[int]) -> list[int]:
    """The line number of the record at each byte position (from 1, ascending).

    DuckDB's own `line` counts records, so it is wrong after a quoted line break. Its byte
    position may be at the previous line's end or at blank lines before the record.
    """
    lines, line, at = [], 1, 0
    with path.open("rb") as file:
        head = file.read(BEFORE)
        end = b"\r" if b"\r" in head and b"\n" not in head else b"\n"
        for position in positions:
            file.seek(at)
            line += sum(part.count(end) for part in _parts(file, position - 1 - at))
            at = position - 1
            following = file.read(BEFORE)
            ends = following[: len(following) - len(following.lstrip(b"\r\n"))]
            lines.append(line + ends.count(end))
    return lines


def _parts(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0 and (part := file.read(min(1 << 20, length))):
        length -= len(part)
        yield part


def lines_of(job: Job, loaded: Loaded, rows: Collection[int], kept: int) -> dict[int, int]:
    """The line in the file of each row of `raw` (from 0); for Parquet the row number from 1.

    kept: number of rows in `raw`. Reads the whole file, so call it only when lines are needed.
    Empty when the lines are unknown: more rows were rejected than are listed.
    """
    if loaded.form != "csv":
        return {row: row + 1 for row in rows}
    if not rows or loaded.rejected > len(loaded.rejects):
        return {}
    skipped = {reject.line for reject in loaded.rejects}
    found, number = {}, 0
    for line in _record_lines(job, loaded):
        if line in skipped:
            continue
        if number in rows:
            found[number] = line
        number += 1
    return found if number == kept else {}


def _record_lines(job: Job, loaded: Loaded) -> Iterator[int]:
    with Path(job.source).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=loaded.reading["delimiter"])
        if loaded.reading["header"]:
            next(reader, None)
        line = reader.line_num + 1
        for record in reader:
            if record or len(loaded.names) == 1:
                yield line
            line = reader.line_num + 1


def quoted_text(text: str) -> str:
    """`text` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def quoted_name(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(": ")[2] or "it cannot be read"
