import io
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from tests.functions.conftest import RuntimeConfig, made
from tests.functions.data import csv_of

CLASSIFIERS = ("logistic", "random_forest", "extra_trees", "hist_gradient_boosting")
REGRESSORS = ("ridge", "linear", "random_forest", "extra_trees", "hist_gradient_boosting")


def check_parity(parity: dict[str, Any]) -> None:
    assert parity["passed"]
    assert parity["empty_batch"]
    assert parity["rows"] > 30
    assert parity["edge_rows"] >= 70
    assert parity["label_mismatches"] == 0
    assert parity["max_probability_gap"] <= 1e-5
    assert parity["max_relative_error"] <= 1e-5


@pytest.mark.parametrize("algorithm", CLASSIFIERS)
def test_two_classes_of_numbers_train_convert_and_agree(
    runtime_config: RuntimeConfig, cancer: dict[str, Any], algorithm: str
) -> None:
    response = runtime_config.trained(cancer["feature_set"], f"cancer-{algorithm}", algorithm)
    check_parity(response["parity"])
    assert response["version"] == "1"
    assert response["metrics"]["roc_auc"] > 0.97
    assert response["metrics"]["train_accuracy"] > 0.97


@pytest.mark.parametrize("algorithm", CLASSIFIERS)
def test_three_classes_of_mixed_columns_train_convert_and_agree(
    runtime_config: RuntimeConfig, wine: dict[str, Any], algorithm: str
) -> None:
    response = runtime_config.trained(wine["feature_set"], f"wine-{algorithm}", algorithm)
    check_parity(response["parity"])
    assert response["metrics"]["accuracy"] > 0.9


@pytest.mark.parametrize("algorithm", REGRESSORS)
def test_a_regression_trains_converts_and_agrees(
    runtime_config: RuntimeConfig, progression: dict[str, Any], algorithm: str
) -> None:
    response = runtime_config.trained(
        progression["feature_set"], f"diabetes-{algorithm}", algorithm
    )
    check_parity(response["parity"])
    assert 40 < response["metrics"]["rmse"] < 75
    assert 0.05 < response["metrics"]["r2"] < 0.6


def test_metrics_are_those_of_scikit_learn_on_the_held_out_rows(
    runtime_config: RuntimeConfig, cancer: dict[str, Any]
) -> None:
    response = runtime_config.trained(
        cancer["feature_set"], "cancer-own", "logistic", parameters={"C": 0.5}
    )
    registry = runtime_config.train.REGISTRY
    files = registry.feature_set(cancer["feature_set"])["artifacts"]
    arrays = {
        name: np.load(io.BytesIO(registry.artifact(files[name]))) for name in ("train", "test")
    }
    transformer = joblib.load(io.BytesIO(registry.artifact(files["transformer"])))
    x = {n: transformer.transform(a["numbers"].astype(np.float32)) for n, a in arrays.items()}
    model = LogisticRegression(C=0.5, max_iter=1000).fit(x["train"], arrays["train"]["y"])
    p = model.predict_proba(x["test"])
    y = arrays["test"]["y"]
    assert response["metrics"]["roc_auc"] == pytest.approx(roc_auc_score(y, p[:, 1]), abs=1e-9)
    assert response["metrics"]["log_loss"] == pytest.approx(log_loss(y, p), rel=1e-4)


def test_a_version_carries_where_it_came_from(
    runtime_config: RuntimeConfig, wine: dict[str, Any]
) -> None:
    response = runtime_config.trained(
        wine["feature_set"],
        "wine-lineage",
        "random_forest",
        parameters={"n_estimators": 7, "max_depth": 3},
        seed=9,
        tags={"team": "cellar"},
    )
    _, version = runtime_config.registry("GET", "/models/wine-lineage/versions/1")
    assert (version["dataset"], version["dataset_version"]) == ("wine", 1)
    assert version["feature_set"] == wine["feature_set"]
    assert version["run"] == response["run"]
    assert version["tags"] == {"team": "cellar"}
    assert version["parity"]["passed"] is True
    assert version["framework"]["target_opset"] == {"": 18, "ai.onnx.ml": 3}
    assert {"scikit-learn", "skl2onnx", "onnx", "onnxruntime"} < version["framework"].keys()
    signature = version["signature"]
    assert signature["classes"] == ["class 0", "class 1", "class 2"]
    assert signature["inputs"][0] == {"name": "c0", "datatype": "BYTES", "shape": [-1, 1]}
    assert signature["inputs"][1] == {"name": "c1", "datatype": "FP32", "shape": [-1, 1]}
    _, run = runtime_config.registry("GET", f"/runs/{response['run']}")
    assert run["status"] == "finished"
    assert run["params"]["n_estimators"] == 7
    assert run["params"]["seed"] == 9
    assert run["metrics"]["accuracy"] == response["metrics"]["accuracy"]
    assert run["metrics"]["fit_seconds"] > 0
    assert run["artifacts"]["model.onnx"] == version["artifact"]
    assert run["inputs"]["feature_set"] == wine["feature_set"]


@pytest.mark.parametrize("algorithm", ["logistic", "random_forest", "hist_gradient_boosting"])
def test_a_repeated_call_with_one_key_registers_one_version(
    runtime_config: RuntimeConfig, cancer: dict[str, Any], algorithm: str
) -> None:
    """The bytes of the model must be the same, or the registry refuses the key's second use."""
    body = {"feature_set": cancer["feature_set"], "model": f"once-{algorithm}"}
    body |= {"algorithm": algorithm}
    key = {"idempotency-key": f"run-2/train/{algorithm}"}
    first = runtime_config.ok(runtime_config.train, body, headers=key)
    again = runtime_config.ok(runtime_config.train, body, headers=key)
    assert (
        (again["version"], again["run"]) == (first["version"], first["run"]) == ("1", first["run"])
    )
    assert runtime_config.ok(runtime_config.train, body)["version"] == "2"


def test_a_model_that_float32_changes_is_refused_with_its_numbers(
    runtime_config: RuntimeConfig,
) -> None:
    """Neighbouring integers above 2^24 are one float32, and the classes alternate with them."""
    rows = [[2**24 + number, "ab"[number // 2 % 2]] for number in range(120)]
    feature_set = made(runtime_config, "identifiers", csv_of(["id", "kind"], rows), "kind")[
        "feature_set"
    ]
    body = {
        "feature_set": feature_set,
        "model": "identifiers",
        "algorithm": "hist_gradient_boosting",
        "parameters": {"min_samples_leaf": 1, "max_leaf_nodes": 200},
    }
    status, response = runtime_config.call(runtime_config.train, body)
    assert status == 422
    assert "the ONNX model is not the trained pipeline: float32 changes" in response["error"]
    assert runtime_config.registry("GET", "/models/identifiers")[0] == 404
    _, listed = runtime_config.registry("GET", "/runs?experiment=identifiers")
    assert [run["status"] for run in listed["runs"]] == ["failed"]
    assert listed["runs"][0]["error"] == response["error"]


def test_a_linear_model_too_coarse_in_float32_is_served_in_float64(
    runtime_config: RuntimeConfig,
) -> None:
    """A small spread upon a large offset: float32 keeps one digit of it."""
    rows = [[100_000 + number / 1000, number + 0.5] for number in range(200)]
    feature_set = made(runtime_config, "offset", csv_of(["x", "y"], rows), "y")["feature_set"]
    response = runtime_config.trained(feature_set, "offset", "linear")
    check_parity(response["parity"])
    assert response["metrics"]["rmse"] < 1e-3
    _, version = runtime_config.registry("GET", "/models/offset/versions/1")
    assert version["signature"]["inputs"][0]["datatype"] == "FP64"


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "field 'model': expected letters"),
        ({"model": "a/b"}, 400, "field 'model': expected letters"),
        (
            {"model": "m", "algorithm": "svm"},
            400,
            "field 'algorithm': expected one of \"logistic\"",
        ),
        (
            {"model": "m", "algorithm": "ridge"},
            400,
            "field 'algorithm': 'ridge' is not for a classification, which the feature set is;",
        ),
        (
            {"model": "m", "algorithm": "random_forest", "parameters": {"n_estimators": 0}},
            400,
            "field parameters.'n_estimators': expected an integer from 1 to 1000, got 0",
        ),
        (
            {"model": "m", "algorithm": "random_forest", "parameters": {"n_estimators": 10.0}},
            400,
            "field parameters.'n_estimators': expected an integer from 1 to 1000, got 10.0",
        ),
        (
            {"model": "m", "algorithm": "logistic", "parameters": {"C": "1"}},
            400,
            "field parameters.'C': expected a number from 1e-06 to 1e+06, got \"1\"",
        ),
        (
            {"model": "m", "algorithm": "logistic", "parameters": {"n_jobs": 2}},
            400,
            "unknown field parameters.'n_jobs'; known: C, max_iter, class_weight",
        ),
        (
            {"model": "m", "algorithm": "logistic", "parameters": []},
            400,
            "field 'parameters': expected an object, got []",
        ),
        ({"model": "m", "algorithm": "logistic", "feature_set": "0" * 24}, 404, "0000"),
        (
            {"model": "m", "algorithm": "logistic", "feature_set": "../runs"},
            400,
            "field 'feature_set'",
        ),
        (
            {"model": "m", "algorithm": "logistic", "tags": {"a": 1}},
            400,
            "field 'tags': expected an object of texts",
        ),
        (
            {"model": "m", "algorithm": "logistic", "epochs": 1},
            400,
            "unknown field 'epochs'; known: model, algorithm",
        ),
    ],
)
def test_bad_input_is_refused_by_name_and_leaves_no_run(
    runtime_config: RuntimeConfig,
    cancer: dict[str, Any],
    body: dict[str, Any],
    status: int,
    error: str,
) -> None:
    body = {"feature_set": cancer["feature_set"], **body}
    got, response = runtime_config.call(runtime_config.train, body)
    assert got == status, response
    assert error in response["error"]
    assert runtime_config.registry("GET", "/runs?experiment=m")[1]["runs"] == []


def test_a_fit_that_does_not_converge_is_told(
    runtime_config: RuntimeConfig, cancer: dict[str, Any]
) -> None:
    response = runtime_config.trained(
        cancer["feature_set"], "hasty", "logistic", parameters={"max_iter": 1}
    )
    assert "failed to converge" in response["notes"][0]


def test_a_transformer_of_another_scikit_learn_is_refused(
    runtime_config: RuntimeConfig, cancer: dict[str, Any]
) -> None:
    _, kept = runtime_config.registry("GET", f"/feature-sets/{cancer['feature_set']}")
    kept["spec"]["libraries"]["scikit-learn"] = "0.1"
    fields = ("dataset", "version", "target", "task", "spec", "artifacts")
    _, other = runtime_config.registry(
        "POST", "/feature-sets", {name: kept[name] for name in fields}
    )
    body = {"feature_set": other["id"], "model": "m", "algorithm": "logistic"}
    status, response = runtime_config.call(runtime_config.train, body)
    assert status == 409
    assert "was made with scikit-learn 0.1, here is" in response["error"]
