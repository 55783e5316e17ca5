import math

import httpx
import pytest

from tests.registry.flow import put_artifact, put_dataset


async def start(client: httpx.AsyncClient, **body: object) -> str:
    response = await client.post("/runs", json={"experiment": "iris", **body})
    assert response.status_code == 201, response.text
    assert response.json()["status"] == "running"
    run: str = response.json()["id"]
    return run


async def test_run_collects_params_metrics_and_artifacts(client: httpx.AsyncClient) -> None:
    await put_dataset(client)
    run = await start(
        client,
        params={"trees": 100, "depth": None, "grid": [1, 2]},
        tags={"by": "train"},
        inputs={"dataset": "iris", "version": 1},
    )
    digest = await put_artifact(client)
    logged = await client.post(f"/runs/{run}/metrics", json={"auc": 0.5, "loss": 2})
    assert logged.json() == {"run": run, "accepted": 2}
    series = [
        {"name": "auc", "value": 0.9, "step": 2, "at": "2026-11-22T05:00:00+02:00"},
        {"name": "auc", "value": 0.8, "step": 1},
    ]
    await client.post(f"/runs/{run}/metrics", json=series)
    attached = await client.post(f"/runs/{run}/artifacts", json={"name": "onnx", "sha256": digest})
    assert attached.status_code == 201
    ended = await client.patch(f"/runs/{run}", json={"status": "finished"})
    assert ended.status_code == 200
    told = (await client.get(f"/runs/{run}")).json()
    assert told == ended.json()
    assert told["params"] == {"trees": 100, "depth": None, "grid": [1, 2]}
    assert told["metrics"] == {"auc": 0.9, "loss": 2.0}
    assert told["artifacts"] == {"onnx": digest}
    assert told["inputs"] == {"dataset": "iris", "version": 1, "feature_set": None}
    assert told["ended_at"] >= told["created_at"]
    points = (await client.get(f"/runs/{run}/metrics?name=auc")).json()["metrics"]
    assert [point["step"] for point in points] == [0, 2, 1]
    assert points[1]["at"] == "2026-11-22T03:00:00.000000Z"


async def test_param_is_written_once(client: httpx.AsyncClient) -> None:
    run = await start(client, params={"trees": 100})
    same = await client.post(f"/runs/{run}/params", json={"trees": 100, "depth": 3})
    assert same.json()["params"] == {"trees": 100, "depth": 3}
    other = await client.post(f"/runs/{run}/params", json={"leaves": 1, "trees": 200})
    assert other.status_code == 409
    assert other.json()["current"] == 100
    assert (await client.get(f"/runs/{run}")).json()["params"] == {"trees": 100, "depth": 3}


async def test_run_ends_once(client: httpx.AsyncClient) -> None:
    run = await start(client)
    failed = {"status": "failed", "error": "out of memory"}
    assert (await client.patch(f"/runs/{run}", json=failed)).json()["error"] == "out of memory"
    assert (await client.patch(f"/runs/{run}", json=failed)).status_code == 200
    response = await client.patch(f"/runs/{run}", json={"status": "finished"})
    assert (response.status_code, response.json()["current"]) == (409, "failed")
    assert (await client.patch(f"/runs/{run}", json={"status": "running"})).status_code == 400


async def test_runs_are_listed_newest_first_and_filtered(client: httpx.AsyncClient) -> None:
    ids = [await start(client) for _ in range(3)]
    other = await start(client, experiment="wine")
    await client.patch(f"/runs/{ids[1]}", json={"status": "failed"})
    page = (await client.get("/runs?experiment=iris&limit=2")).json()
    assert [run["id"] for run in page["runs"]] == [ids[2], ids[1]]
    rest = (await client.get(f"/runs?experiment=iris&limit=2&after={page['next']}")).json()
    assert ([run["id"] for run in rest["runs"]], rest["next"]) == ([ids[0]], None)
    failed = (await client.get("/runs?status=failed")).json()["runs"]
    assert [run["id"] for run in failed] == [ids[1]]
    assert (await client.get("/runs")).json()["runs"][0]["id"] == other


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"[1]", "metrics.0:"),
        (b'{"auc": "high"}', "metrics.0.value"),
        (b'{"auc": NaN}', "NaN is no JSON number"),
        (b'{"auc": 1e400}', "body: expected JSON"),
        (b'{"auc": true}', "metrics.0.value"),
        (b'[{"name": "auc", "value": 1, "at": "today"}]', "metrics.0.at"),
        (b"3", "body: expected {name: value} or a list of points, got int"),
        (b"{", "at line 1 column 2"),
        (b'{"a\xff": 1}', "expected UTF-8, byte 3"),
        (b'{"\\ud800": 1}', "body: expected JSON in UTF-8"),
        (b'{"a\\u0000": 1}', "without NUL"),
        (b"[" * 100_000, "too many levels"),
        (b'{"auc": ' + b"9" * 5000 + b"}", "body: expected JSON"),
    ],
)
async def test_metrics_that_are_none_are_refused(
    client: httpx.AsyncClient, body: bytes, told: str
) -> None:
    run = await start(client)
    response = await client.post(f"/runs/{run}/metrics", content=body)
    assert response.status_code == 400
    assert told in response.json()["error"]
    assert (await client.get(f"/runs/{run}")).json()["metrics"] == {}


async def test_inputs_that_do_not_exist_are_refused(client: httpx.AsyncClient) -> None:
    for inputs in ({"dataset": "none", "version": 1}, {"feature_set": "ab"}):
        response = await client.post("/runs", json={"experiment": "iris", "inputs": inputs})
        assert response.status_code == 400
    assert (await client.get("/runs")).json()["runs"] == []


async def test_unknown_run_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/runs/abc")).status_code == 404
    for path, body in (("metrics", {"a": 1}), ("params", {"a": 1})):
        assert (await client.post(f"/runs/abc/{path}", json=body)).status_code == 404
    assert (await client.patch("/runs/abc", json={"status": "failed"})).status_code == 404


async def test_feature_set_is_kept_with_its_artifacts(client: httpx.AsyncClient) -> None:
    await put_dataset(client)
    digest = await put_artifact(client)
    body = {
        "dataset": "iris",
        "version": 1,
        "target": "kind",
        "task": "classification",
        "spec": {"seed": 7, "columns": ["length", "width"]},
        "artifacts": {"transformer": digest},
        "statistics": {"length": {"mean": 5.4}},
    }
    made = await client.post("/feature-sets", json=body)
    assert made.status_code == 201, made.text
    told = (await client.get(f"/feature-sets/{made.json()['id']}")).json()
    assert {**body, "id": told["id"], "created_at": told["created_at"]} == told
    assert (await client.get("/feature-sets?dataset=iris")).json()["feature_sets"] == [told]
    assert (await client.get("/feature-sets?dataset=wine")).json()["feature_sets"] == []
    for changed, named in (
        ({"version": 2}, "dataset: expected an uploaded version, got iris 2"),
        ({"artifacts": {"transformer": "f" * 64}}, "artifacts.transformer"),
        ({"spec": [1]}, "spec:"),
    ):
        response = await client.post("/feature-sets", json={**body, **changed})
        assert response.status_code == 400
        assert named in response.json()["error"]


async def test_metric_extremes_come_back_as_sent(client: httpx.AsyncClient) -> None:
    run = await start(client)
    values = {"tiny": 5e-324, "huge": 1.7976931348623157e308, "negative": -0.1}
    await client.post(f"/runs/{run}/metrics", json=values)
    told = (await client.get(f"/runs/{run}")).json()["metrics"]
    assert told == values
    assert math.isfinite(told["huge"])
