import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.functions.conftest import Predictor, Predictors, RuntimeConfig
from tests.functions.data import BREAST_CANCER
from tests.functions.gateway import Event

ROWS = [
    [float(cell) for cell in line.split(",")[:-1]]
    for line in BREAST_CANCER.read_text(encoding="utf-8").splitlines()[1:]
]
COLUMNS = BREAST_CANCER.read_text(encoding="utf-8").split("\n", 1)[0].split(",")[:-1]
BODY = {"instances": ROWS[:2]}


@pytest.fixture(scope="module")
def models(runtime_config: RuntimeConfig, cancer: dict[str, Any], wine: dict[str, Any]) -> None:
    """breast-cancer with versions 1 and 2, wine with version 1."""
    runtime_config.trained(cancer["feature_set"], "breast-cancer", "logistic")
    runtime_config.trained(cancer["feature_set"], "breast-cancer", "random_forest")
    runtime_config.trained(wine["feature_set"], "wine", "hist_gradient_boosting")
    runtime_config.move("wine", 1)


@pytest.fixture
def predict(runtime_config: RuntimeConfig, models: None, predictors: Predictors) -> Predictor:
    runtime_config.move("breast-cancer", 1)
    return predictors()


def test_rows_as_lists_and_as_named_columns_get_the_same_answer(predict: Predictor) -> None:
    response = predict.ok(BODY)
    assert response["predictions"] == ["malignant", "malignant"]
    assert (response["model"], response["version"]) == ("breast-cancer", "1")
    assert np.sum(response["probabilities"], axis=1) == pytest.approx([1, 1])
    named = [dict(zip(COLUMNS, row, strict=True)) for row in ROWS[:2]]
    named[1] = dict(reversed(named[1].items()))
    assert predict.ok({"instances": named}) == response
    assert predict.ok({"inputs": named}) == response
    assert predict.ok({"instances": [named[0], ROWS[1]]}) == response


def test_many_rows_answer_as_each_of_them_alone(predict: Predictor) -> None:
    """The whole file is read on a thread, one row on the loop."""
    together = predict.ok({"instances": ROWS})
    assert len(json.dumps({"instances": ROWS})) > predict.module.INLINE_BYTES
    alone = [predict.ok({"instances": [row]})["predictions"][0] for row in ROWS[::60]]
    assert together["predictions"][::60] == alone
    assert len(together["predictions"]) == 569


def test_no_rows_get_no_predictions(predict: Predictor) -> None:
    response = predict.ok({"instances": []})
    assert (response["predictions"], response["probabilities"]) == ([], [])


def test_mixed_columns_take_null_where_the_training_data_had_holes(predict: Predictor) -> None:
    _, about = predict.call(b"", "model=wine", "GET")
    columns = about["signature"]["columns"]
    assert about["version"] == "1"
    row = {c["name"]: {"string": "high", "boolean": True, "number": 2}[c["kind"]] for c in columns}
    full = predict.ok({"instances": [row]}, "model=wine")
    assert full["predictions"][0].startswith("class ")
    holes = {**row, "hue": None, "alcohol": None}
    unseen = {**row, "flavanoids": "of a kind never seen"}
    response = predict.ok({"instances": [row, holes, unseen]}, "model=wine")
    assert response["predictions"][0] == full["predictions"][0]
    assert len(response["probabilities"][1]) == 3
    status, refused = predict.call({"instances": [row, {**row, "ash": None}]}, "model=wine")
    assert status == 400
    assert refused["error"] == "row 1, column 'ash': expected a finite number, got null"
    status, refused = predict.call({"instances": [{**row, "alcohol": 13.2}]}, "model=wine")
    assert refused["error"] == "row 0, column 'alcohol': expected a text or null, got 13.2"
    status, refused = predict.call({"instances": [{**row, "high_proline": 1}]}, "model=wine")
    assert refused["error"] == "row 0, column 'high_proline': expected true or false, got 1"


@pytest.mark.parametrize("reference", ["breast-cancer:2", "breast-cancer@latest"])
def test_a_model_is_found_by_version_and_by_alias(predict: Predictor, reference: str) -> None:
    assert predict.ok(BODY, f"model={reference}")["version"] == "2"
    assert predict.ok(BODY)["version"] == "1"


def with_cell(value: object, row: int = 0, column: int = 3) -> dict[str, Any]:
    rows: list[list[object]] = [list(one) for one in ROWS[:2]]
    rows[row][column] = value
    return {"instances": rows}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "the body is not JSON: Expecting value at line 1 column 1"),
        (b"{\n 'a'", "the body is not JSON: Expecting property name enclosed in double quotes"),
        (b'{"a": "\xff"}', "the body is not UTF-8 at byte 7"),
        (b"[" * 100_000, "the body is nested too deeply"),
        ([[1.0]], 'expected {"instances": [rows]}, got [[1.0]]'),
        ({}, "expected one of 'instances' and 'inputs'"),
        ({"instances": [], "inputs": []}, "expected one of 'instances' and 'inputs'"),
        ({"instances": 1}, "field 'instances': expected a list of rows, got 1"),
        ({"inputs": None}, "field 'inputs': expected a list of rows, got null"),
        ({"rows": []}, "unknown field 'rows'; expected 'instances'"),
        ({"instances": ROWS[0]}, "row 0: expected a list of 30 values or an object, got 17.99"),
        (
            {"instances": [ROWS[0], ROWS[0][:29]]},
            "row 1: expected 30 values, got 29; columns: mean",
        ),
        ({"instances": [[*ROWS[0], 1.0]]}, "row 0: expected 30 values, got 31"),
        ({"instances": [[]]}, "row 0: expected 30 values, got 0"),
        (
            {"instances": [ROWS[0], "abc"]},
            'row 1: expected a list of 30 values or an object, got "',
        ),
        (with_cell("12"), "row 0, column 'mean_area': expected a finite number, got \"12\""),
        (with_cell(None, 1), "row 1, column 'mean_area': expected a finite number, got null"),
        (with_cell(True), "row 0, column 'mean_area': expected a finite number, got true"),
        (with_cell([1.0]), "row 0, column 'mean_area': expected a finite number, got [1.0]"),
        (with_cell({}), "row 0, column 'mean_area': expected a finite number, got {}"),
        (
            with_cell(float("nan"), 1, 0),
            "row 1, column 'mean_radius': expected a finite number, got N",
        ),
        (
            with_cell(float("inf")),
            "row 0, column 'mean_area': expected a finite number, got Infinity",
        ),
        (with_cell(float("-inf")), "row 0, column 'mean_area': expected a finite number, got -Inf"),
        (with_cell(1e39), "row 0, column 'mean_area': expected a finite number, got 1e+39"),
        (with_cell(10**400), "row 0, column 'mean_area': expected a finite number, got 1000"),
        (
            {"instances": [dict.fromkeys(COLUMNS[1:], 1.0)]},
            "row 0: column 'mean_radius' is missing",
        ),
        (
            {"instances": [dict.fromkeys([*COLUMNS, "mean_age"], 1.0)]},
            "row 0: unknown column 'mean_age'; columns: mean_radius",
        ),
    ],
)
def test_bad_input_is_refused_by_row_and_column(
    predict: Predictor, body: object, error: str
) -> None:
    status, response = predict.call(body)
    assert status == 400, response
    assert error in response["error"]
    assert predict.ok(BODY)["predictions"] == ["malignant", "malignant"]


@pytest.mark.parametrize("path", ["/v2/health/ready", "/v2/models/breast-cancer/infer", "/nope"])
def test_path_of_another_protocol_is_not_answered_with_a_model(
    predict: Predictor, path: str
) -> None:
    for method in ("GET", "POST"):
        event = Event(json.dumps(BODY).encode(), method, path=path)
        assert predict.module.handle_many([(event, None)]) == [None]
        reply = predict.runner.run(predict.module.handle(event, None))
        assert reply["statusCode"] == 404
        assert f'expected path /, got "{path}"' in json.loads(reply["body"])["error"]


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ("model=nobody", 404, "nobody"),
        ("model=breast-cancer@nobody", 404, "nobody"),
        ("model=breast-cancer:99", 404, "99"),
        ("model=breast-cancer:0", 400, "model: expected NAME, NAME@ALIAS or NAME:VERSION, got"),
        ("model=../secrets", 400, "model: expected NAME, NAME@ALIAS or NAME:VERSION, got"),
        ("model=", 400, 'model: expected NAME, NAME@ALIAS or NAME:VERSION, got ""'),
        ("model=a@b:1", 400, "model: expected NAME"),
    ],
)
def test_an_unknown_model_is_refused_by_name(
    predict: Predictor, query: str, status: int, error: str
) -> None:
    event = Event(json.dumps(BODY).encode(), query=query)
    reply = predict.runner.run(predict.module.handle(event, None))
    assert reply["statusCode"] == status
    assert error in json.loads(reply["body"])["error"]


def test_too_many_rows_and_bytes_are_refused(
    runtime_config: RuntimeConfig, models: None, predictors: Predictors
) -> None:
    small = predictors(max_rows="3", max_body_bytes="100000")
    status, response = small.call({"instances": ROWS[:4]})
    assert (status, response["error"]) == (413, "expected at most 3 rows a call, got 4")
    status, response = small.call({"instances": ROWS})
    assert status == 413
    assert "expected a body of at most 100000 bytes" in response["error"]


def test_an_alias_move_is_followed_and_no_call_fails(
    runtime_config: RuntimeConfig, predict: Predictor
) -> None:
    """Within two seconds: an answer of the registry is believed for less, however slow it is."""
    assert sys.modules[type(predict.module.MODELS).__module__].TRUSTED_SECONDS < 2
    content = json.dumps({"instances": ROWS[:1]}).encode()

    async def call_until(version: str, seconds: float) -> int:
        calls = 0
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            reply = await predict.module.handle(Event(content), None)
            assert reply["statusCode"] == 200, reply
            calls += 1
            if json.loads(reply["body"])["version"] == version:
                return calls
            await asyncio.sleep(0)
        raise AssertionError(f"version {version} did not answer within {seconds} s")

    predict.runner.run(call_until("1", 60))
    runtime_config.move("breast-cancer", 2)
    assert predict.runner.run(call_until("2", 60)) > 0
    runtime_config.move("breast-cancer", 1)
    assert predict.runner.run(call_until("1", 60)) > 0


def test_a_call_after_a_pause_asks_before_it_answers(
    runtime_config: RuntimeConfig, predict: Predictor
) -> None:
    """As if the thread had ended for want of calls: the alias is not believed any more."""
    assert predict.ok(BODY)["version"] == "1"
    entry = next(iter(predict.module.MODELS._entries.values()))
    with entry.lock:
        runtime_config.move("breast-cancer", 2)
        entry.trusted_until = 0.0
    assert predict.ok(BODY)["version"] == "2"


def test_the_thread_ends_when_calls_stop(predict: Predictor) -> None:
    predict.ok(BODY)
    models = predict.module.MODELS
    thread = models._follower
    assert thread is not None
    for entry in models._entries.values():
        entry.used -= 3600
    thread.join(60)
    assert not thread.is_alive()
    assert models._follower is None


def test_while_the_registry_is_away_the_last_known_version_answers_cold_start_included(
    runtime_config: RuntimeConfig, models: None, predictors: Predictors
) -> None:
    runtime_config.move("breast-cancer", 1)
    warm = predictors()
    assert warm.ok(BODY)["version"] == "1"
    assert warm.ok(BODY, "model=breast-cancer:2")["version"] == "2"
    runtime_config.gateway.stop()
    try:
        for entry in warm.module.MODELS._entries.values():
            entry.trusted_until = min(entry.trusted_until, 0.0)
        assert warm.ok(BODY)["version"] == "1"
        cold = predictors()
        cold.module.init()
        response = cold.ok(BODY)
        assert response == warm.ok(BODY)
        # It has asked in vain a moment ago: the next calls do not wait for that.
        asked_again = time.monotonic() + 3600
        for entry in cold.module.MODELS._entries.values():
            assert entry.trusted_until > 0
            entry.trusted_until = asked_again
        assert cold.ok(BODY) == response
        assert cold.ok(BODY, "model=breast-cancer:2")["version"] == "2"
        status, refused = cold.call(BODY, "model=wine")
        assert status == 503
        assert "can not reach the registry" in refused["error"]
    finally:
        runtime_config.gateway.start()
    runtime_config.move("breast-cancer", 2)
    for entry in cold.module.MODELS._entries.values():
        entry.trusted_until = min(entry.trusted_until, 0.0)
    assert cold.ok(BODY)["version"] == "2"


def test_a_start_does_not_fail_while_the_registry_is_away_and_nothing_is_cached(
    runtime_config: RuntimeConfig, models: None, predictors: Predictors
) -> None:
    predict = predictors(SLUICE_GATEWAY_URL="http://127.0.0.1:9")
    predict.module.init()
    reply = predict.runner.run(predict.module.handle(Event(json.dumps(BODY).encode()), None))
    assert reply["statusCode"] == 503
    assert reply["headers"]["Retry-After"] == "1"


def test_without_the_token_the_answer_says_which_secret_is_missing(
    models: None, predictors: Predictors, tmp_path: Path
) -> None:
    status, response = predictors(SLUICE_SECRETS_DIR=str(tmp_path)).call(BODY)
    assert status == 503
    assert response["error"].startswith("no secret 'registry-token'")


def test_a_damaged_cached_model_is_fetched_anew(
    runtime_config: RuntimeConfig, predict: Predictor, predictors: Predictors, tmp_path: Path
) -> None:
    predict.ok(BODY)
    files = list((tmp_path / "cache" / "artifacts").iterdir())
    assert [hashlib.sha256(f.read_bytes()).hexdigest() for f in files] == [f.name for f in files]
    files[0].write_bytes(files[0].read_bytes()[:-1])
    for reference in (tmp_path / "cache" / "references").iterdir():
        reference.write_bytes(b'{"reference": ')
    again = predictors()
    again.module.init()
    assert again.ok(BODY)["version"] == "1"
    assert hashlib.sha256(files[0].read_bytes()).hexdigest() == files[0].name


def test_a_version_that_does_not_load_leaves_the_old_one_answering(
    runtime_config: RuntimeConfig, predict: Predictor
) -> None:
    assert predict.ok(BODY)["version"] == "1"
    _, good = runtime_config.registry("GET", "/models/breast-cancer/versions/1")
    kind = "application/octet-stream"
    _, stored = runtime_config.registry("POST", "/artifacts", b"this is not ONNX", kind)
    body = {"artifact": stored["sha256"], "signature": good["signature"]}
    _, broken = runtime_config.registry("POST", "/models/breast-cancer/versions", body)
    runtime_config.move("breast-cancer", broken["version"])
    entry = next(iter(predict.module.MODELS._entries.values()))
    for _ in range(2):
        with entry.lock:
            entry.trusted_until = 0.0
        assert predict.ok(BODY)["version"] == "1"
    status, response = predict.call(BODY, f"model=breast-cancer:{broken['version']}")
    assert status == 422
    assert f"model breast-cancer:{broken['version']} does not load" in response["error"]
    status, response = predict.call(BODY, "model=breast-cancer@latest")
    assert status == 422


def test_an_alias_that_is_removed_is_not_answered_any_more(
    runtime_config: RuntimeConfig, predict: Predictor, predictors: Predictors
) -> None:
    runtime_config.move("breast-cancer", 2, "passing")
    assert predict.ok(BODY, "model=breast-cancer@passing")["version"] == "2"
    assert runtime_config.registry("DELETE", "/models/breast-cancer/aliases/passing")[0] == 200
    reference = next(r for r in predict.module.MODELS._entries if r.alias == "passing")
    predict.module.MODELS._entries[reference].trusted_until = 0.0
    assert predict.call(BODY, "model=breast-cancer@passing")[0] == 404
    assert predictors().call(BODY, "model=breast-cancer@passing")[0] == 404


def test_models_in_memory_stay_within_their_limit(
    runtime_config: RuntimeConfig, models: None, predictors: Predictors
) -> None:
    predict = predictors(max_models="2")
    for query in ("model=breast-cancer:1", "model=breast-cancer:2", "model=breast-cancer@champion"):
        predict.ok(BODY, query)
    kept = predict.module.MODELS
    assert sorted(str(one) for one in kept._entries) == [
        "breast-cancer:2",
        "breast-cancer@champion",
    ]
    assert predict.ok(BODY, "model=breast-cancer:1")["version"] == "1"
    assert len(kept._entries) == 2


def test_calls_that_wait_for_one_model_share_the_loading_and_one_that_leaves_harms_none(
    runtime_config: RuntimeConfig, predict: Predictor
) -> None:
    content = json.dumps(BODY).encode()

    async def crowd() -> list[int]:
        tasks = [
            asyncio.create_task(predict.module.handle(Event(content), None)) for _ in range(20)
        ]
        await asyncio.sleep(0)
        tasks[0].cancel()
        answers = await asyncio.gather(*tasks[1:])
        return [response["statusCode"] for response in answers]

    before = len(runtime_config.gateway.requests)
    assert predict.runner.run(crowd()) == [200] * 19
    asked = [path for _, path in runtime_config.gateway.requests[before:] if "/aliases/" in path]
    assert len(asked) <= 2


FRESH = """
import asyncio, json, os, socket, sys
import function.handler as handler
handler.init()
tasks = len(os.listdir("/proc/self/task"))
class Event:
    method, path, query, headers = "POST", "/", {}, {}
    body = sys.argv[1].encode()
reply = asyncio.run(handler.handle(Event(), None))
unwanted = {"sklearn", "skl2onnx", "scipy", "onnx", "joblib"}
told = {
    "reply": json.loads(reply["body"]),
    "heavy": [name for name in sys.modules if name.split(".")[0] in unwanted],
    "ort": os.environ["ORT_DISABLE_TELEMETRY"],
    "tasks": tasks,
}
print(json.dumps(told), flush=True)
os._exit(0)
"""


def test_a_fresh_process_predicts_without_scikit_learn_and_without_telemetry(
    runtime_config: RuntimeConfig, models: None, tmp_path: Path
) -> None:
    runtime_config.move("breast-cancer", 1)
    home = tmp_path / "home"
    home.mkdir()
    environ = {
        **runtime_config.environ,
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "SLUICE_CACHE_DIR": str(tmp_path / "cache"),
        "OPENBLAS_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", FRESH, json.dumps(BODY)],
        cwd=runtime_config.contexts / "predict",
        env=environ,
        capture_output=True,
        check=True,
        timeout=60,
    )
    told = json.loads(done.stdout)
    assert told["reply"]["predictions"] == ["malignant", "malignant"]
    assert told["heavy"] == []
    assert told["ort"] == "1"
    assert told["tasks"] == 1
    assert list(home.iterdir()) == []


def test_calls_that_come_together_are_answered_as_each_alone(
    runtime_config: RuntimeConfig, predictors: Predictors, cancer: dict[str, Any]
) -> None:
    version = runtime_config.trained(cancer["feature_set"], "together", "random_forest")["version"]
    runtime_config.move("together", int(version))
    predictor = predictors(default_model="together@champion")
    rows = [[float(number + column) for column in range(30)] for number in range(4)]
    bodies: list[object] = [
        {"instances": rows[:1]},
        {"instances": rows[1:3]},
        {"instances": [["x"] * 30]},
        b"{",
        {"instances": []},
        {"instances": rows[3:]},
    ]
    alone = [predictor.call(body) for body in bodies]
    contents = [body if isinstance(body, bytes) else json.dumps(body).encode() for body in bodies]
    events = [Event(content) for content in contents]
    events += [Event(contents[0], query="model=none"), Event(b"", "GET")]
    replies = predictor.module.handle_many([(event, None) for event in events])
    assert [reply is None for reply in replies] == [
        False, False, True, True, False, False, True, True,
    ]  # fmt: skip
    for reply, (status, response) in zip(replies, alone, strict=False):
        if reply is not None:
            assert (reply["statusCode"], json.loads(reply["body"])) == (status, response)
