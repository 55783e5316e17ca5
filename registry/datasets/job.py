"""The job sent to the process that reads an upload, and the errors it returns."""

import json
from dataclasses import asdict, dataclass


class RefusedError(Exception):
    """The upload is refused; the text names line or column, the expected and the actual value."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Job:
    """One upload to read. source, folder: absolute paths; the worker writes into folder.

    form, delimiter, header: None to detect them. reject_share: the share of rows that may be
    rejected before the upload is refused. Sizes are in bytes.
    """

    source: str
    folder: str
    form: str | None
    delimiter: str | None
    header: bool | None
    reject_share: float
    table_columns: int
    table_rows: int
    table_bytes: int
    categories: int
    memory: int
    threads: int

    def to_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Job":
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was left out.

    line: the line in the file, or the Parquet row, from 1; 0 when unknown because too many rows
    were rejected. column: empty when the whole row is invalid.
    """

    line: int
    column: str
    reason: str


PARQUET_FILE = "table.parquet"
CSV_FILE = "table.csv"
REJECTS_SHOWN = 100
REJECTS_MOST = 100_000
LINE_BYTES = 2_000_000
NAME_LENGTH = 250


def shown(value: object) -> str:
    """A cell's value as quoted in an error."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_names(names: list[str], most: int) -> None:
    """Raises RefusedError for names that are empty, too long, unprintable or duplicated."""
    if not names:
        raise RefusedError("expected at least one column, got none")
    if len(names) > most:
        raise RefusedError(f"expected at most {most} columns, got {len(names)}", 413)
    seen: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if not name:
            raise RefusedError(f"line 1: column {number} of {len(names)} has an empty name")
        if len(name) > NAME_LENGTH or not name.isprintable():
            raise RefusedError(
                f"line 1: column {number}: expected a printable name of at most {NAME_LENGTH} "
                f"characters, got {shown(name)}"
            )
        first = seen.setdefault(name.casefold(), number)
        if first != number:
            raise RefusedError(
                f"line 1: columns {first} and {number} are both named {shown(name)} "
                "(case does not count)"
            )
