"""Fits an estimator on a feature set's training rows, behind the feature set's transformer."""

import io
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import joblib
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from sluice.ml.errors import ConflictError
from sluice.ml.featureset import FeatureSet
from sluice.ml.registry import Registry
from sluice.ml.table import Table

from .algorithms import ALGORITHMS, estimator
from .request import TrainRequest

DType = type[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted pipeline of transformer and estimator, and what the fit warned of."""

    pipeline: Pipeline
    notes: tuple[str, ...]


def fit(
    request: TrainRequest, feature_set: FeatureSet, transformer: Any, train: Table, dtype: DType
) -> Fitted:
    """Fit on what the model will be served, so that thresholds lie between values it will see."""
    unfitted = estimator(request.algorithm, feature_set.task, request.parameters, request.seed)
    _leave_out(transformer, "scale" if ALGORITHMS[request.algorithm].tree else "impute", train)
    x = transformer.transform(train.matrix(dtype))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        unfitted.fit(x, train.y)
    _round_thresholds(unfitted)
    return Fitted(Pipeline([("columns", transformer), ("estimator", unfitted)]), _notes(caught))


def read_transformer(registry: Registry, feature_set: FeatureSet) -> Any:
    """The transformer that preprocess fitted.

    It is a pickle: it comes from the registry, to which only functions and the operator may write,
    its sha256 is verified, and one of another scikit-learn is refused with ConflictError.
    """
    made_by, here = feature_set.libraries.get("scikit-learn"), version("scikit-learn")
    if made_by != here:
        raise ConflictError(
            f"feature set {feature_set.id!r} was made with scikit-learn {made_by}, here is {here}:"
            " deploy preprocess and train from the same requirements and run preprocess again"
        )
    return joblib.load(io.BytesIO(registry.artifact(feature_set.artifacts["transformer"])))


def _leave_out(transformer: Any, step: str, train: Table) -> None:
    """Take a step that changes nothing out of a fitted transformer's numeric parts.

    scale: a tree is the same without it, and comparing the float32 that came with a threshold is
    exact, while onnxruntime and scikit-learn round a scaled value differently: enough to cross a
    split. impute, where no column has a missing value: onnxruntime has it for float32 alone.
    """
    if step == "impute" and any(c.missing for c in train.columns if c.kind != "string"):
        return
    for _, part, _ in transformer.transformers_:
        if isinstance(part, Pipeline):
            part.steps = [one for one in part.steps if one[0] != step]


def _round_thresholds(estimator: Any) -> None:
    """Round a histogram booster's float64 thresholds down to float32.

    For float32 values `x <= threshold` stays what it was. The converter rounds to the nearest, and
    data on a decimal grid, where thresholds fall on values, then takes the other branch.
    """
    for predictors in getattr(estimator, "_predictors", ()):
        for predictor in predictors:
            exact = predictor.nodes["num_threshold"]
            rounded = exact.astype(np.float32)
            below = np.nextafter(rounded, np.float32(-np.inf))
            predictor.nodes["num_threshold"] = np.where(rounded > exact, below, rounded)


def _notes(caught: list[warnings.WarningMessage]) -> tuple[str, ...]:
    kinds = (ConvergenceWarning, RuntimeWarning)
    texts = [str(w.message).splitlines()[0] for w in caught if issubclass(w.category, kinds)]
    return tuple(dict.fromkeys(texts))
