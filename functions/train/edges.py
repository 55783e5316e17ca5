"""Rows at the edges of what training rows hold: where a conversion goes wrong first."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sluice.ml.table import MISSING_TEXT, Column, Table

RANDOM_ROWS: Final = 64


def edge_rows(train: Table, seed: int) -> Table:
    """All minima, all maxima, zeros; one missing value a column that takes one, then all of them;
    unseen texts; and seeded rows that mix the extremes with values of training rows. y: zeros.
    """
    columns = tuple(_with_unseen(column) for column in train.columns)
    with np.errstate(all="ignore"):
        low, high = _extremes(train.numbers, np.fmin), _extremes(train.numbers, np.fmax)
    typical = _first_row(train)
    missing = np.array([c.missing for c in columns if c.kind != "string"], dtype=np.bool_)
    texts = [c for c in columns if c.kind == "string"]
    unseen = np.array([len(c.categories) - 1 for c in texts], dtype=np.int32)
    gaps = np.where(missing, np.nan, typical[0])
    rows: list[tuple[NDArray[Any], NDArray[Any]]] = [
        (low, typical[1]),
        (high, typical[1]),
        (np.zeros_like(low), typical[1]),
        (gaps, _missing_texts(texts, typical[1])),
        (typical[0], unseen),
        (high, unseen),
    ]
    for position in np.flatnonzero(missing):
        row = typical[0].copy()
        row[position] = np.nan
        rows.append((row, typical[1]))
    rows += _mixed(train, low, high, unseen, np.random.default_rng(seed))
    numbers = np.stack([row[0] for row in rows]).astype(np.float64)
    codes = np.stack([row[1] for row in rows]).astype(np.int32)
    return Table(columns, numbers, codes, np.zeros(len(rows), dtype=train.y.dtype))


def _with_unseen(column: Column) -> Column:
    if column.kind != "string":
        return column
    unseen = "unseen"
    while unseen in column.categories:
        unseen += "-"
    return column._replace(categories=(*column.categories, unseen))


def _extremes(numbers: NDArray[np.float64], pick: np.ufunc) -> NDArray[np.float64]:
    extremes: NDArray[np.float64] = np.nan_to_num(pick.reduce(numbers, axis=0))
    return extremes


def _first_row(train: Table) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    return np.nan_to_num(train.numbers[0]), train.codes[0]


def _missing_texts(texts: list[Column], codes: NDArray[np.int32]) -> NDArray[np.int32]:
    found = [
        column.categories.index(MISSING_TEXT) if column.missing else int(code)
        for column, code in zip(texts, codes, strict=True)
    ]
    return np.array(found, dtype=np.int32)


def _mixed(
    train: Table,
    low: NDArray[Any],
    high: NDArray[Any],
    unseen: NDArray[np.int32],
    rng: np.random.Generator,
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    rows = []
    for _ in range(RANDOM_ROWS):
        picked = rng.integers(len(train))
        source = rng.integers(3, size=len(low))
        numbers = np.choose(source, [low, high, np.nan_to_num(train.numbers[picked])])
        codes = np.where(rng.random(len(unseen)) < 0.2, unseen, train.codes[picked])
        rows.append((numbers, codes))
    return rows
