"""Rows of a feature set: numbers and text codes in arrays, saved as npz without pickle."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

try:
    import numpy as np
    from numpy.typing import NDArray
except ModuleNotFoundError as error:
    from sluice.ml.missing import missing

    raise missing(__name__, error) from error

Kind = Literal["number", "boolean", "string"]
MISSING_TEXT: Final = ""


class Column(NamedTuple):
    """A column that a model takes.

    missing: whether a missing value is taken. categories: the texts of a string column over all
    rows, sorted; a missing text is the empty one, since ONNX has no missing string.
    """

    name: str
    kind: Kind
    missing: bool = False
    categories: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        plain = {"name": self.name, "kind": self.kind, "missing": self.missing}
        return plain | ({"categories": list(self.categories)} if self.kind == "string" else {})

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Column":
        return cls(
            value["name"], value["kind"], value["missing"], tuple(value.get("categories", ()))
        )


@dataclass(frozen=True, slots=True)
class Table:
    """Rows by column.

    numbers: float64 [rows, number and boolean columns], NaN where missing. codes: int32 [rows,
    string columns], positions in the column's categories. y: int64 [rows] class codes, or float64
    [rows]. Both arrays keep the order of `columns`.
    """

    columns: tuple[Column, ...]
    numbers: NDArray[np.float64]
    codes: NDArray[np.int32]
    y: NDArray[Any]

    def __len__(self) -> int:
        return int(self.numbers.shape[0])

    @property
    def mixed(self) -> bool:
        """Whether there is a string column, so that a model takes one tensor a column."""
        return any(column.kind == "string" for column in self.columns)

    def values(self, dtype: type[np.floating[Any]]) -> list[NDArray[Any]]:
        """One array [rows] a column: numbers rounded to `dtype`, texts as objects."""
        numbers = self.numbers.astype(dtype)
        arrays: list[NDArray[Any]] = []
        number = text = 0
        for column in self.columns:
            if column.kind == "string":
                categories = np.array(column.categories, dtype=object)
                arrays.append(categories[self.codes[:, text]])
                text += 1
            else:
                arrays.append(numbers[:, number])
                number += 1
        return arrays

    def matrix(self, dtype: type[np.floating[Any]]) -> NDArray[Any]:
        """What scikit-learn takes: [rows, columns] of `dtype`; of objects where there are texts."""
        if not self.mixed:
            return self.numbers.astype(dtype)
        matrix = np.empty((len(self), len(self.columns)), dtype=object)
        for position, array in enumerate(self.values(dtype)):
            matrix[:, position] = array
        return matrix

    def rows(self, chosen: NDArray[np.int64]) -> "Table":
        """The rows at the positions `chosen`."""
        return Table(self.columns, self.numbers[chosen], self.codes[chosen], self.y[chosen])

    def to_npz(self) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, numbers=self.numbers, codes=self.codes, y=self.y)
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, content: bytes, columns: Sequence[Column]) -> "Table":
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(tuple(columns), arrays["numbers"], arrays["codes"], arrays["y"])
