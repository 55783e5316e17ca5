"""What a model takes and returns, as stored with its version."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

try:
    import numpy as np
    from numpy.typing import NDArray
except ModuleNotFoundError as error:
    from sluice.ml.missing import missing

    raise missing(__name__, error) from error

from sluice.ml.table import Column, Kind, Table

Task = Literal["classification", "regression"]
WHOLE: Final = "X"
DTYPES: Final[Mapping[str, type[np.floating[Any]]]] = {"FP32": np.float32, "FP64": np.float64}


class Input(NamedTuple):
    """One column of a model: the name callers use, and the tensor that carries it."""

    name: str
    kind: Kind
    missing: bool
    tensor: str


class Signature(NamedTuple):
    """Columns in order, the task, and for a classifier the class of each code.

    datatype: FP32 or FP64, of the numbers. All-numeric models take one tensor X [rows, columns]; a
    model with texts takes one tensor [rows, 1] a column. Datatype names: Open Inference Protocol
    v2.
    """

    task: Task
    target: str
    columns: tuple[Input, ...]
    datatype: str = "FP32"
    classes: tuple[str | int | bool, ...] = ()

    @property
    def dtype(self) -> type[np.floating[Any]]:
        return DTYPES[self.datatype]

    @property
    def single(self) -> bool:
        """Whether the model takes one tensor for all columns."""
        return all(column.tensor == WHOLE for column in self.columns)

    def feeds(self, table: Table) -> dict[str, NDArray[Any]]:
        """The tensors for the table's rows; columns are found by name. Raises KeyError for one it
        lacks.
        """
        named = dict(zip((c.name for c in table.columns), table.values(self.dtype), strict=True))
        if self.single:
            return {WHOLE: np.stack([named[c.name] for c in self.columns], axis=1)}
        return {c.tensor: named[c.name].reshape(-1, 1) for c in self.columns}

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "target": self.target,
            "columns": [
                {"name": c.name, "kind": c.kind, "missing": c.missing, "input": c.tensor}
                for c in self.columns
            ],
            "inputs": self._inputs(),
            "outputs": self._outputs(),
            "classes": list(self.classes),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Signature":
        """The signature in `value`. Raises KeyError, TypeError or ValueError where it is of another
        form.
        """
        columns = tuple(
            Input(c["name"], c["kind"], c["missing"], c["input"]) for c in value["columns"]
        )
        numeric = {i["datatype"] for i in value["inputs"]} & set(DTYPES)
        datatype = numeric.pop() if numeric else "FP32"
        if not columns:
            raise ValueError("a signature without columns")
        return cls(value["task"], value["target"], columns, datatype, tuple(value["classes"]))

    def _inputs(self) -> list[dict[str, Any]]:
        if self.single:
            return [{"name": WHOLE, "datatype": self.datatype, "shape": [-1, len(self.columns)]}]
        return [
            {
                "name": c.tensor,
                "datatype": "BYTES" if c.kind == "string" else self.datatype,
                "shape": [-1, 1],
            }
            for c in self.columns
        ]

    def _outputs(self) -> list[dict[str, Any]]:
        if self.task == "regression":
            return [{"name": "variable", "datatype": self.datatype, "shape": [-1, 1]}]
        return [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(self.classes)]},
        ]


def inputs_of(columns: Sequence[Column]) -> tuple[Input, ...]:
    """The tensors of columns: X for all when every one is numeric, else c0, c1, ...

    Column names do not become tensor names: converters rewrite those that are not identifiers.
    """
    mixed = any(column.kind == "string" for column in columns)
    return tuple(
        Input(c.name, c.kind, c.missing, f"c{position}" if mixed else WHOLE)
        for position, c in enumerate(columns)
    )
