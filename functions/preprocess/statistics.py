"""What the training rows look like, column by column: what drift is measured against."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sluice.ml.table import Table


def statistics(train: Table) -> dict[str, Any]:
    """Rows, and for each column by name: missing rows; mean, std, min, max and deciles of numbers
    in the column's own unit; rows of each category of texts.
    """
    columns: dict[str, Any] = {}
    values = train.values(np.float64)
    for column, array in zip(train.columns, values, strict=True):
        columns[column.name] = _texts(array) if column.kind == "string" else _numbers(array)
    return {"rows": len(train), "columns": columns}


def _numbers(array: NDArray[Any]) -> dict[str, Any]:
    present = array[~np.isnan(array)]
    missing = len(array) - len(present)
    if not len(present):
        return {"missing": missing}
    return {
        "missing": missing,
        "mean": float(present.mean()),
        "std": float(present.std()),
        "min": float(present.min()),
        "max": float(present.max()),
        "deciles": np.unique(np.quantile(present, np.linspace(0.1, 0.9, 9))).tolist(),
    }


def _texts(array: NDArray[Any]) -> dict[str, Any]:
    found, counts = np.unique(array.astype(str), return_counts=True)
    rows = dict(zip(found.tolist(), counts.tolist(), strict=True))
    return {"missing": rows.pop("", 0), "categories": rows}
