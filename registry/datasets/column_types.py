"""Which type a text column has: decided by every value, never by most of them.

A column that is nearly one of numbers stays text and a note says which value keeps it so.
"""

from dataclasses import dataclass
from typing import Final

from registry.datasets.csv_table import Connection
from registry.datasets.job import shown

MISSING_WORDS: Final = ("na", "n/a", "#n/a", "nan", "null", "none")
NEARLY: Final = 0.95
INTEGER: Final = r"[+-]?\d+"
NUMBER: Final = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
COMMA_NUMBER: Final = r"[+-]?\d+,\d+"
ZERO_LED: Final = r"[+-]?0\d+"
INFINITE: Final = r"[+-]?inf(inity)?"
DATE: Final = r"\d{4}-\d{2}-\d{2}"
TIMESTAMP: Final = DATE + r"([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}(:?\d{2})?)?)?"
WORDS_SQL: Final = "(" + ", ".join(f"'{word}'" for word in MISSING_WORDS) + ")"


@dataclass(frozen=True, slots=True)
class Typed:
    """A column's type and the SQL that makes it of raw text `c`.

    unfit: SQL condition of values that a number column can not hold. odd: SQL condition of the
    values that kept the column text; its first row completes the note.
    """

    type: str
    value: str
    unfit: str | None = None
    odd: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class _Counts:
    present: int
    words: int
    integers: int
    wide: int
    zero_led: int
    numbers: int
    infinite: int
    booleans: int
    dates: int
    timestamps: int
    commas: int
    padded: int


def type_of(connection: Connection, column: str, name: str) -> Typed:
    """The type of text column `column` of table `raw`."""
    counts = _count(connection, column)
    typed = counts.present - counts.words
    if typed == 0:
        note = f"column {shown(name)} holds no value" if not counts.words else None
        return Typed("string", _text(column), note=note)
    if counts.numbers + counts.infinite == typed and counts.numbers:
        return _number(column, name, counts)
    missing = _unless_missing(column)
    if counts.booleans == typed:
        return Typed("boolean", f"CAST({missing} AS BOOLEAN)")
    if counts.dates == typed:
        return Typed("date", f"CAST({missing} AS DATE)")
    if counts.timestamps == typed:
        return Typed("timestamp", f"CAST({missing} AS TIMESTAMP)")
    return _string(column, name, counts)


def _number(column: str, name: str, counts: _Counts) -> Typed:
    if counts.zero_led:
        note = f"column {shown(name)} kept as text: {counts.zero_led} values have leading zeros"
        return Typed("string", _text(column), note=note)
    if counts.wide:
        note = f"column {shown(name)} kept as text: {counts.wide} integers are over 64 bits"
        return Typed("string", _text(column), note=note)
    missing = _unless_missing(column)
    if counts.integers == counts.numbers and not counts.infinite:
        return Typed("integer", f"CAST({missing} AS BIGINT)")
    trimmed = f"trim({column})"
    unfit = (
        f"{_matches(f'lower({trimmed})', INFINITE)} OR "
        f"({_matches(trimmed, NUMBER)} AND NOT {_finite(trimmed)})"
    )
    return Typed("float", f"TRY_CAST({missing} AS DOUBLE)", unfit=unfit)


def _string(column: str, name: str, counts: _Counts) -> Typed:
    typed = counts.present - counts.words
    trimmed = f"trim({column})"
    kinds = (
        ("numbers", counts.numbers + counts.infinite, NUMBER),
        ("numbers with a decimal comma", counts.commas, COMMA_NUMBER),
        ("dates or timestamps", counts.timestamps, TIMESTAMP),
        ("booleans", counts.booleans, "(?i)true|false"),
    )
    for kind, count, pattern in kinds:
        if count > NEARLY * typed:
            share = f"{count / typed:.1%}" if count < typed else "all"
            note = f"column {shown(name)} is text: {share} of its values are {kind}"
            odd = f"{_unless_missing(column)} IS NOT NULL AND NOT {_matches(trimmed, pattern)}"
            if pattern == TIMESTAMP:
                odd += f" OR TRY_CAST({trimmed} AS TIMESTAMP) IS NULL"
            return Typed("string", _text(column), odd=odd, note=note)
    note = f"column {shown(name)}: {counts.padded} values begin or end with a space"
    return Typed("string", _text(column), note=note if counts.padded else None)


def _count(connection: Connection, column: str) -> _Counts:
    integer, number = _matches("v", INTEGER), _matches("v", NUMBER)
    conditions = {
        "present": "v IS NOT NULL",
        "words": f"lower(v) IN {WORDS_SQL}",
        "integers": f"{integer} AND TRY_CAST(v AS BIGINT) IS NOT NULL",
        "wide": f"{integer} AND TRY_CAST(v AS BIGINT) IS NULL AND {_finite('v')}",
        "zero_led": _matches("v", ZERO_LED),
        "numbers": number,
        "infinite": _matches("lower(v)", INFINITE),
        "booleans": _matches("v", "(?i)true|false"),
        "dates": f"{_matches('v', DATE)} AND TRY_CAST(v AS DATE) IS NOT NULL",
        "timestamps": f"{_matches('v', TIMESTAMP)} AND TRY_CAST(v AS TIMESTAMP) IS NOT NULL",
        "commas": _matches("v", COMMA_NUMBER),
        "padded": f"v <> {column}",
    }
    counts = ", ".join(f"count(*) FILTER ({condition})" for condition in conditions.values())
    row = connection.execute(
        f"SELECT {counts} FROM (SELECT {column}, nullif(trim({column}), '') AS v FROM raw)"
    ).fetchone()
    return _Counts(*row)


def _matches(value: str, pattern: str) -> str:
    return f"regexp_full_match({value}, '{pattern}')"


def _finite(value: str) -> str:
    return f"coalesce(isfinite(TRY_CAST({value} AS DOUBLE)), false)"


def _unless_missing(column: str) -> str:
    return (
        f"CASE WHEN lower(trim({column})) IN {WORDS_SQL} THEN NULL "
        f"ELSE nullif(trim({column}), '') END"
    )


def _text(column: str) -> str:
    return column
