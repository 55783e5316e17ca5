"""Scores of predictions on held-out rows, and which way each is better. numpy alone."""

from collections.abc import Mapping
from typing import Any, Final

try:
    import numpy as np
    from numpy.typing import NDArray
except ModuleNotFoundError as error:
    from sluice.ml.missing import missing

    raise missing(__name__, error) from error

# Shares in [0, 1], but log_loss (nats), rmse and mae (units of y), r2 (at most 1).
HIGHER_IS_BETTER: Final[Mapping[str, bool]] = {
    "accuracy": True,
    "f1": True,
    "roc_auc": True,
    "log_loss": False,
    "rmse": False,
    "mae": False,
    "r2": True,
}


def default_metric(task: str, classes: int) -> str:
    """roc_auc for two classes, f1 (macro) for more, rmse for a regression."""
    if task == "regression":
        return "rmse"
    return "roc_auc" if classes == 2 else "f1"


def better(metric: str, score: float, than: float) -> bool:
    """Whether `score` is strictly better."""
    return score > than if HIGHER_IS_BETTER[metric] else score < than


def classification_scores(
    y: NDArray[np.int64], predicted: NDArray[np.int64], probabilities: NDArray[Any]
) -> dict[str, float]:
    """accuracy; f1 of class 1 of two, macro f1 of more; roc_auc, one against the rest and averaged
    for more than two classes, left out where a class has no row; log_loss in nats.

    y, predicted: int64 [rows] class codes. probabilities: [rows, classes].
    """
    classes = probabilities.shape[1]
    chosen = np.clip(probabilities[np.arange(len(y)), y].astype(np.float64), 1e-15, 1.0)
    scores = {
        "accuracy": float(np.mean(predicted == y)),
        "f1": _f1(y, predicted, classes),
        "log_loss": float(-np.mean(np.log(chosen))),
    }
    present = len(np.unique(y))
    if present == classes:
        codes = [1] if classes == 2 else list(range(classes))
        areas = [_roc_auc(y == code, probabilities[:, code]) for code in codes]
        scores["roc_auc"] = float(np.mean(areas))
    return scores


def regression_scores(y: NDArray[np.float64], predicted: NDArray[Any]) -> dict[str, float]:
    """Rmse and mae in units of y; r2, left out where y is constant. Both arrays: [rows]."""
    error = predicted.astype(np.float64) - y
    scores = {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
    }
    spread = float(np.sum((y - y.mean()) ** 2))
    if spread > 0:
        scores["r2"] = 1.0 - float(np.sum(error**2)) / spread
    return scores


def _f1(y: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> float:
    scores = []
    for code in [1] if classes == 2 else range(classes):
        hit = int(np.sum((y == code) & (predicted == code)))
        named = int(np.sum(y == code)) + int(np.sum(predicted == code))
        if named or classes == 2:
            scores.append(2 * hit / named if named else 0.0)
    return float(np.mean(scores))


def _roc_auc(positive: NDArray[np.bool_], score: NDArray[Any]) -> float:
    """The chance that a positive row scores above a negative one, ties counted half (Mann-Whitney
    U).
    """
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2.0)[inverse]
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    u = float(ranks[positive].sum()) - n_positive * (n_positive + 1) / 2
    return u / (n_positive * n_negative)
