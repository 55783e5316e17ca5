"""Statistics of each column, the stored half of drift: deciles, bins, categories, missing.

Bins of a number column are cut at its unique deciles e0 <= ... <= ek: below e1, e1 to below e2,
..., from e(k-1) on; the missing values are a bin of their own (`missing`). Text and boolean
columns have their most frequent values in `categories` and the rest in `other`.
"""

import itertools
import math
from datetime import date, datetime
from typing import Any, Final

from registry.datasets.csv_table import Connection, quoted_name

DECILES: Final = [round(number / 10, 1) for number in range(11)]
CATEGORY_LENGTH: Final = 250  # longer values count as other
SQUARE_FITS: Final = 1e150  # beyond it the square of a value is infinite


def describe(connection: Connection, name: str, kind: str, categories: int) -> dict[str, Any]:
    """What is known of column `name` of table `clean`. kind: its type; categories: how many."""
    column = quoted_name(name)
    missing, distinct = connection.execute(
        f"SELECT count(*) FILTER ({column} IS NULL), count(DISTINCT {column}) FROM clean"
    ).fetchone()
    told: dict[str, Any] = {
        "name": name,
        "type": kind,
        "nullable": missing > 0,
        "missing": missing,
        "distinct": distinct,
        **dict.fromkeys(("min", "max", "mean", "std", "deciles", "histogram")),
        **dict.fromkeys(("categories", "other")),
    }
    if kind in {"integer", "float"}:
        told.update(_numbers(connection, column))
    elif kind in {"date", "timestamp"}:
        told.update(_moments(connection, column))
    else:
        told.update(_categories(connection, column, categories))
    return told


def _numbers(connection: Connection, column: str) -> dict[str, Any]:
    low, high = connection.execute(f"SELECT min({column}), max({column}) FROM clean").fetchone()
    if low is None:
        return {}
    real = f"CAST({column} AS DOUBLE)"
    quantiles = f"SELECT quantile_cont({real}, {DECILES}) FROM clean"
    deciles = connection.execute(quantiles).fetchone()[0]
    told: dict[str, Any] = {"min": low, "max": high}
    if max(abs(low), abs(high)) < SQUARE_FITS:
        told["mean"], told["std"] = connection.execute(
            f"SELECT avg({real}), stddev_samp({real}) FROM clean"
        ).fetchone()
    if all(math.isfinite(edge) for edge in deciles):
        edges = sorted(set(deciles))
        told["deciles"] = edges
        told["histogram"] = {"edges": edges, "counts": _counts(connection, real, edges)}
    return told


def _counts(connection: Connection, real: str, edges: list[float]) -> list[int]:
    """Values in each bin; one bin more than there are edges between the outer two."""
    inner = edges[1:-1]
    below = "".join(f", count(*) FILTER ({real} < {edge!r}::DOUBLE)" for edge in inner)
    total, *cumulative = connection.execute(f"SELECT count({real}){below} FROM clean").fetchone()
    borders = [0, *cumulative, total]
    return [after - before for before, after in itertools.pairwise(borders)]


def _moments(connection: Connection, column: str) -> dict[str, Any]:
    row = connection.execute(f"SELECT min({column}), max({column}) FROM clean").fetchone()
    low, high = (_iso(value) for value in row)
    return {"min": low, "max": high}


def _iso(value: date | datetime | None) -> str | None:
    return None if value is None else value.isoformat()


def _categories(connection: Connection, column: str, most: int) -> dict[str, Any]:
    """The most frequent values, of equal ones the first in order."""
    rows = connection.execute(
        f"SELECT {column}, count(*) AS n FROM clean WHERE {column} IS NOT NULL "
        f"AND length(CAST({column} AS VARCHAR)) <= {CATEGORY_LENGTH} "
        f"GROUP BY ALL ORDER BY n DESC, {column} LIMIT {most}"
    ).fetchall()
    total = connection.execute(f"SELECT count({column}) FROM clean").fetchone()[0]
    kept = [{"value": value, "count": count} for value, count in rows]
    return {"categories": kept, "other": total - sum(count for _, count in rows)}
