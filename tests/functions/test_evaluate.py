from typing import Any

import pytest

from tests.functions.conftest import RuntimeConfig, made
from tests.functions.data import BREAST_CANCER


@pytest.fixture(scope="module")
def rivals(runtime_config: RuntimeConfig, cancer: dict[str, Any]) -> str:
    """Model `rivals`: version 1 is poor, version 2 good, version 3 the same as 2."""
    poor = {"n_estimators": 1, "max_depth": 1}
    runtime_config.trained(cancer["feature_set"], "rivals", "random_forest", parameters=poor)
    for _ in range(2):
        runtime_config.trained(cancer["feature_set"], "rivals", "logistic")
    return "rivals"


def alias(runtime_config: RuntimeConfig, model: str, name: str) -> int | None:
    status, response = runtime_config.registry("GET", f"/models/{model}/aliases/{name}")
    return response["version"] if status == 200 else None


def test_the_first_candidate_becomes_champion_and_only_a_better_one_replaces_it(
    runtime_config: RuntimeConfig, rivals: str
) -> None:
    first = runtime_config.ok(runtime_config.evaluate, {"model": rivals, "candidates": [1]})
    assert (first["moved"], first["champion"], first["previous"]) == (True, "1", None)
    better = runtime_config.ok(runtime_config.evaluate, {"model": rivals, "candidates": [2]})
    assert (better["moved"], better["champion"], better["previous"]) == (True, "2", "1")
    assert better["metric"] == "roc_auc"
    scores = {row["version"]: row["metrics"]["roc_auc"] for row in better["table"]}
    assert scores["2"] > scores["1"]
    equal = runtime_config.ok(runtime_config.evaluate, {"model": rivals})
    assert (equal["moved"], equal["champion"]) == (False, "2")
    assert "is not better than" in equal["reason"]
    worse = runtime_config.ok(runtime_config.evaluate, {"model": rivals, "candidates": ["1"]})
    assert (worse["moved"], worse["champion"]) == (False, "2")
    itself = runtime_config.ok(runtime_config.evaluate, {"model": rivals, "candidates": [2]})
    assert itself["moved"] is False
    assert itself["reason"].endswith("of version 2 is the champion's")
    assert alias(runtime_config, rivals, "champion") == 2


def test_held_out_metrics_are_those_the_version_was_registered_with(
    runtime_config: RuntimeConfig, rivals: str
) -> None:
    response = runtime_config.ok(
        runtime_config.evaluate, {"model": rivals, "candidates": [1, 2, 3], "alias": "same-numbers"}
    )
    for row in response["table"]:
        _, version = runtime_config.registry("GET", f"/models/{rivals}/versions/{row['version']}")
        for name, value in row["metrics"].items():
            assert version["metrics"][name] == pytest.approx(value)
    assert (response["moved"], response["champion"]) == (True, "2")


def test_a_metric_for_which_lower_is_better_decides_the_other_way(
    runtime_config: RuntimeConfig, rivals: str
) -> None:
    body = {"model": rivals, "candidates": [1, 2], "metric": "log_loss", "alias": "surest"}
    response = runtime_config.ok(runtime_config.evaluate, body)
    losses = {row["version"]: row["metrics"]["log_loss"] for row in response["table"]}
    assert losses["2"] < losses["1"]
    assert (response["champion"], response["higher_is_better"]) == ("2", False)


def test_a_regression_is_decided_by_rmse(
    runtime_config: RuntimeConfig, progression: dict[str, Any]
) -> None:
    shallow = {"max_depth": 1, "n_estimators": 1}
    body = {"parameters": shallow}
    runtime_config.trained(progression["feature_set"], "slopes", "random_forest", **body)
    runtime_config.trained(progression["feature_set"], "slopes", "ridge")
    response = runtime_config.ok(runtime_config.evaluate, {"model": "slopes", "candidates": [1, 2]})
    assert (response["metric"], response["champion"]) == ("rmse", "2")


def test_an_alias_moved_by_another_meanwhile_is_not_overwritten(
    runtime_config: RuntimeConfig, rivals: str
) -> None:
    """The compare-and-set with the champion that was read before the other's move."""
    namespace = runtime_config.evaluate.evaluate.__globals__
    request = namespace["read_request"]({"model": rivals, "alias": "contested"})
    promote, decision = namespace["promote"], namespace["Decision"]
    runtime_config.move(rivals, 1, "contested")
    assert not promote(runtime_config.evaluate.REGISTRY, request, decision(True, 2, None, "stale"))
    assert alias(runtime_config, rivals, "contested") == 1
    assert promote(runtime_config.evaluate.REGISTRY, request, decision(True, 2, 1, "fresh"))
    assert promote(runtime_config.evaluate.REGISTRY, request, decision(True, 2, 1, "answer lost"))
    assert alias(runtime_config, rivals, "contested") == 2


def test_a_champion_of_another_feature_set_is_scored_on_the_new_rows_and_told(
    runtime_config: RuntimeConfig, cancer: dict[str, Any]
) -> None:
    runtime_config.trained(cancer["feature_set"], "moving", "logistic")
    runtime_config.ok(runtime_config.evaluate, {"model": "moving"})
    content = BREAST_CANCER.read_bytes().splitlines(keepends=True)
    newer = made(runtime_config, "cancer-newer", b"".join(content[:400]), "diagnosis")
    runtime_config.trained(newer["feature_set"], "moving", "random_forest")
    response = runtime_config.ok(runtime_config.evaluate, {"model": "moving"})
    assert response["feature_set"] == newer["feature_set"]
    assert [row["version"] for row in response["table"]] == ["1", "2"]
    assert response["notes"] == [
        f"version 1 was trained on feature set {cancer['feature_set']}: it may have seen these rows"
    ]


def test_versions_that_can_not_be_compared_are_refused(
    runtime_config: RuntimeConfig,
    cancer: dict[str, Any],
    wine: dict[str, Any],
    progression: dict[str, Any],
) -> None:
    runtime_config.trained(cancer["feature_set"], "confused", "logistic")
    runtime_config.ok(runtime_config.evaluate, {"model": "confused"})
    runtime_config.trained(progression["feature_set"], "confused", "ridge")
    status, response = runtime_config.call(runtime_config.evaluate, {"model": "confused"})
    assert status == 409
    assert "they can not be compared" in response["error"]
    status, response = runtime_config.call(
        runtime_config.evaluate, {"model": "confused", "candidates": [1, 2]}
    )
    assert status == 400
    assert "field 'feature_set': expected one" in response["error"]
    assert alias(runtime_config, "confused", "champion") == 1


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({}, 400, "field 'model'"),
        ({"model": "nobody"}, 404, "nobody"),
        ({"model": "rivals", "candidates": [99]}, 404, "99"),
        ({"model": "rivals", "candidates": []}, 400, "field 'candidates': expected 'latest' or"),
        ({"model": "rivals", "candidates": [1, "1"]}, 400, "a version is named twice"),
        ({"model": "rivals", "candidates": [True]}, 400, "field 'candidates'"),
        ({"model": "rivals", "metric": "auc"}, 400, 'expected one of "accuracy", "f1"'),
        ({"model": "rivals", "metric": "rmse"}, 400, "'rmse' is not for a classification"),
        ({"model": "rivals", "alias": "latest"}, 400, "field 'alias'"),
        ({"model": "rivals", "alias": "Champion"}, 400, "field 'alias'"),
        ({"model": "rivals", "feature_set": "0" * 24}, 404, "0000"),
        ({"model": "rivals", "feature_set": "mine"}, 400, "field 'feature_set': expected an id of"),
        ({"model": "rivals", "winner": 1}, 400, "unknown field 'winner'"),
    ],
)
def test_bad_input_is_refused_by_name(
    runtime_config: RuntimeConfig, rivals: str, body: object, status: int, error: str
) -> None:
    got, response = runtime_config.call(runtime_config.evaluate, body)
    assert got == status, response
    assert error in response["error"]
