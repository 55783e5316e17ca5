"""Delimiter and column names from the first 64 kB; ambiguous files are refused."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from registry.datasets.job import RefusedError, shown

SAMPLE: Final = 1 << 16
DELIMITERS: Final = (",", ";", "\t", "|")
NAMES: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
NUMBER: Final = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


def read_sample(path: Path) -> tuple[str, bool]:
    """The first 64 kB, and whether that is the whole file; an incomplete last line is dropped."""
    with path.open("rb") as file:
        data = file.read(SAMPLE + 1)
    whole = len(data) <= SAMPLE
    text = data[:SAMPLE].decode("utf-8-sig", errors="ignore")
    if not whole:
        end = max(text.rfind("\n"), text.rfind("\r"))
        text = text[: end + 1] if end >= 0 else text
    return text, whole


def choose_delimiter(sample: str, asked: str | None) -> str:
    """The requested delimiter, or the one that gives names and rows the same number of fields.

    Raises RefusedError when the names form one column but contain another delimiter.
    """
    if asked is None:
        return max(DELIMITERS, key=lambda delimiter: _fit(sample, delimiter))
    if len(first_record(sample, asked)) == 1:
        for other in DELIMITERS:
            if other != asked and len(first_record(sample, other)) > 1:
                raise RefusedError(
                    f"line 1: expected columns separated by {_name(asked)}, got one column that "
                    f"holds {_name(other)}; send delimiter= if that is the one"
                )
    return asked


def first_record(sample: str, delimiter: str) -> list[str]:
    """The fields of the first record; empty when there is none."""
    for record in _records(sample, delimiter, 1):
        return record
    return []


def column_names(first: Sequence[str], header: bool | None) -> list[str]:
    """Names from the first record, or `column_1`, ... when the file has none.

    Raises RefusedError when line 1 looks like data and `header` is not given.
    """
    if header is False:
        return [f"column_{number}" for number in range(1, len(first) + 1)]
    names = [name.strip() for name in first]
    if header is None and names and all(NUMBER.fullmatch(name) for name in names):
        raise RefusedError(
            f"line 1: expected column names, got numbers ({shown(names[0])}); "
            "send header=false if the file has no names, header=true if these are the names"
        )
    return names


def _fit(sample: str, delimiter: str) -> tuple[float, int]:
    """How well a delimiter fits: the share of rows as wide as the names, then that width."""
    records = list(_records(sample, delimiter, 1000))
    width = len(records[0]) if records else 0
    if width < 2:
        return 0.0, width
    rows = records[1:]
    alike = sum(len(record) == width for record in rows) / len(rows) if rows else 1.0
    # Several names suggest this delimiter even when no row has the same number of fields.
    return max(alike, 0.01), width


def _records(sample: str, delimiter: str, most: int) -> list[list[str]]:
    found: list[list[str]] = []
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
    try:
        for record in reader:
            if record:
                found.append(record)
            if len(found) == most:
                break
    except csv.Error:  # a field over the limit; the records before it are enough
        return found
    return found


def _name(delimiter: str) -> str:
    return NAMES.get(delimiter, shown(delimiter))
