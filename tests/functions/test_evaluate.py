from typing import Any

import pytest

from tests.functions.conftest import Place, made
from tests.functions.data import BREAST_CANCER


@pytest.fixture(scope="module")
def rivals(place: Place, cancer: dict[str, Any]) -> str:
    """Model `rivals`: version 1 is poor, version 2 good, version 3 the same as 2."""
    poor = {"n_estimators": 1, "max_depth": 1}
    place.trained(cancer["feature_set"], "rivals", "random_forest", parameters=poor)
    for _ in range(2):
        place.trained(cancer["feature_set"], "rivals", "logistic")
    return "rivals"


def alias(place: Place, model: str, name: str) -> int | None:
    status, answer = place.registry("GET", f"/models/{model}/aliases/{name}")
    return answer["version"] if status == 200 else None


def test_the_first_candidate_becomes_champion_and_only_a_better_one_replaces_it(
    place: Place, rivals: str
) -> None:
    first = place.ok(place.evaluate, {"model": rivals, "candidates": [1]})
    assert (first["moved"], first["champion"], first["previous"]) == (True, "1", None)
    better = place.ok(place.evaluate, {"model": rivals, "candidates": [2]})
    assert (better["moved"], better["champion"], better["previous"]) == (True, "2", "1")
    assert better["metric"] == "roc_auc"
    scores = {row["version"]: row["metrics"]["roc_auc"] for row in better["table"]}
    assert scores["2"] > scores["1"]
    equal = place.ok(place.evaluate, {"model": rivals})
    assert (equal["moved"], equal["champion"]) == (False, "2")
    assert "is not better than" in equal["reason"]
    worse = place.ok(place.evaluate, {"model": rivals, "candidates": ["1"]})
    assert (worse["moved"], worse["champion"]) == (False, "2")
    itself = place.ok(place.evaluate, {"model": rivals, "candidates": [2]})
    assert itself["moved"] is False
    assert itself["reason"].endswith("of version 2 is the champion's")
    assert alias(place, rivals, "champion") == 2


def test_held_out_metrics_are_those_the_version_was_registered_with(
    place: Place, rivals: str
) -> None:
    answer = place.ok(
        place.evaluate, {"model": rivals, "candidates": [1, 2, 3], "alias": "same-numbers"}
    )
    for row in answer["table"]:
        _, version = place.registry("GET", f"/models/{rivals}/versions/{row['version']}")
        for name, value in row["metrics"].items():
            assert version["metrics"][name] == pytest.approx(value)
    assert (answer["moved"], answer["champion"]) == (True, "2")


def test_a_metric_for_which_lower_is_better_decides_the_other_way(
    place: Place, rivals: str
) -> None:
    body = {"model": rivals, "candidates": [1, 2], "metric": "log_loss", "alias": "surest"}
    answer = place.ok(place.evaluate, body)
    losses = {row["version"]: row["metrics"]["log_loss"] for row in answer["table"]}
    assert losses["2"] < losses["1"]
    assert (answer["champion"], answer["higher_is_better"]) == ("2", False)


def test_a_regression_is_decided_by_rmse(place: Place, progression: dict[str, Any]) -> None:
    shallow = {"max_depth": 1, "n_estimators": 1}
    body = {"parameters": shallow}
    place.trained(progression["feature_set"], "slopes", "random_forest", **body)
    place.trained(progression["feature_set"], "slopes", "ridge")
    answer = place.ok(place.evaluate, {"model": "slopes", "candidates": [1, 2]})
    assert (answer["metric"], answer["champion"]) == ("rmse", "2")


def test_an_alias_moved_by_another_meanwhile_is_not_overwritten(place: Place, rivals: str) -> None:
    """The compare-and-set with the champion that was read before the other's move."""
    namespace = place.evaluate.evaluate.__globals__
    request = namespace["read_request"]({"model": rivals, "alias": "contested"})
    promote, decision = namespace["promote"], namespace["Decision"]
    place.move(rivals, 1, "contested")
    assert not promote(place.evaluate.REGISTRY, request, decision(True, 2, None, "stale"))
    assert alias(place, rivals, "contested") == 1
    assert promote(place.evaluate.REGISTRY, request, decision(True, 2, 1, "fresh"))
    assert promote(place.evaluate.REGISTRY, request, decision(True, 2, 1, "answer lost"))
    assert alias(place, rivals, "contested") == 2


def test_a_champion_of_another_feature_set_is_scored_on_the_new_rows_and_told(
    place: Place, cancer: dict[str, Any]
) -> None:
    place.trained(cancer["feature_set"], "moving", "logistic")
    place.ok(place.evaluate, {"model": "moving"})
    content = BREAST_CANCER.read_bytes().splitlines(keepends=True)
    newer = made(place, "cancer-newer", b"".join(content[:400]), "diagnosis")
    place.trained(newer["feature_set"], "moving", "random_forest")
    answer = place.ok(place.evaluate, {"model": "moving"})
    assert answer["feature_set"] == newer["feature_set"]
    assert [row["version"] for row in answer["table"]] == ["1", "2"]
    assert answer["notes"] == [
        f"version 1 was trained on feature set {cancer['feature_set']}: it may have seen these rows"
    ]


def test_versions_that_can_not_be_compared_are_refused(
    place: Place, cancer: dict[str, Any], wine: dict[str, Any], progression: dict[str, Any]
) -> None:
    place.trained(cancer["feature_set"], "confused", "logistic")
    place.ok(place.evaluate, {"model": "confused"})
    place.trained(progression["feature_set"], "confused", "ridge")
    status, answer = place.call(place.evaluate, {"model": "confused"})
    assert status == 409
    assert "they can not be compared" in answer["error"]
    status, answer = place.call(place.evaluate, {"model": "confused", "candidates": [1, 2]})
    assert status == 400
    assert "field 'feature_set': expected one" in answer["error"]
    assert alias(place, "confused", "champion") == 1


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
    place: Place, rivals: str, body: object, status: int, error: str
) -> None:
    got, answer = place.call(place.evaluate, body)
    assert got == status, answer
    assert error in answer["error"]
