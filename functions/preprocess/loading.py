"""A dataset version as a table of what can be learned from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sluice.ml.errors import InvalidInputError, TooLargeError
from sluice.ml.registry import Registry
from sluice.ml.table import MISSING_TEXT, Column, Kind, Table

from .choosing import Choice, Dropped, choose
from .reading import read_columns
from .request import PreprocessRequest
from .target import TargetColumn, read_target

# Above it float32, which models take, no longer tells neighbouring integers apart.
_FLOAT32_INTEGERS: Final = 2**24
_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The rows that have a target, the columns left out, and notes for the caller."""

    version: int
    table: Table
    target: TargetColumn
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]


def load(registry: Registry, request: PreprocessRequest, max_cells: int) -> Loaded:
    """The dataset's table. Raises NotFoundError, InvalidInputError, TooLargeError."""
    dataset = registry.dataset(request.dataset, request.version)
    version = int(dataset["version"])
    choice = choose(dataset["columns"], request)
    _check_size(dataset["rows"], choice, max_cells)
    kinds = {**choice.columns, request.target: choice.target_kind}
    arrays = read_columns(registry, request.dataset, str(version), kinds)
    target = read_target(arrays.pop(request.target), choice.target_kind, request)
    values = {name: array[target.known] for name, array in arrays.items()}
    columns, dropped, notes = _columns(choice, values, request)
    table = _table(columns, values, target.y)
    return Loaded(version, table, target, (*choice.dropped, *dropped), (*target.notes, *notes))


def _check_size(rows: int, choice: Choice, max_cells: int) -> None:
    columns = len(choice.columns) + 1
    if rows * columns > max_cells:
        raise TooLargeError(
            f"{rows} rows x {columns} columns are over the limit of {max_cells} cells;"
            " choose fewer `columns`, or raise the function's max_cells and memory"
        )


def _columns(
    choice: Choice, values: Mapping[str, NDArray[Any]], request: PreprocessRequest
) -> tuple[tuple[Column, ...], list[Dropped], list[str]]:
    """The columns that hold something to learn, those dropped, and notes. A named one is refused
    instead.
    """
    columns, dropped, notes = [], [], []
    for name, kind in choice.columns.items():
        fault, note = _fault(kind, values[name], request.max_categories)
        if not fault:
            columns.append(_column(name, kind, values[name]))
            notes += [f"column {name!r}: {note}"] if note else []
        elif request.columns is None:
            dropped.append(Dropped(name, fault))
        else:
            raise InvalidInputError(f"column {name!r} can not be learned from: {fault}")
    if not columns:
        reasons = "; ".join(f"{d.column!r}: {d.reason}" for d in dropped)
        raise InvalidInputError(f"no column is left to learn from ({reasons})")
    return tuple(columns), dropped, notes


def _fault(kind: Kind, array: NDArray[Any], max_categories: int) -> tuple[str, str]:
    """Why a column can not be learned from, and a note where it can."""
    if kind == "string":
        different = set(array.tolist()) - {None, MISSING_TEXT}
        if len(different) > max_categories:
            return f"{len(different)} different texts, over max_categories {max_categories}", ""
        return ("" if different else "no value in any row"), ""
    present = array[~np.isnan(array)]
    if not len(present):
        return "no value in any row", ""
    largest = float(np.abs(present).max())
    if largest > _FLOAT32_MAX:
        return f"holds {largest:g}, beyond what float32 holds", ""
    if largest > _FLOAT32_INTEGERS and bool(np.all(present == np.round(present))):
        return (
            "",
            f"integers up to {largest:.0f} are rounded: float32 is exact to {_FLOAT32_INTEGERS}",
        )
    return "", ""


def _column(name: str, kind: Kind, array: NDArray[Any]) -> Column:
    if kind != "string":
        return Column(name, kind, bool(np.isnan(array).any()))
    categories = tuple(sorted({text or MISSING_TEXT for text in array.tolist()}))
    return Column(name, kind, MISSING_TEXT in categories, categories)


def _table(
    columns: tuple[Column, ...], values: Mapping[str, NDArray[Any]], y: NDArray[Any]
) -> Table:
    numbers = [values[c.name] for c in columns if c.kind != "string"]
    codes = [_codes(c, values[c.name]) for c in columns if c.kind == "string"]
    return Table(
        columns,
        np.stack(numbers, axis=1) if numbers else np.empty((len(y), 0), np.float64),
        np.stack(codes, axis=1) if codes else np.empty((len(y), 0), np.int32),
        y,
    )


def _codes(column: Column, texts: NDArray[Any]) -> NDArray[np.int32]:
    position = {text: code for code, text in enumerate(column.categories)}
    return np.array([position[text or MISSING_TEXT] for text in texts], dtype=np.int32)
