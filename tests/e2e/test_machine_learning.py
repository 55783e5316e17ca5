"""From an uploaded dataset to a prediction through the gateway, for three kinds of data."""

import csv
import io
import os
import random
import signal
import subprocess
import sys
from typing import Any

import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from testbed.platform import ROOT
from tests.e2e.conftest import Stage

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def ml(stage: Stage) -> Stage:
    """The platform with the functions of stack.yml."""
    stage.platform.sluice("up", "-f", "stack.yml")
    return stage


def call(stage: Stage, function: str, **body: Any) -> dict[str, Any]:
    """The function's JSON answer, which must be a success."""
    response = stage.http.post(f"/function/{function}", json=body, timeout=600)
    assert response.status_code == 200, response.text
    result: dict[str, Any] = response.json()
    return result


def upload(stage: Stage, name: str, header: list[str], rows: list[list[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    response = stage.http.post(
        f"/registry/datasets/{name}",
        content=text.getvalue().encode(),
        headers={"content-type": "text/csv"},
    )
    assert response.status_code in {200, 201}, response.text


def train(stage: Stage, dataset: str, target: str, algorithm: str) -> dict[str, Any]:
    """Preprocess, train and make the champion; the evaluation's answer."""
    features = call(stage, "preprocess", dataset=dataset, target=target, seed=7)
    version = call(
        stage, "train", feature_set=features["feature_set"], model=dataset, algorithm=algorithm
    )
    return call(stage, "evaluate", model=dataset, candidates=[version["version"]])


def quickstart(stage: Stage) -> str:
    """What the quickstart prints; it must succeed."""
    password_file = str(stage.platform.password_file)
    done = subprocess.run(
        [sys.executable, "-m", "examples.quickstart", stage.platform.url, password_file],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_quickstart_trains_and_predicts_and_a_second_run_changes_nothing(ml: Stage) -> None:
    first = quickstart(ml)
    assert "breast-cancer@" in first
    versions = ml.http.get("/registry/models/breast-cancer").json()["versions"]
    quickstart(ml)
    assert ml.http.get("/registry/models/breast-cancer").json()["versions"] == versions
    row = load_breast_cancer().data[0].tolist()
    response = ml.http.post("/function/predict", json={"instances": [row]})
    assert response.status_code == 200, response.text
    result = response.json()
    assert set(result) >= {"predictions", "probabilities", "model", "version"}
    assert result["model"] == "breast-cancer"
    assert int(result["version"]) in {version["version"] for version in versions}
    assert len(result["probabilities"][0]) == 2


def test_any_registered_model_is_reached_by_name_version_and_alias(ml: Stage) -> None:
    quickstart(ml)
    row = load_breast_cancer().data[1].tolist()
    for model in ("breast-cancer", "breast-cancer@champion", "breast-cancer:1"):
        response = ml.http.post(f"/function/predict?model={model}", json={"instances": [row]})
        assert response.status_code == 200, response.text
    unknown = ml.http.post("/function/predict?model=none", json={"instances": [row]})
    assert unknown.status_code == 404
    assert "none" in unknown.text


def test_mixed_columns_with_missing_values_need_no_code_change(ml: Stage) -> None:
    random.seed(3)
    wine = load_wine()
    rows = []
    for features, label in zip(wine.data.tolist(), wine.target.tolist(), strict=True):
        color = "deep" if features[9] > 5 else "pale"
        alcohol = "" if random.random() < 0.1 else features[0]
        rows.append([alcohol, color if random.random() > 0.1 else "", *features[1:6], f"k{label}"])
    header = ["alcohol", "color", *(f"f{i}" for i in range(5)), "cultivar"]
    upload(ml, "wine-mixed", header, rows)
    decision = train(ml, "wine-mixed", "cultivar", "random_forest")
    assert decision["model"] == "wine-mixed"
    instance = dict(zip(header[:-1], [13.2, "pale", *rows[0][2:7]], strict=True))
    response = ml.http.post("/function/predict?model=wine-mixed", json={"instances": [instance]})
    assert response.status_code == 200, response.text
    assert response.json()["predictions"][0] in {"k0", "k1", "k2"}


def test_regression_needs_no_code_change(ml: Stage) -> None:
    diabetes = load_diabetes(scaled=False)
    header = [*diabetes.feature_names, "progression"]
    rows = [
        [*map(float, features), float(target)]
        for features, target in zip(diabetes.data, diabetes.target, strict=True)
    ]
    upload(ml, "diabetes", header, rows)
    train(ml, "diabetes", "progression", "ridge")
    response = ml.http.post(
        "/function/predict?model=diabetes", json={"instances": [rows[0][:-1]]}
    ).json()
    assert 25 < response["predictions"][0] < 400
    assert "probabilities" not in response


@pytest.mark.parametrize(
    ("instances", "named"),
    [
        ([[1.0, 2.0]], "30"),
        ([["word"] * 30], "row 0"),
        ([{"no such column": 1}], "mean_radius"),
        ("text", "instances"),
    ],
)
def test_bad_rows_are_named_at_predict(ml: Stage, instances: object, named: str) -> None:
    quickstart(ml)
    response = ml.http.post("/function/predict", json={"instances": instances})
    assert response.status_code == 400
    assert named in response.text


def test_predict_answers_while_the_registry_is_away_cold_start_included(ml: Stage) -> None:
    quickstart(ml)
    row = load_breast_cancer().data[2].tolist()
    before = ml.http.post("/function/predict", json={"instances": [row]}).json()
    registry = ml.platform.program("registry")
    os.kill(registry, signal.SIGSTOP)
    try:
        ml.api.scale("predict", 0)
        ml.until("predict", availableReplicas=0)
        response = ml.http.post("/function/predict", json={"instances": [row]})
        assert response.status_code == 200, response.text
        assert response.json() == before
    finally:
        os.kill(registry, signal.SIGCONT)


def test_echo_answers_the_body_it_got(ml: Stage) -> None:
    assert ml.http.post("/function/echo", content=b"\x00\xff").content == b"\x00\xff"
