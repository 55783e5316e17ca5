"""The data folder of an older release, opened by this one: nothing is lost and all goes on.

data_folder/make.py says how the folder was made and what is in it. A virtual environment can not be
moved, so the one of its functions is made here, from the lock that the folder keeps.
"""

import difflib
import json
import os
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import duckdb
import httpx
import numpy as np
import onnxruntime
import pytest

from testbed.platform import LivePlatform, live_platform, start
from tests.compatibility import product
from tests.compatibility.data_folder.make import (
    ARCHIVE,
    CSV,
    DOCUMENTS,
    HELD,
    LARGE,
    SETTINGS,
    make_project,
)
from tests.compatibility.documents import documents, until
from tests.compatibility.snapshots import read
from tests.compatibility.storage import databases_of

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

# The folder is older than what a platform usually keeps.
KEPT: Final = dict.fromkeys(
    (
        *("SLUICE_LOG_KEEP", "SLUICE_QUEUE_DEAD_KEEP", "SLUICE_QUEUE_MAX_AGE"),
        *("SLUICE_QUEUE_RESULT_KEEP", "SLUICE_REGISTRY_IDEMPOTENCY_KEPT"),
    ),
    "876000h",
)
ANSWERS: Final[Mapping[str, tuple[bytes, bytes]]] = {
    "batched": (b'{"rows": [1, 2]}', b'{"rows":[2,4]}'),
    "echo": (b"hello", b"hello"),
    "shell": (b"from a process", b"from a process"),
    "ticker": (b"tick", b"tick"),
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as the older release left it, with its environment for this machine."""
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="tar")
    data_dir = folder / ".sluice"
    _make_environment(data_dir)
    return data_dir


def _make_environment(data_dir: Path) -> None:
    """As the release did that kept the lock; its key tells the place of this interpreter too."""
    with closing(sqlite3.connect(data_dir / "bundles.sqlite")) as connection:
        ((kept, lock),) = connection.execute("SELECT lock_key, lock FROM resolutions").fetchall()
        key = product.make_environment(data_dir, lock, os.environ)
        if key != kept:
            connection.execute("UPDATE bundles SET lock_key = ?", (key,))
            connection.execute("UPDATE resolutions SET lock_key = ?", (key,))
            connection.commit()


@pytest.fixture(scope="module")
def platform(data_dir: Path) -> Iterator[LivePlatform]:
    """This release on that folder."""
    with live_platform(data_dir, **SETTINGS, **KEPT) as running:
        yield running


@pytest.fixture(scope="module")
def http(platform: LivePlatform) -> Iterator[httpx.Client]:
    with platform.client() as client:
        yield client


@pytest.fixture(scope="module")
def told(platform: LivePlatform, http: httpx.Client) -> list[str]:
    """What the API tells before the function that is held goes on."""
    return documents(http, platform.metrics_url)


@pytest.fixture(scope="module")
def released(http: httpx.Client, told: list[str]) -> httpx.Client:
    """A client once the function that is held has gone on."""
    assert told
    http.put("/system/secrets", json={"name": "gate", "value": "open"}).raise_for_status()
    return http


@pytest.fixture(scope="module")
def restarted(platform: LivePlatform, released: httpx.Client) -> httpx.Client:
    """A client once everything has gone on, and the platform was stopped and started again."""
    until(lambda: len(_calls(released, "held")) == HELD + 1, "the queued calls run")
    platform.sluice("down")
    start(platform)
    return released


def _calls(http: httpx.Client, function: str, state: str = "succeeded") -> list[dict[str, Any]]:
    path = f"/system/calls?function={function}&state={state}"
    found: list[dict[str, Any]] = http.get(path).raise_for_status().json()
    return found


def _history(http: httpx.Client, function: str) -> list[dict[str, Any]]:
    path = f"/triggers/cron?function={function}.openfaas-fn"
    found: list[dict[str, Any]] = http.get(path).raise_for_status().json()["history"]
    return found


def _log(http: httpx.Client, query: str) -> list[dict[str, Any]]:
    lines = http.get(f"/system/logs?{query}").raise_for_status().text.splitlines()
    return [json.loads(line) for line in lines]


def test_api_tells_what_the_older_release_told(told: list[str]) -> None:
    lines = difflib.unified_diff(DOCUMENTS.read_text().splitlines(), told, n=0, lineterm="")
    differing = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    assert not differing, "\n".join(["-: older release, +: this one", *differing])


@pytest.mark.parametrize("name", list(ANSWERS))
def test_function_answers(http: httpx.Client, told: list[str], name: str) -> None:
    assert told
    sent, expected = ANSWERS[name]
    response = http.post(f"/function/{name}", content=sent)
    assert (response.status_code, response.content) == (200, expected)


def test_secret_variable_and_cache_of_a_function_are_there(
    http: httpx.Client, told: list[str]
) -> None:
    assert told
    found = http.get("/function/sealed.lab").json()
    assert found == {"secret": "of-the-fixture", "greeting": "hello", "note": "kept"}


def test_old_import_of_batch_warns_in_the_log(http: httpx.Client, told: list[str]) -> None:
    assert told
    texts = [line["text"] for line in _log(http, "name=batched")]
    assert any("runtime.batching" in text for text in texts), texts


def test_log_of_the_older_release_is_told(http: httpx.Client) -> None:
    starts = [
        line["instance"]
        for line in _log(http, "name=sealed&namespace=lab")
        if line["text"] == "sealed starts"
    ]
    assert len(set(starts)) >= 2  # a replica of then and one of now


def test_count_that_was_set_by_hand_holds(http: httpx.Client, told: list[str]) -> None:
    assert told
    found = http.get("/system/function/echo").json()
    assert (found["replicas"], found["availableReplicas"]) == (2, 2)


def test_result_of_a_call_is_kept(http: httpx.Client) -> None:
    results = [
        http.get(f"/system/calls/{call['id']}/result").content for call in _calls(http, "echo")
    ]
    assert sorted(results) == [b"done", LARGE]


def test_key_of_a_call_still_leads_to_it(http: httpx.Client) -> None:
    (first,) = [call for call in _calls(http, "echo") if "callback" in call]
    headers = {"idempotency-key": "one", "x-callback-url": first["callback"]}
    again = http.post("/async-function/echo?a=b", content=b"done", headers=headers)
    assert (again.status_code, again.headers["x-call-id"]) == (202, first["id"])


def test_key_of_a_registry_run_still_leads_to_it(http: httpx.Client) -> None:
    (run,) = http.get("/registry/runs").json()["runs"]
    body = {
        "experiment": run["experiment"],
        "params": {"c": 1.5},
        "tags": run["tags"],
        "inputs": run["inputs"],
    }
    headers = {"idempotency-key": "run-of-the-fixture"}
    again = http.post("/registry/runs", json=body, headers=headers)
    assert (again.status_code, again.json()["id"]) == (201, run["id"])


def test_dataset_is_readable(http: httpx.Client, tmp_path: Path) -> None:
    content = "/registry/datasets/iris/versions/latest/content?format="
    assert http.get(f"{content}original").text == CSV
    parquet = tmp_path / "rows.parquet"
    parquet.write_bytes(http.get(f"{content}parquet").raise_for_status().content)
    with duckdb.connect() as database:
        assert database.read_parquet(str(parquet)).shape == (20, 3)


def test_model_of_the_alias_predicts(http: httpx.Client) -> None:
    version = http.get("/registry/models/iris/aliases/champion").json()
    model = http.get(f"/registry/artifacts/{version['artifact']}").raise_for_status().content
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    rows = np.array([[4.0, 3.0], [5.9, 2.05]], dtype=np.float32)
    labels = session.run(None, {session.get_inputs()[0].name: rows})[0]
    assert labels.tolist() == [0, 1]


def test_calls_that_were_queued_run(released: httpx.Client) -> None:
    until(lambda: len(_calls(released, "held")) == HELD + 1, "the queued calls run")
    results = [
        released.get(f"/system/calls/{call['id']}/result").json()["bytes"]
        for call in _calls(released, "held")
    ]
    assert sorted(results) == [*([len(b"held 0")] * HELD), len(LARGE)]


def test_run_that_was_under_way_goes_on(released: httpx.Client) -> None:
    runs = "/triggers/pipelines/waiting/runs"
    until(lambda: released.get(runs).json()["runs"][0]["state"] == "succeeded", "the run ends")
    (run,) = released.get(runs).json()["runs"]
    steps = released.get(f"/triggers/runs/{run['id']}").json()["steps"]
    assert steps[-1]["output"] == {"waited": {"bytes": 2, "topic": ""}}


def test_fire_that_was_claimed_is_called(released: httpx.Client) -> None:
    until(
        lambda: all(one["state"] != "claimed" for one in _history(released, "held")[1:]),
        "the calls of before are made",
    )
    oldest = _history(released, "held")[-1]
    assert (oldest["state"], oldest["status"]) == ("succeeded", 200)
    assert oldest["fire_time"] < oldest["started_at"]


def test_schedule_is_followed(released: httpx.Client) -> None:
    newest = _history(released, "held")[0]["fire_time"]
    until(
        lambda: any(
            one["fire_time"] > newest and one["state"] == "succeeded"
            for one in _history(released, "held")
        ),
        "the schedule fires again",
    )


def test_pipeline_of_the_folder_runs(released: httpx.Client) -> None:
    path = "/triggers/pipelines/words/runs"
    run = released.post(path, json={"words": ["three"]}).raise_for_status().json()["run"]
    until(
        lambda: released.get(f"/triggers/runs/{run}").json()["state"] == "succeeded",
        "a new run ends",
    )


@pytest.mark.parametrize("name", list(ANSWERS))
def test_function_answers_after_a_second_start(restarted: httpx.Client, name: str) -> None:
    sent, expected = ANSWERS[name]
    response = restarted.post(f"/function/{name}", content=sent)
    assert (response.status_code, response.content) == (200, expected)


def test_second_start_loses_nothing(restarted: httpx.Client) -> None:
    assert len(_calls(restarted, "held")) == HELD + 1
    assert restarted.get("/function/sealed.lab").json()["secret"] == "of-the-fixture"
    assert restarted.get("/registry/models/iris").json()["aliases"] == {"champion": 1}
    states = [run["state"] for run in restarted.get("/triggers/runs").json()["runs"]]
    assert states == ["succeeded"] * len(states)
    assert len(states) >= 2


def test_build_and_deployment_are_kept_as_then(
    restarted: httpx.Client, platform: LivePlatform, data_dir: Path, tmp_path: Path
) -> None:
    assert restarted.get("/healthz").status_code == 200
    older = {path.parent.name for path in data_dir.glob("bundles/*/bundle.json")}
    project = make_project(tmp_path)
    with (project / "echo" / "handler.py").open("a") as handler:
        handler.write("\n# Another build.\n")
    platform.sluice("up", "-f", "stack.yml", "echo", cwd=project)
    manifests = [
        json.loads(path.read_text()) | {"older": path.parent.name in older}
        for path in data_dir.glob("bundles/*/bundle.json")
    ]
    assert [each["older"] for each in manifests].count(False) == 1
    with closing(sqlite3.connect(data_dir / "functions.sqlite")) as connection:
        rows = connection.execute("SELECT deployment FROM generations").fetchall()
    assert len({tuple(each) for each in manifests}) == 1
    assert len({tuple(json.loads(deployment)) for (deployment,) in rows}) == 1


def test_tables_become_those_of_a_new_folder(restarted: httpx.Client, data_dir: Path) -> None:
    assert restarted.get("/healthz").status_code == 200
    assert sorted(databases_of(data_dir)) == read("sqlite")
