"""Column statistics, the stored baseline for drift: deciles, bins, categories, missing values.

The bins of a number column are split at its unique deciles e0 <= ... <= ek: below e1, e1 to
below e2, ..., from e(k-1) on; missing values have a separate bin (`missing`). Text and boolean
columns list their most frequent values in `categories` and count the rest in `other`.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any, Final

from registry.datasets.csv_table import Connection, quoted_name

DECILES: Final = [round(number / 10, 1) for number in range(11)]
CATEGORY_LENGTH: Final = 250  # characters; longer values count as other
ALL_CATEGORIES: Final = 20_000  # per table: bounds the description of a wide table
FEWEST: Final = 5  # categories that every column may have
SQUARE_FITS: Final = 1e150  # beyond it the square of a value is infinite
TOGETHER: Final = 50  # columns per query: each query binds the whole table again
EMPTY: Final = ("min", "max", "mean", "std", "deciles", "histogram", "categories", "other")

ColumnFacts = dict[str, Any]


def describe(
    connection: Connection, columns: Sequence[tuple[str, str]], categories: int
) -> list[ColumnFacts]:
    """Statistics of each (name, type) of table `clean`. categories: most of them per column."""
    facts = {name: _start(name, kind) for name, kind in columns}
    for name, (missing, distinct) in _aggregates(
        connection, list(facts), ("count(*) - count({c})", "count(DISTINCT {c})")
    ):
        facts[name].update(nullable=missing > 0, missing=missing, distinct=distinct)
    numbers = [name for name, kind in columns if kind in {"integer", "float"}]
    _describe_numbers(connection, numbers, facts)
    moments = [name for name, kind in columns if kind in {"date", "timestamp"}]
    for name, row in _aggregates(connection, moments, ("min({c})", "max({c})")):
        facts[name]["min"], facts[name]["max"] = (_iso(value) for value in row)
    worded = [name for name, kind in columns if kind in {"string", "boolean"}]
    most = min(categories, max(FEWEST, ALL_CATEGORIES // max(len(worded), 1)))
    for name in worded:
        facts[name].update(_categories(connection, quoted_name(name), most))
    return list(facts.values())


def _start(name: str, kind: str) -> ColumnFacts:
    return {
        "name": name,
        "type": kind,
        "nullable": False,
        "missing": 0,
        "distinct": 0,
        **dict.fromkeys(EMPTY),
    }


def _aggregates(
    connection: Connection, names: Sequence[str], aggregates: Sequence[str]
) -> Iterator[tuple[str, Sequence[Any]]]:
    """The value of each aggregate ({c}: the column, {r}: the column as float) per column."""
    width = len(aggregates)
    for first in range(0, len(names), TOGETHER):
        some = names[first : first + TOGETHER]
        listed = ", ".join(_of(aggregate, name) for name in some for aggregate in aggregates)
        row = connection.execute(f"SELECT {listed} FROM clean").fetchone()
        for number, name in enumerate(some):
            yield name, row[number * width : (number + 1) * width]


def _of(aggregate: str, name: str) -> str:
    column = quoted_name(name)
    return aggregate.replace("{c}", column).replace("{r}", f"CAST({column} AS DOUBLE)")


def _describe_numbers(
    connection: Connection, names: Sequence[str], facts: dict[str, ColumnFacts]
) -> None:
    asked = ("min({c})", "max({c})", f"quantile_cont({{r}}, {DECILES})")
    for name, (low, high, deciles) in _aggregates(connection, names, asked):
        if low is None:
            continue
        facts[name].update(min=low, max=high)
        if all(math.isfinite(edge) for edge in deciles):
            facts[name]["deciles"] = sorted(set(deciles))
    tame = [name for name in names if _tame(facts[name])]
    for name, (mean, std) in _aggregates(connection, tame, ("avg({r})", "stddev_samp({r})")):
        facts[name].update(mean=mean, std=std)
    for name in names:
        edges = facts[name]["deciles"]
        if edges is not None:
            counts = _counts(connection, quoted_name(name), edges)
            facts[name]["histogram"] = {"edges": edges, "counts": counts}


def _tame(facts: ColumnFacts) -> bool:
    return facts["min"] is not None and max(abs(facts["min"]), abs(facts["max"])) < SQUARE_FITS


def _counts(connection: Connection, column: str, edges: Sequence[float]) -> list[int]:
    """The number of values in each bin; there is one bin more than inner edges."""
    real = f"CAST({column} AS DOUBLE)"
    below = "".join(f", count(*) FILTER ({real} < {edge!r}::DOUBLE)" for edge in edges[1:-1])
    total, *cumulative = connection.execute(f"SELECT count({real}){below} FROM clean").fetchone()
    return [after - before for before, after in itertools.pairwise([0, *cumulative, total])]


def _iso(value: date | None) -> str | None:
    return None if value is None else value.isoformat()


def _categories(connection: Connection, column: str, most: int) -> ColumnFacts:
    """The most frequent values; ties are broken by sort order."""
    rows = connection.execute(
        f"SELECT {column}, count(*) AS n FROM clean WHERE {column} IS NOT NULL "
        f"AND length(CAST({column} AS VARCHAR)) <= {CATEGORY_LENGTH} "
        f"GROUP BY ALL ORDER BY n DESC, {column} LIMIT {most}"
    ).fetchall()
    total = connection.execute(f"SELECT count({column}) FROM clean").fetchone()[0]
    kept = [{"value": value, "count": count} for value, count in rows]
    return {"categories": kept, "other": total - sum(count for _, count in rows)}
