"""Whether the ONNX model agrees with the pipeline, in numbers that are kept with the version."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from sluice.ml.errors import UnprocessableError
from sluice.ml.session import LoadError, load_session, run_model
from sluice.ml.signature import Signature
from sluice.ml.table import Table

from .edges import edge_rows

TOLERANCE: Final = 1e-5
MAX_FLIP_SHARE: Final = 1e-3
MAX_FLOAT64_ERROR: Final = 1e-2


@dataclass(frozen=True, slots=True)
class Parity:
    """ONNX against scikit-learn fed the same float32, on held-out and edge rows; and how much
    float32 itself changes.

    label_mismatches: rows whose label differs; ties: such rows whose two best probabilities are
    within the tolerance, which are not counted. max_probability_gap: absolute. max_relative_error:
    of a regression, relative to the larger of the value and the target's standard deviation.
    float64_flips: held-out rows whose label changes when scikit-learn gets float64; float64_error:
    mean change of such a value, or of a probability. A mean, because with any tree a few rows lie
    on a threshold.
    """

    rows: int
    edge_rows: int
    empty_batch: bool
    tolerance: float
    label_mismatches: int = 0
    ties: int = 0
    max_probability_gap: float = 0.0
    max_relative_error: float = 0.0
    float64_flips: int = 0
    float64_error: float = 0.0

    @property
    def faults(self) -> tuple[str, ...]:
        """What keeps the model from being registered, in words and numbers."""
        flips = max(1, int(self.rows * MAX_FLIP_SHARE))
        all_rows = self.rows + self.edge_rows
        gap, error = f"{self.max_probability_gap:.3g}", f"{self.max_relative_error:.3g}"
        change = f"{self.float64_error:.3g} in the mean"
        # Written as what must hold, so that a NaN is a fault.
        checks = (
            (self.empty_batch, "an empty batch does not give an empty answer"),
            (self.label_mismatches == 0, f"{self.label_mismatches} of {all_rows} labels differ"),
            (self.max_probability_gap <= TOLERANCE, f"probabilities differ by up to {gap}"),
            (self.max_relative_error <= TOLERANCE, f"values differ by up to {error} relatively"),
            (self.float64_flips <= flips, f"float32 changes {self.float64_flips} labels"),
            (self.float64_error <= MAX_FLOAT64_ERROR, f"float32 changes values by {change}"),
        )
        return tuple(text for passed, text in checks if not passed)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": not self.faults}


@dataclass(frozen=True, slots=True)
class Converted:
    """A model and the signature it was converted with."""

    content: bytes
    signature: Signature


def check_parity(
    pipeline: Pipeline, converted: Converted, train: Table, test: Table, seed: int
) -> Parity:
    """Compare on the held-out rows, the edge rows of `seed` and an empty batch.

    Raises UnprocessableError where the model does not load.
    """
    edges = edge_rows(train, seed)
    try:
        session = load_session(converted.content)
    except LoadError as error:
        raise UnprocessableError(
            f"onnxruntime can not load the converted model: {error}"
        ) from error
    none = np.empty(0, dtype=np.int64)
    signature = converted.signature
    empty, _ = run_model(session, signature, signature.feeds(test.rows(none)))
    got = [run_model(session, signature, signature.feeds(table)) for table in (test, edges)]
    wanted = [_expected(pipeline, table.matrix(signature.dtype)) for table in (test, edges)]
    exact = _expected(pipeline, test.matrix(np.float64))
    if signature.task == "classification":
        found = _compare_labels(got, wanted, exact)
    else:
        found = _compare_values(got, wanted, exact, float(np.std(train.y)))
    return Parity(len(test), len(edges), empty.size == 0, TOLERANCE, **found)


# Labels and probabilities, or values and nothing.
Output = tuple[NDArray[Any], Any]


def _expected(pipeline: Pipeline, x: NDArray[Any]) -> Output:
    if hasattr(pipeline[-1], "predict_proba"):
        probabilities = pipeline.predict_proba(x)
        return pipeline[-1].classes_[probabilities.argmax(axis=1)], probabilities
    return pipeline.predict(x), None


def _compare_labels(got: list[Output], wanted: list[Output], exact: Output) -> dict[str, Any]:
    mismatches = ties = 0
    gaps = []
    for (label, probabilities), (expected, p) in zip(got, wanted, strict=True):
        if p is None or probabilities is None:
            raise UnprocessableError("the converted model answers no probabilities")
        gaps.append(_largest(np.abs(probabilities - p)))
        differ = label != expected
        top = np.sort(p, axis=1)
        tied = top[:, -1] - top[:, -2] <= TOLERANCE
        mismatches += int(np.sum(differ & ~tied))
        ties += int(np.sum(differ & tied))
    return {
        "label_mismatches": mismatches,
        "ties": ties,
        "max_probability_gap": float(np.max(gaps)),
        "float64_flips": int(np.sum(exact[0] != wanted[0][0])),
        "float64_error": float(np.abs(exact[1] - wanted[0][1]).mean()),
    }


def _compare_values(
    got: list[Output], wanted: list[Output], exact: Output, spread: float
) -> dict[str, Any]:
    errors = [_relative(a[0], b[0], spread) for a, b in zip(got, wanted, strict=True)]
    change = _relative(wanted[0][0], exact[0], spread)
    return {
        "max_relative_error": float(np.max([_largest(error) for error in errors])),
        "float64_error": float(change.mean()),
    }


def _relative(value: NDArray[Any], expected: NDArray[Any], spread: float) -> NDArray[Any]:
    error: NDArray[Any] = np.abs(value - expected) / np.maximum(np.abs(expected), spread)
    return error


def _largest(values: NDArray[Any]) -> float:
    return float(values.max()) if values.size else 0.0
