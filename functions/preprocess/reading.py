"""Reads columns of a dataset version's Parquet file as numpy arrays.

The reader is DuckDB: one package of 66 MB that returns numpy arrays with masks for nulls; Arrow's
wheel is 166 MB, and the registry wrote the file with DuckDB.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from sluice.ml.registry import Registry
from sluice.ml.table import Kind


def read_columns(
    registry: Registry, dataset: str, version: str, kinds: Mapping[str, Kind]
) -> dict[str, NDArray[Any]]:
    """Each column [rows] in file order: float64 with NaN if missing, texts as objects with None."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dataset.parquet"
        with path.open("w+b") as file:
            registry.dataset_parquet(dataset, version, file)
        return _fetch(str(path), kinds)


def _fetch(path: str, kinds: Mapping[str, Kind]) -> dict[str, NDArray[Any]]:
    selected = ", ".join(
        f"CAST({_quoted(name)} AS {'VARCHAR' if kind == 'string' else 'DOUBLE'}) AS c{position}"
        for position, (name, kind) in enumerate(kinds.items())
    )
    # One thread keeps the rows in the file's order, on which the seeded split depends.
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "autoinstall_known_extensions": False,
    }
    with duckdb.connect(config=config) as connection:
        arrays: Mapping[str, Any] = connection.execute(
            f"SELECT {selected} FROM read_parquet(?)",  # noqa: S608 - every name is quoted
            [path],
        ).fetchnumpy()
    return {name: _filled(array) for name, array in zip(kinds, arrays.values(), strict=True)}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _filled(array: NDArray[Any]) -> NDArray[Any]:
    if not isinstance(array, np.ma.MaskedArray):
        return array
    # Not `filled`: to it None means the default, which is "?" for objects.
    plain = np.array(array.data)
    plain[np.ma.getmaskarray(array)] = None if array.dtype == object else np.nan
    return plain
