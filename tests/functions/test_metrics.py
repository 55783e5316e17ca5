import numpy as np
import pytest
from sklearn import metrics as sk

from sluice.ml.metrics import better, classification_scores, default_metric, regression_scores


def drawn(classes: int, rows: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    y = rng.integers(classes, size=rows)
    # Rounded, so that there are ties.
    raw = np.round(rng.random((rows, classes)) + 0.7 * np.eye(classes)[y], 1) + 0.01
    p = raw / raw.sum(axis=1, keepdims=True)
    return y, p.argmax(axis=1), p


def test_two_classes_score_as_in_scikit_learn() -> None:
    y, label, p = drawn(2)
    scores = classification_scores(y, label, p)
    assert scores["accuracy"] == pytest.approx(sk.accuracy_score(y, label))
    assert scores["f1"] == pytest.approx(sk.f1_score(y, label))
    assert scores["roc_auc"] == pytest.approx(sk.roc_auc_score(y, p[:, 1]))
    assert scores["log_loss"] == pytest.approx(sk.log_loss(y, p))


def test_more_classes_are_averaged_one_against_the_rest() -> None:
    y, label, p = drawn(4)
    scores = classification_scores(y, label, p)
    assert scores["f1"] == pytest.approx(sk.f1_score(y, label, average="macro"))
    assert scores["roc_auc"] == pytest.approx(sk.roc_auc_score(y, p, multi_class="ovr"))


def test_a_regression_scores_as_in_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=50)
    predicted = (y + rng.normal(size=50) / 3).astype(np.float32)
    scores = regression_scores(y, predicted)
    assert scores["rmse"] == pytest.approx(sk.root_mean_squared_error(y, predicted))
    assert scores["mae"] == pytest.approx(sk.mean_absolute_error(y, predicted))
    assert scores["r2"] == pytest.approx(sk.r2_score(y, predicted))


def test_what_can_not_be_said_is_left_out() -> None:
    y = np.zeros(3, dtype=np.int64)
    scores = classification_scores(y, y, np.full((3, 2), 0.5))
    assert "roc_auc" not in scores
    assert "r2" not in regression_scores(np.ones(3), np.ones(3))


def test_each_metric_knows_its_direction() -> None:
    assert better("roc_auc", 0.9, 0.8)
    assert not better("roc_auc", 0.8, 0.8)
    assert better("rmse", 1.0, 2.0)
    assert default_metric("classification", 2) == "roc_auc"
    assert default_metric("classification", 3) == "f1"
    assert default_metric("regression", 0) == "rmse"
