"""Rows of a dataset version, from its Parquet file, which is kept between calls."""

import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb

from sluice.ml.errors import InvalidInputError
from sluice.ml.registry import Registry

KEPT: Final = 4  # files of dataset versions
TYPES: Final = {"string": "VARCHAR", "boolean": "BOOLEAN", "number": "DOUBLE"}
CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {
    "threads": 1,  # so that rows keep the file's order
    "autoinstall_known_extensions": False,
}


class Datasets:
    """Dataset versions as files. folder: may be emptied at any time."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self._registry, self._folder = registry, folder
        self._fetching = threading.Lock()

    def rows(
        self,
        dataset: str,
        version: str,
        columns: Sequence[Mapping[str, Any]],
        offset: int,
        count: int,
    ) -> list[list[Any]]:
        """Rows of the columns of a model's signature; None where missing.

        Raises NotFoundError, InvalidInputError naming a column that the dataset does not have.
        """
        found_version = self._registry.dataset(dataset, version)
        known = {column["name"] for column in found_version["columns"]}
        for column in columns:
            if column["name"] not in known:
                raise InvalidInputError(
                    f"dataset {dataset!r} version {found_version['version']} has no column"
                    f" {column['name']!r}, which the model takes"
                )
        selected = ", ".join(
            f"CAST({_quoted(column['name'])} AS {TYPES[column['kind']]})" for column in columns
        )
        path = self._file(
            dataset, str(found_version["version"]), found_version["files"]["parquet"]["sha256"]
        )
        query = f"SELECT {selected} FROM read_parquet(?) LIMIT ? OFFSET ?"  # noqa: S608 - quoted
        with duckdb.connect(config=CONFIG) as connection:
            found = connection.execute(query, [str(path), count, offset]).fetchall()
        return [[_plain(value) for value in row] for row in found]

    def _file(self, dataset: str, version: str, sha256: str) -> Path:
        path = self._folder / f"{sha256}.parquet"
        with self._fetching:
            if path.exists():
                os.utime(path)
                return path
            self._folder.mkdir(parents=True, exist_ok=True)
            # Other replicas share the folder, and each of them is process 1 of its own.
            handle, draft = tempfile.mkstemp(dir=self._folder, prefix=".new-")
            try:
                with os.fdopen(handle, "w+b") as file:
                    self._registry.dataset_parquet(dataset, version, file)
                Path(draft).replace(path)
            except BaseException:
                Path(draft).unlink(missing_ok=True)
                raise
            self._forget_old()
        return path

    def _forget_old(self) -> None:
        files = sorted(self._folder.glob("*.parquet"), key=lambda one: one.stat().st_mtime)
        for old in files[:-KEPT]:
            old.unlink(missing_ok=True)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _plain(value: Any) -> Any:
    # JSON has no NaN: as for the model, it is a missing value.
    return None if isinstance(value, float) and value != value else value  # noqa: PLR0124
