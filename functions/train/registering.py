"""From a fitted pipeline to a registered model version."""

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from sluice.ml.errors import UnprocessableError
from sluice.ml.featureset import FeatureSet
from sluice.ml.metrics import classification_scores, regression_scores
from sluice.ml.session import load_session, run_model
from sluice.ml.signature import Signature, inputs_of
from sluice.ml.table import Table

from .algorithms import ALGORITHMS
from .converting import TARGET_OPSET, to_onnx
from .fitting import fit
from .parity import Converted, Parity, check_parity
from .request import TrainRequest

LIBRARIES: Final = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True, slots=True)
class Checked:
    """A converted model that agrees with its pipeline; seconds and warnings of the fit."""

    converted: Converted
    parity: Parity
    seconds: float
    notes: tuple[str, ...]


def fit_checked(
    request: TrainRequest, feature_set: FeatureSet, transformer: Any, train: Table, test: Table
) -> Checked:
    """A fit on float32 as ONNX; on float64 where that is too coarse and the model is linear.

    onnxruntime's tree operators return float32 only, so trees are not tried again.
    Raises UnprocessableError with the numbers of the float32 model.
    """
    faults: tuple[str, ...] = ()
    for datatype in ("FP32",) if ALGORITHMS[request.algorithm].tree else ("FP32", "FP64"):
        signature = Signature(
            feature_set.task,
            feature_set.target,
            inputs_of(feature_set.columns),
            datatype,
            feature_set.classes,
        )
        begun = time.monotonic()
        fitted = fit(request, feature_set, transformer, train, signature.dtype)
        seconds = time.monotonic() - begun
        try:
            converted = Converted(to_onnx(fitted.pipeline, signature), signature)
            parity = check_parity(fitted.pipeline, converted, train, test, request.seed)
        except UnprocessableError:
            if faults:
                break
            raise
        if not parity.faults:
            return Checked(converted, parity, seconds, fitted.notes)
        faults = faults or parity.faults
    raise UnprocessableError(f"the ONNX model is not the trained pipeline: {'; '.join(faults)}")


def scores(converted: Converted, table: Table) -> dict[str, float]:
    """Metrics of the ONNX model, which is what will be served, on a table's rows."""
    session = load_session(converted.content)
    signature = converted.signature
    predicted, probabilities = run_model(session, signature, signature.feeds(table))
    if probabilities is None:
        return regression_scores(table.y, predicted)
    return classification_scores(table.y, predicted, probabilities)


def version_body(
    request: TrainRequest, feature_set: FeatureSet, checked: Checked, metrics: Mapping[str, float]
) -> dict[str, Any]:
    """What the registry keeps of a version, except its run and its artifact."""
    libraries = {name: version(name) for name in LIBRARIES}
    return {
        "signature": checked.converted.signature.to_json(),
        "metrics": dict(metrics),
        "parity": checked.parity.to_json(),
        "dataset": feature_set.dataset,
        "dataset_version": feature_set.version,
        "feature_set": feature_set.id,
        "framework": {
            "python": platform.python_version(),
            **libraries,
            "algorithm": request.algorithm,
            "target_opset": dict(TARGET_OPSET),
        },
        "tags": request.tags,
    }
