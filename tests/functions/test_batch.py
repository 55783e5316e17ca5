"""Chunks, predictions and their Parquet file, with a registry and the real predict behind them."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import pytest

from tests.functions.conftest import RuntimeConfig
from tests.functions.contexts import load_function


@pytest.fixture(scope="module")
def batch(
    runtime_config: RuntimeConfig, contexts: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModuleType]:
    """The function `batch`, with `predict` behind the gateway that it calls."""
    environ = {**runtime_config.environ, "SLUICE_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    predict = load_function(contexts / "predict", environ, "function_predict_of_batch")
    runtime_config.gateway.functions["predict"] = predict
    module = load_function(contexts / "batch", environ, "function_batch")
    yield module
    module.REGISTRY.close()
    module.PREDICTOR._transport.close()
    predict.MODELS.close()
    predict.SOURCE.close()


def table(runtime_config: RuntimeConfig, path: Path, sha256: str) -> list[dict[str, Any]]:
    """The rows of a Parquet artifact."""
    content = _artifact(runtime_config, sha256)
    path.write_bytes(content)
    with duckdb.connect() as connection:
        found = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
        assert found.description is not None
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _artifact(runtime_config: RuntimeConfig, sha256: str) -> bytes:
    content: bytes = runtime_config.train.REGISTRY.artifact(sha256)
    return content


def made(
    runtime_config: RuntimeConfig, batch: ModuleType, dataset: str, model: str, rows: int
) -> dict[str, Any]:
    """What the whole chain answers: chunk, predict each, collect."""
    cut = runtime_config.ok(
        batch, {"action": "chunk", "dataset": dataset, "model": model, "rows": rows}
    )
    common = {"dataset": dataset, "version": cut["version"], "model": model}
    parts = [
        runtime_config.ok(
            batch,
            {"action": "predict", **common, "model_version": cut["model_version"], **chunk},
        )
        for chunk in cut["chunks"]
    ]
    return runtime_config.ok(batch, {"action": "collect", **common, "parts": parts[::-1]})


def test_replicas_that_fetch_one_dataset_at_once_each_write_their_own_draft(
    runtime_config: RuntimeConfig, batch: ModuleType, wine: dict[str, Any], tmp_path: Path
) -> None:
    """Every replica is process 1 of its own namespace, and they share the folder."""
    drafts: list[Path] = []

    class Watched:
        def dataset_parquet(self, dataset: str, version: str, file: Any) -> None:
            drafts.extend(tmp_path.iterdir())
            if len(drafts) == 1:
                fetch()
            file.write(b"whole")

    def fetch() -> None:
        datasets = batch.Datasets(Watched(), tmp_path)
        datasets._file("wine", "1", "digest")

    fetch()
    assert len({path.name for path in drafts}) == 2
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]


def test_predictions_of_mixed_columns_stand_in_the_order_of_the_rows(
    runtime_config: RuntimeConfig, batch: ModuleType, wine: dict[str, Any], tmp_path: Path
) -> None:
    version = runtime_config.trained(wine["feature_set"], "wine-batch", "random_forest")["version"]
    runtime_config.move("wine-batch", int(version))
    response = made(runtime_config, batch, "wine", "wine-batch", 50)
    rows = table(runtime_config, tmp_path / "all.parquet", response["artifact"])
    assert [row["row"] for row in rows] == list(range(response["rows"]))
    assert response["rows"] > 150
    shares = [name for name in rows[0] if name.startswith("probability_")]
    for row in rows:
        assert sum(row[name] for name in shares) == pytest.approx(1, abs=1e-4)
        assert f"probability_{row['prediction']}" == max(shares, key=lambda name: row[name])


def test_predictions_of_a_regression_are_values(
    runtime_config: RuntimeConfig, batch: ModuleType, progression: dict[str, Any], tmp_path: Path
) -> None:
    version = runtime_config.trained(progression["feature_set"], "diabetes-batch", "ridge")[
        "version"
    ]
    runtime_config.move("diabetes-batch", int(version))
    response = made(runtime_config, batch, "diabetes", "diabetes-batch", 10_000)
    rows = table(runtime_config, tmp_path / "all.parquet", response["artifact"])
    assert set(rows[0]) == {"row", "prediction"}
    assert len(rows) == response["rows"] == 442
    assert all(isinstance(row["prediction"], float) for row in rows)


def test_rows_are_what_the_model_takes(
    runtime_config: RuntimeConfig, batch: ModuleType, wine: dict[str, Any]
) -> None:
    version = runtime_config.trained(wine["feature_set"], "wine-rows", "random_forest")["version"]
    runtime_config.move("wine-rows", int(version))
    response = runtime_config.ok(
        batch, {"action": "rows", "dataset": "wine", "model": "wine-rows", "limit": 3}
    )
    assert len(response["rows"]) == 3
    names = {column["name"] for column in wine["columns"]}
    assert set(response["rows"][0]) == names


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 400, "field 'action': expected one of chunk, rows, predict, collect, got None"),
        ({"action": ["chunk"]}, 400, "field 'action'"),
        ({"action": "chunk", "dataset": "cancer"}, 400, "field 'model'"),
        ({"action": "chunk", "dataset": "gone", "model": "m"}, 404, "gone"),
        ({"action": "chunk", "dataset": "cancer", "model": "gone"}, 404, "gone"),
        ({"action": "chunk", "dataset": "cancer", "model": "m", "row": 1}, 400, "'row'"),
        (
            {"action": "chunk", "dataset": "cancer", "model": "m", "rows": 10_001},
            400,
            "from 1 to 10000",
        ),
        (
            {"action": "collect", "dataset": "cancer", "model": "m", "parts": [{"artifact": "x"}]},
            400,
            "parts[0].'artifact': expected 64 hex digits",
        ),
        ({"action": "collect", "dataset": "d", "model": "m", "parts": []}, 400, "1 to 10000 parts"),
    ],
)
def test_bad_request_names_the_field(
    runtime_config: RuntimeConfig,
    batch: ModuleType,
    cancer: dict[str, Any],
    body: dict[str, Any],
    status: int,
    told: str,
) -> None:
    found, response = runtime_config.call(batch, body)
    assert (found, told in response["error"]) == (status, True), response


def test_dataset_that_lacks_a_column_of_the_model_is_refused_by_name(
    runtime_config: RuntimeConfig, batch: ModuleType, cancer: dict[str, Any], wine: dict[str, Any]
) -> None:
    version = runtime_config.trained(cancer["feature_set"], "cancer-batch", "logistic")["version"]
    runtime_config.move("cancer-batch", int(version))
    status, response = runtime_config.call(
        batch, {"action": "rows", "dataset": "wine", "model": "cancer-batch"}
    )
    assert status == 400
    assert "dataset 'wine' version 1 has no column" in response["error"]
