import asyncio

import httpx
import pytest

from tests.registry.flow import put_artifact, put_dataset, put_model


async def move(
    client: httpx.AsyncClient, alias: str = "champion", **body: object
) -> httpx.Response:
    return await client.put(f"/models/iris/aliases/{alias}", json=body)


async def test_version_is_registered_with_all_that_is_known_of_it(
    client: httpx.AsyncClient,
) -> None:
    digest = await put_artifact(client)
    await put_dataset(client)
    run = (await client.post("/runs", json={"experiment": "e"})).json()["id"]
    features = await client.post(
        "/feature-sets",
        json={
            "dataset": "iris",
            "version": 1,
            "target": "kind",
            "task": "classification",
            "spec": {"columns": ["length"]},
            "artifacts": {"transformer": digest},
        },
    )
    assert features.status_code == 201, features.text
    body = {
        "run": run,
        "artifact": digest,
        "signature": {"inputs": [{"name": "x", "shape": [None, 3]}]},
        "metrics": {"accuracy": 0.97},
        "parity": {"labels": 0},
        "dataset": "iris",
        "dataset_version": 1,
        "feature_set": features.json()["id"],
        "framework": {"onnx": "1.23"},
        "tags": {"by": "train"},
    }
    response = await client.post("/models/iris/versions", json=body)
    assert response.status_code == 201, response.text
    told = response.json()
    assert told == {
        **body,
        "name": "iris",
        "version": 1,
        "created_by": "admin",
        "created_at": told["created_at"],
    }
    for version in ("1", "latest"):
        assert (await client.get(f"/models/iris/versions/{version}")).json() == told
    assert (await client.get("/models/iris")).json()["versions"] == [told]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"artifact": "0" * 64}, "artifact: expected an uploaded artifact"),
        ({"artifact": "xyz"}, "artifact:"),
        ({"run": "ab"}, "run: expected a known run, got 'ab'"),
        ({"feature_set": "ab"}, "feature_set: expected a known one"),
        ({"dataset": "none", "dataset_version": 1}, "dataset: expected an uploaded version"),
        ({"dataset": "none"}, "dataset, dataset_version: expected both or none"),
        ({"metric": {}}, "metric: no field of that name"),
        ({"dataset_version": "1"}, "dataset_version:"),
    ],
)
async def test_version_with_broken_links_is_refused_and_no_model_appears(
    client: httpx.AsyncClient, changed: dict[str, object], told: str
) -> None:
    digest = await put_artifact(client)
    response = await client.post("/models/iris/versions", json={"artifact": digest, **changed})
    assert response.status_code == 400
    assert told in response.json()["error"]
    assert (await client.get("/models")).json() == {"models": [], "next": None}


async def test_versions_registered_at_once_are_numbered_without_gap(
    client: httpx.AsyncClient,
) -> None:
    digest = await put_artifact(client)
    answers = await asyncio.gather(
        *[client.post("/models/m/versions", json={"artifact": digest}) for _ in range(20)]
    )
    assert sorted(response.json()["version"] for response in answers) == list(range(1, 21))


async def test_alias_moves_with_history_and_event(client: httpx.AsyncClient) -> None:
    await put_model(client, versions=2)
    first = await move(client, version=1, expected=None, reason="first")
    assert (first.status_code, first.json()) == (
        200,
        {"model": "iris", "alias": "champion", "version": 1, "previous": None},
    )
    second = await move(client, version=2, expected=1, reason="better")
    assert second.json()["previous"] == 1
    history = (await client.get("/models/iris/aliases/champion/history")).json()["history"]
    assert [(one["version"], one["previous"], one["reason"]) for one in history] == [
        (2, 1, "better"),
        (1, None, "first"),
    ]
    assert history[0]["moved_by"] == "admin"
    events = (await client.get("/events?kind=alias.moved")).json()["events"]
    assert [event["data"]["version"] for event in events] == [1, 2]
    assert (await client.get("/models/iris")).json()["aliases"] == {"champion": 2}
    listed = (await client.get("/models/iris/aliases")).json()["aliases"]
    assert [(one["alias"], one["version"]) for one in listed] == [("champion", 2)]


async def test_move_that_expected_another_version_conflicts_and_changes_nothing(
    client: httpx.AsyncClient,
) -> None:
    await put_model(client, versions=3)
    await move(client, version=1)
    for expected in (2, None):
        response = await move(client, version=3, expected=expected)
        assert response.status_code == 409
        assert response.json()["current"] == 1
    assert (await client.get("/models/iris/aliases/champion")).json()["version"] == 1
    assert len((await client.get("/events?kind=alias.moved")).json()["events"]) == 1


async def test_compare_and_set_at_once_has_one_winner(client: httpx.AsyncClient) -> None:
    await put_model(client, versions=16)
    await move(client, version=1)
    answers = await asyncio.gather(
        *[move(client, version=version, expected=1) for version in range(2, 17)]
    )
    assert sorted(response.status_code for response in answers) == [200] + [409] * 14
    winner = next(response.json()["version"] for response in answers if response.status_code == 200)
    assert {response.json().get("current", winner) for response in answers} == {winner}
    assert (await client.get("/models/iris/aliases/champion")).json()["version"] == winner


async def test_move_to_where_it_stands_writes_nothing(client: httpx.AsyncClient) -> None:
    await put_model(client)
    await move(client, version=1)
    assert (await move(client, version=1)).json()["previous"] == 1
    assert len((await client.get("/models/iris/aliases/champion/history")).json()["history"]) == 1


async def test_alias_is_read_with_an_etag_that_changes_when_it_moves(
    client: httpx.AsyncClient,
) -> None:
    await put_model(client, versions=2)
    await move(client, version=1)
    path = "/models/iris/aliases/champion"
    first = await client.get(path)
    assert first.json()["alias"] == "champion"
    assert {"name", "version", "artifact", "signature", "moved_at"} <= set(first.json())
    held = {"If-None-Match": first.headers["etag"]}
    unmoved = await client.get(path, headers=held)
    assert (unmoved.status_code, unmoved.content) == (304, b"")
    await move(client, version=2)
    moved = await client.get(path, headers=held)
    assert (moved.status_code, moved.json()["version"]) == (200, 2)
    await move(client, version=1)
    assert (await client.get(path, headers=held)).status_code == 200


async def test_latest_follows_the_newest_version_and_can_not_be_set(
    client: httpx.AsyncClient,
) -> None:
    await put_model(client, versions=2)
    assert (await client.get("/models/iris/aliases/latest")).json()["version"] == 2
    response = await move(client, "latest", version=1)
    assert response.status_code == 400
    assert "latest is computed" in response.json()["error"]


@pytest.mark.parametrize("alias", ["1", "Champion", "a_b", "-a", "a" * 65])
async def test_alias_outside_the_rule_is_refused(client: httpx.AsyncClient, alias: str) -> None:
    await put_model(client)
    assert (await move(client, alias, version=1)).status_code == 400


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "version: expected a value, it is missing"),
        ({"version": 9}, "version: expected a version of iris, got 9"),
        ({"version": "1"}, "version:"),
        ({"version": True}, "version:"),
        ({"version": 1, "expcted": 1}, "expcted: no field of that name"),
        ([], "body:"),
    ],
)
async def test_move_that_is_asked_wrongly_is_refused(
    client: httpx.AsyncClient, body: object, told: str
) -> None:
    await put_model(client)
    response = await client.put("/models/iris/aliases/champion", json=body)
    assert response.status_code == 400
    assert told in response.json()["error"]
    assert (await client.get("/models/iris/aliases/champion")).status_code == 404


async def test_removed_alias_is_gone_and_its_history_stays(client: httpx.AsyncClient) -> None:
    await put_model(client)
    await move(client, version=1)
    path = "/models/iris/aliases/champion"
    assert (await client.delete(f"{path}?expected=2")).status_code == 409
    assert (await client.delete(path)).json()["previous"] == 1
    assert (await client.get(path)).status_code == 404
    assert (await client.delete(path)).status_code == 404
    history = (await client.get(f"{path}/history")).json()["history"]
    assert [one["version"] for one in history] == [None, 1]
    kinds = [event["kind"] for event in (await client.get("/events")).json()["events"]]
    assert kinds == ["model.registered", "alias.moved", "alias.removed"]


async def test_model_that_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    for path in ("/models/none", "/models/none/versions/1", "/models/none/aliases"):
        assert (await client.get(path)).status_code == 404
    assert (await client.put("/models/none/aliases/a", json={"version": 1})).status_code == 404
