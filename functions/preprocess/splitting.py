"""Which rows are held out."""

import numpy as np
from sklearn.model_selection import train_test_split

from sluice.ml.errors import InvalidInputError
from sluice.ml.table import Table

from .loading import Loaded
from .request import PreprocessRequest

MIN_ROWS = 10


def split(loaded: Loaded, request: PreprocessRequest) -> tuple[Table, Table]:
    """Train and test rows by a seeded shuffle; a classification keeps each class's share in both.

    Raises InvalidInputError where a split could not hold every class.
    """
    table, target = loaded.table, loaded.target
    rows = len(table)
    if rows < MIN_ROWS:
        raise InvalidInputError(f"expected at least {MIN_ROWS} rows with a target, got {rows}")
    stratify = None
    if target.task == "classification":
        _check_classes(loaded, request)
        stratify = table.y
    train, test = train_test_split(
        np.arange(rows),
        test_size=request.test_size,
        random_state=request.seed,
        stratify=stratify,
    )
    return _varied(table.rows(train)), table.rows(test)


def _varied(train: Table) -> Table:
    if len(np.unique(train.y)) < 2:
        raise InvalidInputError("the target holds one value in all training rows: nothing to learn")
    return train


def _check_classes(loaded: Loaded, request: PreprocessRequest) -> None:
    counts = np.bincount(loaded.table.y)
    rarest = int(counts.argmin())
    if counts[rarest] < 2:
        name = loaded.target.classes[rarest]
        raise InvalidInputError(
            f"target {request.target!r}: class {name!r} has 1 row;"
            " expected at least 2, one for each split"
        )
    held_out = int(np.ceil(len(loaded.table) * request.test_size))
    if min(held_out, len(loaded.table) - held_out) < len(counts):
        raise InvalidInputError(
            f"field 'test_size': {held_out} of {len(loaded.table)} rows held out,"
            f" and {len(counts)} classes to hold in both splits"
        )
