"""The target: which task it makes, and the values to learn."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sluice.ml.errors import InvalidInputError
from sluice.ml.signature import Task
from sluice.ml.table import Kind

from .request import PreprocessRequest

MAX_GUESSED_CLASSES: Final = 20
MAX_CLASSES: Final = 1000


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """y: int64 [known rows] positions in `classes`, or float64 [known rows]. known: bool [rows]."""

    task: Task
    reason: str
    classes: tuple[str | int | bool, ...]
    y: NDArray[Any]
    known: NDArray[np.bool_]

    @property
    def notes(self) -> tuple[str, ...]:
        absent = int(np.sum(~self.known))
        return (f"{absent} rows without a target were left out",) if absent else ()


def read_target(values: NDArray[Any], kind: Kind, request: PreprocessRequest) -> TargetColumn:
    """The target's values as the task needs them. Raises InvalidInputError where they do not fit
    it.

    values: float64 [rows] with NaN, or objects [rows] with None.
    """
    if kind == "string":
        known = np.array([value is not None for value in values], dtype=np.bool_)
    else:
        known = ~np.isnan(values)
    present = values[known]
    if not len(present):
        raise InvalidInputError(f"target {request.target!r} has no value in any row")
    task, reason = _task(present, kind, request)
    if task == "regression":
        if not np.isfinite(present).all():
            raise InvalidInputError(f"target {request.target!r} holds an infinite value")
        return TargetColumn(task, reason, (), present.astype(np.float64), known)
    found, codes = np.unique(present, return_inverse=True)
    if not 2 <= len(found) <= MAX_CLASSES:
        raise InvalidInputError(
            f"target {request.target!r}: expected 2 to {MAX_CLASSES} classes, got {len(found)}"
        )
    classes = tuple(_class(value, kind) for value in found.tolist())
    return TargetColumn(task, reason, classes, codes.astype(np.int64), known)


def _task(present: NDArray[Any], kind: Kind, request: PreprocessRequest) -> tuple[Task, str]:
    """The requested task if the values allow it, else the one they suggest; and why."""
    integers = kind == "number" and bool(np.all(present == np.round(present)))
    if request.task == "regression":
        if kind != "number":
            raise InvalidInputError(
                f"target {request.target!r}: a regression expects numbers, got {kind} values"
            )
        return "regression", "as asked"
    if request.task == "classification":
        if kind == "number" and not integers:
            raise InvalidInputError(
                f"target {request.target!r}: a classification expects texts, booleans or integers,"
                " got numbers with fractions"
            )
        return "classification", "as asked"
    if kind != "number":
        return "classification", f"the target holds {kind} values"
    different = len(np.unique(present))
    if integers and different <= MAX_GUESSED_CLASSES:
        return (
            "classification",
            f"the target holds {different} different integers, at most {MAX_GUESSED_CLASSES}",
        )
    what = (
        f"{different} different integers, over {MAX_GUESSED_CLASSES}" if integers else "fractions"
    )
    return "regression", f"the target holds {what}"


def _class(value: Any, kind: Kind) -> str | int | bool:
    if kind == "string":
        return str(value)
    return bool(value) if kind == "boolean" else int(value)
