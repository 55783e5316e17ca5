from typing import Any

import httpx
import pytest

from gateway.types.function import Namespace
from tests.gateway.api.recording import RecordingProvider

TEAM = {"name": "team", "labels": {"openfaas": "1"}, "annotations": {"openfaas": "1"}}


async def test_namespaces_default_one_is_listed_whatever_the_parameter(
    api: httpx.AsyncClient,
) -> None:
    assert (await api.get("/system/namespaces?namespace=x")).json() == ["openfaas-fn"]
    assert (await api.get("/system/namespace/openfaas-fn")).json() == {"name": "openfaas-fn"}


async def test_namespace_create_update_delete(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    assert (await api.post("/system/namespace/", json=TEAM)).status_code == 201
    assert (await api.get("/system/namespaces")).json() == ["openfaas-fn", "team"]
    assert (await api.get("/system/namespace/team")).json() == TEAM
    changed = {"name": "team", "labels": {"openfaas": "1", "cost": "low"}}
    assert (await api.put("/system/namespace/team", json=changed)).status_code == 202
    assert (await api.get("/system/namespace/team")).json() == changed
    response = await api.request("DELETE", "/system/namespace/team", json=TEAM)
    assert response.status_code == 202
    assert [known.name for known in await provider.namespaces()] == ["openfaas-fn"]


async def test_namespace_create_existing_is_a_conflict(api: httpx.AsyncClient) -> None:
    await api.post("/system/namespace/", json=TEAM)
    response = await api.post("/system/namespace/", json=TEAM)
    assert (response.status_code, response.text) == (409, "namespace team exists already")


@pytest.mark.parametrize("body", [{}, {"name": ""}, {"name": "../x"}, {"name": 3}])
async def test_namespace_create_bad_name_is_refused(
    api: httpx.AsyncClient, provider: RecordingProvider, body: dict[str, Any]
) -> None:
    response = await api.post("/system/namespace/", json=body)
    assert (response.status_code, provider.changes) == (400, 0)
    assert response.text.startswith("name: expected ")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({**TEAM, "name": "gone"}, 404, "namespace gone not found"),
        ({**TEAM, "name": "other"}, 400, "name: expected 'team' as in the path"),
        ({"labels": {"openfaas": "1"}}, 400, "name: expected lower-case letters"),
        ({"name": "team"}, 400, "labels.openfaas: expected '1', got null"),
        ({"name": "team", "labels": {"openfaas": "0"}}, 400, "got '0'"),
    ],
)
async def test_namespace_change_must_repeat_name_and_mark(
    api: httpx.AsyncClient,
    provider: RecordingProvider,
    method: str,
    body: dict[str, Any],
    status: int,
    text: str,
) -> None:
    await provider.put_namespace(Namespace("team"))
    path = "/system/namespace/gone" if status == 404 else "/system/namespace/team"
    response = await api.request(method, path, json=body)
    assert (response.status_code, provider.changes) == (status, 1)
    assert text in response.text


async def test_namespace_default_or_in_use_is_not_deleted(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    await api.post("/system/namespace/", json=TEAM)
    function = {"service": "echo", "image": "i", "namespace": "team"}
    await api.post("/system/functions", json=function)
    in_use = await api.request("DELETE", "/system/namespace/team", json=TEAM)
    default = await api.request(
        "DELETE", "/system/namespace/openfaas-fn", json={**TEAM, "name": "openfaas-fn"}
    )
    assert (in_use.status_code, default.status_code) == (400, 400)
    assert [known.name for known in await provider.namespaces()] == ["openfaas-fn", "team"]
