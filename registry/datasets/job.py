"""What the registry asks of the process that reads an upload, and how that one says no."""

import json
from dataclasses import asdict, dataclass


class RefusedError(Exception):
    """The upload cannot be taken; the text names line or column, expected and got."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Job:
    """One upload to read. source, folder: absolute paths; folder is the worker's to write in.

    form, delimiter, header: None where the upload decides. reject_share: rows that may be
    rejected before all is refused. Sizes in bytes.
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

    line: in the file, of Parquet the row, from 1; 0 where too many rows do not fit to tell.
    column: empty where the row as a whole does not fit.
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
    """A cell as an error quotes it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def check_names(names: list[str], most: int) -> None:
    """Raises RefusedError for names that are empty, too long, unprintable or there twice."""
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
