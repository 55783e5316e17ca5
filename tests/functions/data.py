"""Real data that ships inside scikit-learn, as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from sklearn.datasets import load_diabetes, load_wine

BREAST_CANCER = Path(__file__).parents[2] / "examples" / "data" / "breast-cancer.csv"


def csv_of(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue().encode()


def diabetes() -> bytes:
    """442 rows, 10 measurements and the progression after a year (Efron et al., 2004)."""
    data = load_diabetes(scaled=False)
    rows = (
        [*(float(x) for x in row), int(y)] for row, y in zip(data.data, data.target, strict=True)
    )
    return csv_of([*data.feature_names, "progression"], rows)


def mixed_wine() -> bytes:
    """Wine (UCI, CC BY 4.0) with two columns in words, one boolean, a time, and holes.

    alcohol and flavanoids become words by thirds, proline a boolean; every 9th hue and every 11th
    alcohol is missing.
    """
    data = load_wine()
    names = list(data.feature_names)
    header = [*names, "high_proline", "bottled", "cultivar"]
    thirds = {
        name: np.quantile(data.data[:, names.index(name)], [1 / 3, 2 / 3])
        for name in ("alcohol", "flavanoids")
    }
    rows = []
    for number, (values, target) in enumerate(zip(data.data, data.target, strict=True)):
        row: list[object] = [float(value) for value in values]
        for name, edges in thirds.items():
            position = names.index(name)
            row[position] = ("low", "medium", "high")[int(np.searchsorted(edges, values[position]))]
        if number % 9 == 0:
            row[names.index("hue")] = None
        if number % 11 == 0:
            row[names.index("alcohol")] = None
        proline = "true" if values[names.index("proline")] > 700 else "false"
        rows.append([*row, proline, "2001-02-03 04:05:06", f"class {target}"])
    return csv_of(header, rows)
