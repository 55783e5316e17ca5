"""The two pipelines of functions/pipelines.yml on a whole platform."""

import csv
import io
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from sklearn.datasets import load_breast_cancer, load_wine

from tests.e2e.conftest import Stage

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def ml(stage: Stage) -> Stage:
    """The platform with the functions of stack.yml and the pipelines beside it."""
    done = stage.platform.sluice("up", "-f", "stack.yml")
    assert "pipeline retrain" in done.stderr
    return stage


def upload(stage: Stage, name: str, loaded: Any, rows: int) -> dict[str, Any]:
    """Upload the first rows of one of scikit-learn's own datasets; the target is `label`."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*(str(one).replace(" ", "_") for one in loaded.feature_names), "label"])
    for features, target in list(zip(loaded.data, loaded.target, strict=True))[:rows]:
        writer.writerow([*features, f"class-{target}"])
    response = stage.http.post(
        f"/registry/datasets/{name}",
        content=text.getvalue().encode(),
        headers={"content-type": "text/csv"},
    )
    assert response.status_code in {200, 201}, response.text
    version: dict[str, Any] = response.json()
    return version


def run_pipeline(stage: Stage, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """The run once it has ended."""
    response = stage.http.post(f"/triggers/pipelines/{name}/runs", json=body)
    assert response.status_code == 202, response.text
    found: dict[str, Any] = stage.http.get(response.headers["location"]).json()
    deadline = time.monotonic() + 600
    while found["state"] in {"waiting", "running"}:
        assert time.monotonic() < deadline, found
        query = {"wait": "20", "revision": found["revision"]}
        found = stage.http.get(response.headers["location"], params=query).json()
    return found


def outputs(run: dict[str, Any]) -> dict[str, Any]:
    assert run["state"] == "succeeded", json.dumps(run, indent=1)
    return {step["name"]: step["output"] for step in run["steps"]}


def test_retrain_on_a_new_upload_makes_a_champion_that_predict_answers_with(ml: Stage) -> None:
    wine = load_wine()
    version = upload(ml, "wine-events", wine, 178)
    body = {"dataset": "wine-events", "target": "label", "model": "wine-events"}
    made = outputs(run_pipeline(ml, "retrain", body))
    assert made["preprocess"]["version"] == version["version"]
    assert made["evaluate"]["moved"] is True
    champion = made["evaluate"]["champion"]
    assert champion in {made["train-first"]["version"], made["train-second"]["version"]}
    assert made["smoke"]["version"] in {champion, int(champion)}
    names = [str(one).replace(" ", "_") for one in wine.feature_names]
    instance = dict(zip(names, map(float, wine.data[0]), strict=True))
    response = ml.http.post(
        "/function/predict", params={"model": "wine-events"}, json={"instances": [instance]}
    )
    assert response.status_code == 200, response.text
    assert str(response.json()["version"]) == champion
    assert response.json()["predictions"] == ["class-0"]


def test_retrain_on_the_same_data_keeps_the_champion(ml: Stage) -> None:
    upload(ml, "wine-again", load_wine(), 178)
    body = {"dataset": "wine-again", "target": "label", "model": "wine-again"}
    first = outputs(run_pipeline(ml, "retrain", body))
    second = outputs(run_pipeline(ml, "retrain", body))
    assert second["evaluate"]["moved"] is False
    assert second["evaluate"]["champion"] == first["evaluate"]["champion"]


def test_retrain_that_names_no_column_fails_in_preprocess_and_moves_nothing(ml: Stage) -> None:
    upload(ml, "wine-bad", load_wine(), 178)
    body = {"dataset": "wine-bad", "target": "nothing", "model": "wine-bad"}
    run = run_pipeline(ml, "retrain", body)
    assert run["state"] == "failed"
    states = {step["name"]: step["state"] for step in run["steps"]}
    assert states["preprocess"] == "failed"
    assert states["train-first"] == "not run"
    assert "nothing" in run["error"]
    assert ml.http.get("/registry/models/wine-bad/aliases/champion").status_code == 404


def test_batch_predict_answers_one_parquet_file_with_a_prediction_a_row(
    ml: Stage, tmp_path: Path
) -> None:
    cancer = load_breast_cancer()
    upload(ml, "cancer-batch", cancer, 569)
    body = {"dataset": "cancer-batch", "target": "label", "model": "cancer-batch"}
    outputs(run_pipeline(ml, "retrain", body))
    asked = {"dataset": "cancer-batch", "model": "cancer-batch", "rows": 100}
    made = outputs(run_pipeline(ml, "batch-predict", asked))
    assert len(made["predict"]) == 6
    assert made["collect"]["rows"] == 569
    path = tmp_path / "predictions.parquet"
    path.write_bytes(ml.http.get(made["collect"]["download"]).raise_for_status().content)
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT row, prediction, probability_class_0 FROM"  # noqa: S608 - a path of the test
            f' (SELECT row, prediction, "probability_class-0" AS probability_class_0'
            f" FROM read_parquet('{path}'))"
        ).fetchall()
    assert [row[0] for row in rows] == list(range(569))
    right = sum(
        row[1] == f"class-{target}" for row, target in zip(rows, cancer.target, strict=True)
    )
    assert right > 0.9 * 569
    assert all((row[2] > 0.5) == (row[1] == "class-0") for row in rows)


def asked(stage: Stage, path: str, **query: str) -> dict[str, Any]:
    """The answer of the triggers, whatever was killed meanwhile."""
    deadline = time.monotonic() + 120
    while True:
        try:
            response = stage.http.get(path, params=query)
            if response.status_code == 200:
                found: dict[str, Any] = response.json()
                return found
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("name", ["triggers", "gateway"])
def test_retraining_goes_on_after_a_program_was_killed_in_training(ml: Stage, name: str) -> None:
    dataset = f"wine-kill-{name}"
    upload(ml, dataset, load_wine(), 178)
    body = {"dataset": dataset, "target": "label", "model": dataset}
    response = ml.http.post("/triggers/pipelines/retrain/runs", json=body)
    path = response.headers["location"]
    found = asked(ml, path)
    while found["steps"][1]["state"] != "running":
        found = asked(ml, path, wait="20", revision=found["revision"])
        assert found["state"] == "running", found
    before = found["steps"][0]
    os.kill(ml.platform.program(name), signal.SIGKILL)
    while found["state"] in {"waiting", "running"}:
        found = asked(ml, path, wait="5", revision=found["revision"])
    made = outputs(found)
    assert found["steps"][0] == before
    # The trainings that were cut are made again under their keys: no version is there twice.
    versions = asked(ml, f"/registry/models/{dataset}")["versions"]
    trained = {made["train-first"]["version"], made["train-second"]["version"]}
    assert {str(one["version"]) for one in versions} == trained
