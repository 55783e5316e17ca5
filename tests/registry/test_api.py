"""What holds for every route: identity, limits, idempotency, events, errors."""

import asyncio
import hashlib
import json
import stat
from pathlib import Path

import httpx
import pytest

from tests.registry.flow import IRIS, put_artifact, put_model
from tests.registry.serving import serving, settings_for, until_waiting


@pytest.mark.parametrize("identity", [None, "root", "", "admin, function"])
async def test_request_without_identity_is_refused(
    client: httpx.AsyncClient, identity: str | None
) -> None:
    client.headers.pop("X-Sluice-Identity")
    headers = {} if identity is None else {"X-Sluice-Identity": identity}
    for method, path in (("GET", "/models"), ("POST", "/artifacts"), ("GET", "/nothing")):
        response = await client.request(method, path, headers=headers)
        assert response.status_code == 401
        assert "through the gateway" in response.json()["error"]


async def test_identity_sent_twice_is_refused(client: httpx.AsyncClient) -> None:
    client.headers.pop("X-Sluice-Identity")
    twice = [("X-Sluice-Identity", "function"), ("X-Sluice-Identity", "admin")]
    assert (await client.get("/models", headers=twice)).status_code == 401


async def test_health_and_metrics_need_no_identity(client: httpx.AsyncClient) -> None:
    await client.get("/models")
    client.headers.pop("X-Sluice-Identity")
    assert (await client.get("/healthz")).json()["status"] == "ok"
    text = (await client.get("/metrics")).text
    line = 'sluice_registry_requests_total{code="200",method="GET",route="/models"} 1.0'
    assert line in text.splitlines()


async def test_path_in_no_route_is_not_found_and_one_series(client: httpx.AsyncClient) -> None:
    for number in range(3):
        assert (await client.get(f"/nothing/{number}")).json() == {"error": "not found"}
    assert (await client.put("/models")).status_code == 405
    text = (await client.get("/metrics")).text
    assert 'sluice_registry_requests_total{code="404",method="GET",route="unknown"} 3.0' in text


async def test_socket_can_be_opened_by_its_owner_only(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    async with serving(settings):
        assert stat.S_IMODE(settings.socket_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(settings.folder.stat().st_mode) == 0o700


async def test_artifact_comes_back_whole_with_etag_and_range(client: httpx.AsyncClient) -> None:
    content = bytes(range(256)) * 9000
    digest = await put_artifact(client, content)
    whole = await client.get(f"/artifacts/{digest}")
    assert whole.content == content
    assert whole.headers["etag"] == f'"{digest}"'
    part = await client.get(f"/artifacts/{digest}", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    held = await client.get(f"/artifacts/{digest}", headers={"If-None-Match": f'"{digest}"'})
    assert (held.status_code, held.content) == (304, b"")
    head = await client.head(f"/artifacts/{digest}")
    assert head.headers["content-length"] == str(len(content))
    assert (await put_artifact(client, content)) == digest


async def test_artifact_with_another_digest_than_sent_is_refused(
    client: httpx.AsyncClient,
) -> None:
    digest = hashlib.sha256(b"what was meant").hexdigest()
    for sent, told in ((digest, "X-Content-SHA256: expected"), ("xyz", "64 hex digits")):
        response = await client.post(
            "/artifacts", content=b"what came", headers={"X-Content-SHA256": sent}
        )
        assert response.status_code == 400
        assert told in response.json()["error"]
    came = hashlib.sha256(b"what came").hexdigest()
    assert (await client.get(f"/artifacts/{came}")).status_code == 404
    assert (await client.get("/artifacts/none")).status_code == 400


async def test_bodies_over_their_limits_are_refused(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, ARTIFACT_BYTES="100", JSON_BYTES="200")
    async with serving(settings) as client:
        assert (await client.post("/artifacts", content=b"x" * 101)).status_code == 413
        assert (await client.post("/artifacts", content=b"x" * 100)).status_code == 201
        long = {"experiment": "x" * 200}
        response = await client.post("/runs", json=long)
        assert response.status_code == 413
        assert "expected at most 200 bytes" in response.json()["error"]
        assert list((settings.artifacts_dir / "tmp").iterdir()) == []


async def test_damaged_artifact_is_not_sent_when_reads_are_verified(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, VERIFY_READS="true")
    async with serving(settings) as client:
        digest = await put_artifact(client, b"whole")
        assert (await client.get(f"/artifacts/{digest}")).content == b"whole"
        (settings.artifacts_dir / digest[:2] / digest).write_bytes(b"other")
        response = await client.get(f"/artifacts/{digest}")
        assert response.status_code == 500
        assert "incident" in response.json()["error"]
        assert digest not in response.text


async def test_json_of_another_kind_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.post("/runs", content=b"<a/>", headers={"Content-Type": "text/xml"})
    assert response.status_code == 415


async def test_key_seen_before_answers_the_first_result(client: httpx.AsyncClient) -> None:
    await put_model(client)
    digest = await put_artifact(client)
    key = {"Idempotency-Key": "run-1/train/0"}
    body = {"artifact": digest, "tags": {"a": "1", "b": "2"}}
    first = await client.post("/models/iris/versions", json=body, headers=key)
    turned = json.dumps(dict(reversed(body.items())), indent=1)
    again = await client.post("/models/iris/versions", content=turned, headers=key)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert (await client.get("/models/iris")).json()["latest"] == 2
    other = await client.post("/models/iris/versions", json={"artifact": digest}, headers=key)
    assert other.status_code == 409
    assert "was used for another request" in other.json()["error"]
    elsewhere = await client.post("/models/wine/versions", json=body, headers=key)
    assert elsewhere.json()["version"] == 1


async def test_key_sent_at_once_makes_one_version(client: httpx.AsyncClient) -> None:
    digest = await put_artifact(client)
    answers = await asyncio.gather(
        *[
            client.post(
                "/models/iris/versions",
                json={"artifact": digest},
                headers={"Idempotency-Key": "once"},
            )
            for _ in range(8)
        ]
    )
    assert {(response.status_code, response.json()["version"]) for response in answers} == {
        (201, 1)
    }


async def test_key_of_a_refused_request_may_be_used_again(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "k"}
    run = {"experiment": "e", "inputs": {"feature_set": "ab"}}
    assert (await client.post("/runs", json=run, headers=key)).status_code == 400
    assert (await client.post("/runs", json={"experiment": "e"}, headers=key)).status_code == 201


async def test_upload_with_a_key_is_answered_as_the_first_time(client: httpx.AsyncClient) -> None:
    key = {"Idempotency-Key": "upload"}
    first = await client.post("/datasets/iris", content=IRIS, headers=key)
    again = await client.post("/datasets/iris", content=IRIS, headers=key)
    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert first.status_code == 201
    other = await client.post("/datasets/iris", content=IRIS + b"1,2,x\n", headers=key)
    assert other.status_code == 409
    assert (await client.get("/datasets/iris/versions/2")).status_code == 404


async def test_artifact_with_a_key_used_for_other_bytes_conflicts(
    client: httpx.AsyncClient,
) -> None:
    key = {"Idempotency-Key": "a"}
    assert (await client.post("/artifacts", content=b"1", headers=key)).status_code == 201
    assert (await client.post("/artifacts", content=b"2", headers=key)).status_code == 409


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
async def test_malformed_key_is_refused(client: httpx.AsyncClient, key: str) -> None:
    response = await client.post(
        "/runs", json={"experiment": "e"}, headers={"Idempotency-Key": key}
    )
    assert response.status_code == 400
    assert (await client.get("/runs")).json()["runs"] == []


async def test_events_wait_for_the_first_and_come_in_order(client: httpx.AsyncClient) -> None:
    await put_model(client)
    seen = (await client.get("/events")).json()
    assert (seen["next"], seen["last"]) == (1, 1)
    waiting = asyncio.create_task(client.get("/events?after=1&wait=30"))
    await until_waiting(client)
    loop = asyncio.get_running_loop()
    moved = loop.time()
    await client.put("/models/iris/aliases/champion", json={"version": 1})
    response = (await waiting).json()
    assert loop.time() - moved < 25, "as long as nothing had happened"
    assert [event["kind"] for event in response["events"]] == ["alias.moved"]
    assert response["next"] == 2


async def test_events_that_do_not_come_end_the_wait_empty(client: httpx.AsyncClient) -> None:
    response = (await client.get("/events?after=0&wait=0.05")).json()
    assert response == {"events": [], "next": 0, "last": 0}
    for wrong in ("wait=-1", "wait=nan", "after=x", "kind=none"):
        assert (await client.get(f"/events?{wrong}")).status_code == 400


async def test_predictions_are_logged_in_batches(client: httpx.AsyncClient) -> None:
    batch = [
        {
            "model": "iris",
            "version": 1,
            "function": "predict",
            "at": "2026-11-22T05:00:00Z",
            "features": {"length": 5.1},
            "output": ["setosa"],
            "latency": 0.0004,
        },
        {"model": "iris", "version": 2, "function": "predict", "inputs": [[1, 2]]},
    ]
    assert (await client.post("/predictions", json=batch)).json() == {"accepted": 2}
    again = await client.post("/predictions", json={"predictions": batch[:1]})
    assert again.status_code == 201
    found = (await client.get("/predictions?model=iris&version=1")).json()["predictions"]
    assert [(one["id"], one["inputs"], one["output"]) for one in found] == [
        (1, {"length": 5.1}, ["setosa"]),
        (3, {"length": 5.1}, ["setosa"]),
    ]
    assert (await client.post("/predictions", json=batch * 501)).status_code == 400
