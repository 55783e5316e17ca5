"""What a woken predict does before its first call: load what is cached, ask what holds."""

import json
from typing import Any

import pytest

from tests.functions.conftest import Predictors, RuntimeConfig
from tests.functions.data import BREAST_CANCER

ROW = [float(cell) for cell in BREAST_CANCER.read_text().splitlines()[1].split(",")[:-1]]
BODY = {"instances": [ROW]}


@pytest.fixture
def trained(runtime_config: RuntimeConfig, cancer: dict[str, Any]) -> None:
    for algorithm in ("logistic", "random_forest"):
        runtime_config.trained(cancer["feature_set"], "woken", algorithm)
    runtime_config.move("woken", 1)


def test_alias_that_moved_while_nothing_ran_is_followed_by_the_first_call(
    runtime_config: RuntimeConfig, trained: None, predictors: Predictors
) -> None:
    assert predictors(default_model="woken").ok(BODY)["version"] == "1"
    runtime_config.move("woken", 2)
    woken = predictors(default_model="woken")
    woken.module.init()
    assert woken.ok(BODY)["version"] == "2"


def test_version_that_is_cached_is_loaded_without_a_question(
    runtime_config: RuntimeConfig, trained: None, predictors: Predictors
) -> None:
    response = predictors(default_model="woken:1").ok(BODY)
    before = len(runtime_config.gateway.requests)
    woken = predictors(default_model="woken:1")
    woken.module.init()
    assert woken.ok(BODY) == response
    asked = [path for _, path in runtime_config.gateway.requests[before:] if "/models/" in path]
    assert not asked


def test_alias_that_is_gone_when_it_wakes_is_told_to_the_call(
    runtime_config: RuntimeConfig, trained: None, predictors: Predictors
) -> None:
    predictors(default_model="woken@gone-soon").call(BODY)
    runtime_config.move("woken", 1, "gone-soon")
    assert predictors(default_model="woken@gone-soon").ok(BODY)["version"] == "1"
    status, _ = runtime_config.registry("DELETE", "/models/woken/aliases/gone-soon")
    assert status == 200, status
    woken = predictors(default_model="woken@gone-soon")
    woken.module.init()
    status, response = woken.call(BODY)
    assert status == 404, json.dumps(response)
