import io
from typing import Any

import joblib
import numpy as np
import pytest

from tests.functions.conftest import RuntimeConfig, made
from tests.functions.data import csv_of, mixed_wine


def artifact(runtime_config: RuntimeConfig, sha256: str) -> bytes:
    content: bytes = runtime_config.preprocess.REGISTRY.artifact(sha256)
    return content


def stored(runtime_config: RuntimeConfig, feature_set: str) -> dict[str, Any]:
    found: dict[str, Any] = runtime_config.preprocess.REGISTRY.feature_set(feature_set)
    return found


def test_numbers_are_split_by_class_and_the_transformer_is_fitted_on_training_rows(
    runtime_config: RuntimeConfig, cancer: dict[str, Any]
) -> None:
    assert cancer["rows"] == {"train": 455, "test": 114}
    assert cancer["classes"] == ["benign", "malignant"]
    assert cancer["task_reason"] == "the target holds string values"
    kept = stored(runtime_config, cancer["feature_set"])
    arrays = {
        name: np.load(io.BytesIO(artifact(runtime_config, kept["artifacts"][name])))
        for name in ("train", "test")
    }
    shares = [float(arrays[name]["y"].mean()) for name in ("train", "test")]
    assert abs(shares[0] - shares[1]) < 0.01
    transformer = joblib.load(
        io.BytesIO(artifact(runtime_config, kept["artifacts"]["transformer"]))
    )
    scaled = transformer.transform(arrays["train"]["numbers"].astype(np.float32))
    assert np.abs(scaled.mean(axis=0)).max() < 1e-4
    assert np.abs(scaled.std(axis=0) - 1).max() < 1e-4


def test_mixed_columns_keep_their_kinds_and_a_time_is_dropped_with_its_reason(
    runtime_config: RuntimeConfig, wine: dict[str, Any]
) -> None:
    kinds = {column["name"]: column for column in wine["columns"]}
    assert kinds["alcohol"] == {"name": "alcohol", "kind": "string", "missing": True}
    assert kinds["flavanoids"] == {"name": "flavanoids", "kind": "string", "missing": False}
    assert kinds["hue"] == {"name": "hue", "kind": "number", "missing": True}
    assert kinds["high_proline"]["kind"] == "boolean"
    assert [dropped["column"] for dropped in wine["dropped"]] == ["bottled"]
    assert "timestamp" in wine["dropped"][0]["reason"]
    spec = stored(runtime_config, wine["feature_set"])["spec"]
    categories = {c["name"]: c["categories"] for c in spec["columns"] if c["kind"] == "string"}
    assert categories["alcohol"] == ["", "high", "low", "medium"]


def test_statistics_count_missing_values_and_categories(
    runtime_config: RuntimeConfig, wine: dict[str, Any]
) -> None:
    columns = stored(runtime_config, wine["feature_set"])["statistics"]["columns"]
    assert 10 <= columns["hue"]["missing"] <= 20
    assert sum(columns["alcohol"]["categories"].values()) + columns["alcohol"]["missing"] == 142
    assert columns["ash"]["min"] <= columns["ash"]["deciles"][0] <= columns["ash"]["max"]


def test_an_integer_target_of_many_values_is_a_regression(progression: dict[str, Any]) -> None:
    assert progression["task"] == "regression"
    assert progression["task_reason"] == "the target holds 214 different integers, over 20"
    assert progression["classes"] == []


def test_the_same_request_gives_the_same_arrays_and_another_seed_others(
    runtime_config: RuntimeConfig, cancer: dict[str, Any]
) -> None:
    again = runtime_config.ok(
        runtime_config.preprocess, {"dataset": "cancer", "target": "diagnosis"}
    )
    other = runtime_config.ok(
        runtime_config.preprocess, {"dataset": "cancer", "target": "diagnosis", "seed": 1}
    )
    first, second, third = (
        stored(runtime_config, one["feature_set"])["artifacts"] for one in (cancer, again, other)
    )
    assert first == second
    assert first["train"] != third["train"]


def test_a_repeated_call_with_one_key_makes_one_feature_set(
    runtime_config: RuntimeConfig, cancer: dict[str, Any]
) -> None:
    body = {"dataset": "cancer", "target": "diagnosis", "seed": 5}
    key = {"Idempotency-Key": "run-1/preprocess/0"}
    once = runtime_config.ok(runtime_config.preprocess, body, headers=key)
    assert (
        runtime_config.ok(runtime_config.preprocess, body, headers=key)["feature_set"]
        == once["feature_set"]
    )


def test_rows_without_a_target_are_left_out_and_told(runtime_config: RuntimeConfig) -> None:
    rows = [[number, "" if number < 3 else "ab"[number % 2]] for number in range(30)]
    response = made(runtime_config, "gaps", csv_of(["x", "y"], rows), "y")
    assert response["rows"] == {"train": 21, "test": 6}
    assert response["notes"] == ["3 rows without a target were left out"]


def test_integers_that_float32_rounds_are_told(runtime_config: RuntimeConfig) -> None:
    rows = [[2**24 + 2 * number + 1, number % 2] for number in range(30)]
    response = made(runtime_config, "large", csv_of(["id", "y"], rows), "y")
    assert response["task_reason"] == "the target holds 2 different integers, at most 20"
    assert response["notes"][0].startswith("column 'id': integers up to 16777275 are rounded")


def test_texts_of_too_many_kinds_are_dropped_and_refused_when_named(
    runtime_config: RuntimeConfig,
) -> None:
    rows = [[f"name {number}", number, "ab"[number % 2]] for number in range(40)]
    runtime_config.upload("names", csv_of(["name", "x", "y"], rows))
    body = {"dataset": "names", "target": "y", "max_categories": 20}
    assert runtime_config.ok(runtime_config.preprocess, body)["dropped"] == [
        {"column": "name", "reason": "40 different texts, over max_categories 20"}
    ]
    status, response = runtime_config.call(
        runtime_config.preprocess, {**body, "columns": ["name", "x"]}
    )
    assert (status, response["error"]) == (
        400,
        "column 'name' can not be learned from: 40 different texts, over max_categories 20",
    )


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "the body is not JSON: Expecting value at line 1 column 1"),
        (b"[1]", 400, "expected a JSON object, got [1]"),
        (b'{"seed": NaN}', 400, "NaN is not JSON; send null for a missing value"),
        (b'{"a": "\xff"}', 400, "the body is not UTF-8 at byte 7"),
        ({}, 400, "field 'dataset': expected letters, digits, '.', '_' and '-', at most 128"),
        ({"dataset": "../wine", "target": "y"}, 400, "field 'dataset': expected letters"),
        ({"dataset": "wine"}, 400, "field 'target': expected a text of 1 to 256 characters"),
        ({"dataset": "none", "target": "y"}, 404, "none"),
        ({"dataset": "wine", "target": "hue", "version": 99}, 404, "99"),
        ({"dataset": "wine", "target": "hue", "version": 0}, 400, "field 'version': expected"),
        ({"dataset": "wine", "target": "colour"}, 400, "field 'target': no column 'colour'; the"),
        ({"dataset": "wine", "target": "cultivar", "columns": ["a"]}, 400, "no column 'a'"),
        ({"dataset": "wine", "target": "cultivar", "drop": ["b"]}, 400, "no column 'b'"),
        (
            {"dataset": "wine", "target": "cultivar", "columns": ["cultivar"]},
            400,
            "field 'columns': 'cultivar' is the target",
        ),
        (
            {"dataset": "wine", "target": "cultivar", "columns": ["bottled"]},
            400,
            "column 'bottled': expected numbers, booleans or texts, got timestamp",
        ),
        (
            {"dataset": "wine", "target": "bottled"},
            400,
            "target 'bottled': expected numbers, booleans or texts, got timestamp",
        ),
        (
            {"dataset": "wine", "target": "cultivar", "task": "regression"},
            400,
            "target 'cultivar': a regression expects numbers, got string values",
        ),
        (
            {"dataset": "wine", "target": "ash", "task": "classification"},
            400,
            "target 'ash': a classification expects texts, booleans or integers",
        ),
        (
            {"dataset": "wine", "target": "cultivar", "task": "ranking"},
            400,
            'field \'task\': expected one of "classification", "regression", got "ranking"',
        ),
        (
            {"dataset": "wine", "target": "cultivar", "test_size": 1},
            400,
            "field 'test_size': expected a number from 0.05 to 0.5, got 1",
        ),
        (
            {"dataset": "wine", "target": "cultivar", "test_size": True},
            400,
            "field 'test_size': expected a number from 0.05 to 0.5, got true",
        ),
        (
            {"dataset": "wine", "target": "cultivar", "seed": -1},
            400,
            "field 'seed': expected an integer from 0 to 4294967295, got -1",
        ),
        (
            {"dataset": "wine", "target": "cultivar", "sead": 1},
            400,
            "unknown field 'sead'; known: dataset, version, target",
        ),
    ],
)
def test_bad_input_is_refused_by_name(
    runtime_config: RuntimeConfig, wine: dict[str, Any], body: object, status: int, error: str
) -> None:
    got, response = runtime_config.call(runtime_config.preprocess, body)
    assert got == status, response
    assert error in response["error"]


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([[n, "a"] for n in range(20)], "expected 2 to 1000 classes, got 1"),
        ([[n, "ab"[n == 7]] for n in range(20)], "class 'b' has 1 row"),
        ([[n, "ab"[n % 2]] for n in range(8)], "expected at least 10 rows with a target, got 8"),
        ([[n, n // 2] for n in range(24)], "field 'test_size': 5 of 24 rows held out, and 12"),
    ],
)
def test_a_target_that_can_not_be_split_is_refused(
    runtime_config: RuntimeConfig,
    request: pytest.FixtureRequest,
    rows: list[list[object]],
    error: str,
) -> None:
    name = f"target-{abs(hash(str(rows)))}"
    runtime_config.upload(name, csv_of(["x", "y"], rows))
    status, response = runtime_config.call(
        runtime_config.preprocess, {"dataset": name, "target": "y"}
    )
    assert status == 400
    assert error in response["error"]


def test_a_table_over_the_cell_limit_is_refused_before_it_is_fetched(
    runtime_config: RuntimeConfig,
) -> None:
    runtime_config.upload("wide", mixed_wine())
    from_here = len(runtime_config.gateway.requests)
    loading = runtime_config.preprocess.preprocess.__globals__["load"].__globals__
    request = runtime_config.preprocess.read_request({"dataset": "wide", "target": "cultivar"})
    with pytest.raises(Exception, match="178 rows x 15 columns are over the limit of 1000 cells"):
        loading["load"](runtime_config.preprocess.REGISTRY, request, 1000)
    assert not [
        path for _, path in runtime_config.gateway.requests[from_here:] if "content" in path
    ]


def test_other_methods_are_refused(runtime_config: RuntimeConfig) -> None:
    status, response = runtime_config.call(runtime_config.preprocess, {}, method="GET")
    assert (status, response["error"]) == (405, "expected POST, got GET")
