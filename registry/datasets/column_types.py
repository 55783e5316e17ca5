"""The type of each text column: every value must fit it, not just most of them.

A column of mostly numbers stays text, and a note names the first value that is not a number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from registry.datasets.csv_table import Connection
from registry.datasets.job import shown

MISSING_WORDS: Final = ("na", "n/a", "#n/a", "nan", "null", "none")
NEARLY: Final = 0.95
INTEGER: Final = r"[+-]?\d+"
NUMBER: Final = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
COMMA_NUMBER: Final = r"[+-]?\d+,\d+"
DATE: Final = r"\d{4}-\d{2}-\d{2}"
TIMESTAMP: Final = DATE + r"([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?"
WORDS_SQL: Final = "(" + ", ".join(f"'{word}'" for word in MISSING_WORDS) + ")"
TOGETHER: Final = 50  # columns per query: each query binds the whole table again
WIDE: Final = "9.2e18"  # just under 2^63

Conditions = Mapping[str, str]
# {c}: the cell. {v}: the trimmed cell, NULL when empty. {d}: {v} as a float, NULL when not one.
ANY: Final[Conditions] = {
    "present": "{v} IS NOT NULL",
    "words": f"lower({{v}}) IN {WORDS_SQL}",
    "castable": "{d} IS NOT NULL",
}
NUMERIC: Final[Conditions] = {
    "numbers": f"regexp_full_match({{v}}, '{NUMBER}')",
    "integers": f"regexp_full_match({{v}}, '{INTEGER}')",
    "unfit": f"NOT coalesce(isfinite({{d}}), false) AND regexp_full_match({{v}}, '{NUMBER}')",
    "infinite": f"isinf({{d}}) AND NOT regexp_full_match({{v}}, '{NUMBER}')",
    "wide": f"abs({{d}}) >= {WIDE} AND isfinite({{d}}) AND regexp_full_match({{v}}, '{INTEGER}')",
    # In text order every value that starts with 0 and a digit lies between these two.
    "zero_led": "ltrim({v}, '+-') >= '00' AND ltrim({v}, '+-') < '0:' AND {d} IS NOT NULL",
}
TEXTUAL: Final[Conditions] = {
    "booleans": "lower({v}) IN ('true', 'false')",
    "dates": f"regexp_full_match({{v}}, '{DATE}') AND TRY_CAST({{v}} AS DATE) IS NOT NULL",
    "timestamps": f"regexp_full_match({{v}}, '{TIMESTAMP}') "
    "AND TRY_CAST({v} AS TIMESTAMP) IS NOT NULL",
    "commas": f"regexp_full_match({{v}}, '{COMMA_NUMBER}')",
    "padded": "{v} <> {c}",
}


@dataclass(frozen=True, slots=True)
class Typed:
    """A column's type and the SQL that converts its raw text.

    unfit: SQL condition for values that a number column cannot hold. odd: SQL condition for the
    values because of which the column stays text; the note quotes the first of them.
    """

    type: str
    value: str
    unfit: str | None = None
    odd: str | None = None
    note: str | None = None


Counts = dict[str, int]


def types_of(connection: Connection, names: Sequence[str]) -> list[Typed]:
    """The type of each text column of table `raw`. names: the names of columns c0, c1, ..."""
    columns = [f"c{number}" for number in range(len(names))]
    counts = _count(connection, columns, ANY)
    numeric = [column for column in columns if counts[column]["castable"]]
    for column, more in _count(connection, numeric, NUMERIC).items():
        counts[column].update(more)
    textual = [column for column in columns if not _all_numbers(counts[column])]
    for column, more in _count(connection, textual, TEXTUAL).items():
        counts[column].update(more)
    return [
        _type(column, name, counts[column]) for column, name in zip(columns, names, strict=True)
    ]


def _count(
    connection: Connection, columns: Sequence[str], conditions: Conditions
) -> dict[str, Counts]:
    """The number of cells per column that meet each condition."""
    counted: dict[str, Counts] = {}
    for first in range(0, len(columns), TOGETHER):
        some = columns[first : first + TOGETHER]
        trimmed = ", ".join(f"{c}, nullif(trim({c}), '') AS v{c}" for c in some)
        cast = ", ".join(f"{c}, v{c}, TRY_CAST(v{c} AS DOUBLE) AS d{c}" for c in some)
        counts = ", ".join(
            f"count(*) FILTER ({_of(condition, c)})"
            for c in some
            for condition in conditions.values()
        )
        row = connection.execute(
            f"SELECT {counts} FROM (SELECT {cast} FROM (SELECT {trimmed} FROM raw))"
        ).fetchone()
        width = len(conditions)
        for number, column in enumerate(some):
            values = row[number * width : (number + 1) * width]
            counted[column] = dict(zip(conditions, values, strict=True))
    return counted


def _of(condition: str, column: str) -> str:
    # Not str.format: the patterns contain braces.
    named = condition.replace("{c}", column)
    return named.replace("{v}", f"v{column}").replace("{d}", f"d{column}")


def _all_numbers(counts: Counts) -> bool:
    numbers = counts.get("numbers", 0)
    return numbers > 0 and numbers + counts["infinite"] == counts["present"] - counts["words"]


def _type(column: str, name: str, counts: Counts) -> Typed:
    typed = counts["present"] - counts["words"]
    if typed == 0:
        note = f"column {shown(name)} holds no value" if not counts["words"] else None
        return Typed("string", column, note=note)
    if _all_numbers(counts):
        return _number(column, name, counts)
    if counts["booleans"] == typed:
        return Typed("boolean", f"TRY_CAST(trim({column}) AS BOOLEAN)")
    if counts["dates"] == typed:
        return Typed("date", f"TRY_CAST(trim({column}) AS DATE)")
    if counts["timestamps"] == typed:
        return Typed("timestamp", f"TRY_CAST(trim({column}) AS TIMESTAMP)")
    return _string(column, name, counts)


def _number(column: str, name: str, counts: Counts) -> Typed:
    """The type of a number column. TRY_CAST turns all words for missing but `nan` into NULL."""
    if counts["zero_led"]:
        note = f"column {shown(name)} kept as text: {counts['zero_led']} values have leading zeros"
        return Typed("string", column, note=note)
    whole = counts["integers"] == counts["numbers"] and not counts["infinite"]
    if whole and counts["wide"]:
        note = f"column {shown(name)} kept as text: {counts['wide']} integers are over 64 bits"
        return Typed("string", column, note=note)
    trimmed = f"trim({column})"
    if whole and not counts["unfit"]:
        return Typed("integer", f"TRY_CAST({trimmed} AS BIGINT)")
    value = f"nullif(lower({trimmed}), 'nan')" if counts["words"] else trimmed
    if not counts["unfit"] and not counts["infinite"]:
        return Typed("float", f"TRY_CAST({value} AS DOUBLE)")
    unfit = (
        f"{trimmed} <> '' AND lower({trimmed}) NOT IN {WORDS_SQL} "
        f"AND NOT coalesce(isfinite(TRY_CAST({trimmed} AS DOUBLE)), false)"
    )
    return Typed("float", f"TRY_CAST({value} AS DOUBLE)", unfit=unfit)


def _string(column: str, name: str, counts: Counts) -> Typed:
    typed = counts["present"] - counts["words"]
    trimmed = f"trim({column})"
    numbers = counts.get("numbers", 0) + counts.get("infinite", 0)
    kinds = (
        ("numbers", numbers, f"NOT {_matches(trimmed, NUMBER)}"),
        (
            "numbers with a decimal comma",
            counts["commas"],
            f"NOT {_matches(trimmed, COMMA_NUMBER)}",
        ),
        (
            "dates or timestamps",
            counts["timestamps"],
            f"(NOT {_matches(trimmed, TIMESTAMP)} OR TRY_CAST({trimmed} AS TIMESTAMP) IS NULL)",
        ),
        ("booleans", counts["booleans"], f"lower({trimmed}) NOT IN ('true', 'false')"),
    )
    for kind, count, other in kinds:
        if count > NEARLY * typed:
            share = _share(count, typed)
            note = f"column {shown(name)} is text: {share} of its values are {kind}"
            odd = f"{trimmed} <> '' AND lower({trimmed}) NOT IN {WORDS_SQL} AND {other}"
            return Typed("string", column, odd=odd, note=note)
    note = f"column {shown(name)}: {counts['padded']} values begin or end with a space"
    return Typed("string", column, note=note if counts["padded"] else None)


def _share(count: int, total: int) -> str:
    """A share as a percentage; never rounded up to 100 %."""
    return "all" if count == total else f"{math.floor(1000 * count / total) / 10} %"


def _matches(value: str, pattern: str) -> str:
    return f"regexp_full_match({value}, '{pattern}')"
