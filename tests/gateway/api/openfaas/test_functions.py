import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from gateway.api.openfaas.functions import DESCRIBED_AT_ONCE
from gateway.types.function import FunctionDeployment, Replica, ReplicaState, UnixAddress
from gateway.types.ids import FunctionId
from tests.gateway.api.recording import RecordingProvider

ECHO = {"service": "echo", "image": "echo:1"}
FULL = {
    **ECHO,
    "namespace": "openfaas-fn",
    "envProcess": "cat",
    "envVars": {"A": "1"},
    "constraints": ["x"],
    "secrets": [],
    "labels": {"com.openfaas.scale.max": "4"},
    "annotations": {"topic": "t"},
    "limits": {"memory": "128Mi", "cpu": "500m"},
    "requests": {"memory": "64Mi"},
    "readOnlyRootFilesystem": True,
}


async def deploy(api: httpx.AsyncClient, **keys: Any) -> None:
    response = await api.post("/system/functions", json={**ECHO, **keys})
    assert response.status_code == 202, response.text


async def test_list_is_an_empty_array_at_first(api: httpx.AsyncClient) -> None:
    response = await api.get("/system/functions?namespace=")
    assert (response.status_code, response.text) == (200, "[]")
    assert response.headers["content-type"] == "application/json"


async def test_list_shows_every_key_that_was_set(api: httpx.AsyncClient) -> None:
    assert (await api.post("/system/functions", json=FULL)).status_code == 202
    (item,) = (await api.get("/system/functions")).json()
    created = item.pop("createdAt")
    assert created.endswith("Z")
    assert datetime.now(UTC) - datetime.fromisoformat(created) < timedelta(minutes=1)
    assert item == {
        "name": "echo",
        "image": "echo:1",
        "namespace": "openfaas-fn",
        "envProcess": "cat",
        "envVars": {"A": "1"},
        "constraints": ["x"],
        "labels": {"com.openfaas.scale.max": "4", "faas_function": "echo"},
        "annotations": {"topic": "t"},
        "limits": {"memory": "128Mi", "cpu": "500m"},
        "requests": {"memory": "64Mi"},
        "readOnlyRootFilesystem": True,
        "replicas": 1,
    }


async def turns_while_listing(api: httpx.AsyncClient) -> int:
    """How often others have their turn on the loop while the functions are listed."""
    listing = asyncio.ensure_future(api.get("/system/functions"))
    turns = 0
    while not listing.done():
        turns += 1
        await asyncio.sleep(0)
    assert len((await listing).json()) >= 1
    return turns


async def test_calls_do_not_wait_for_the_whole_of_a_long_list(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    await deploy(api)
    short = await turns_while_listing(api)
    for number in range(10 * DESCRIBED_AT_ONCE):
        function = FunctionId(f"idle-{number}")
        labels = {"com.openfaas.scale.min": "0"}
        await provider.deploy(FunctionDeployment(function, "echo:1", labels=labels))
    assert await turns_while_listing(api) >= short + 10


async def test_list_leaves_out_what_is_null_or_empty(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    await deploy(
        api,
        envVars={},
        labels=None,
        annotations={},
        limits={},
        requests={"memory": ""},
        namespace="",
    )
    (item,) = (await api.get("/system/functions")).json()
    assert sorted(item) == ["createdAt", "image", "labels", "name", "namespace", "replicas"]
    (deployment,) = await provider.deployments()
    assert deployment.limits is None
    assert deployment.requests is None


async def test_list_counts_invocations_without_prometheus(
    api: httpx.AsyncClient, invocations: dict[FunctionId, float]
) -> None:
    await deploy(api)
    await deploy(api, service="quiet")
    invocations[FunctionId("echo")] = 7
    echo, quiet = (await api.get("/system/functions")).json()
    assert echo["invocationCount"] == 7.0
    assert "invocationCount" not in quiet


async def test_list_of_an_unknown_namespace_is_empty(api: httpx.AsyncClient) -> None:
    assert (await api.get("/system/functions?namespace=gone")).json() == []
    bad = await api.get("/system/functions?namespace=../x")
    assert bad.status_code == 400
    assert "namespace: expected lower-case letters" in bad.text


async def test_create_existing_function_is_a_conflict_that_names_it(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    await deploy(api)
    response = await api.post("/system/functions", json={**ECHO, "image": "other:2"})
    assert (response.status_code, response.text) == (
        409,
        "function echo.openfaas-fn exists already",
    )
    assert provider.changes == 1


async def test_create_twice_at_once_makes_one(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    answers = await asyncio.gather(*(api.post("/system/functions", json=ECHO) for _ in range(5)))
    assert sorted(response.status_code for response in answers) == [202, 409, 409, 409, 409]
    assert provider.changes == 1


async def test_update_unknown_function_is_not_found(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    assert (await api.put("/system/functions", json=ECHO)).status_code == 404
    assert provider.changes == 0


async def test_update_replaces_the_deployment_in_full(api: httpx.AsyncClient) -> None:
    await api.post("/system/functions", json=FULL)
    assert (await api.put("/system/functions", json=ECHO)).status_code == 202
    found = (await api.get("/system/function/echo")).json()
    assert "envVars" not in found
    assert found["labels"] == {"faas_function": "echo"}


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("?namespace=team", {"functionName": "echo"}),
        ("", {"functionName": "echo", "namespace": "team"}),
        ("", {"functionName": "echo.team"}),
    ],
)
async def test_delete_finds_its_namespace_in_query_body_or_name(
    api: httpx.AsyncClient, provider: RecordingProvider, query: str, body: dict[str, str]
) -> None:
    await api.post("/system/namespace/", json={"name": "team"})
    await deploy(api, namespace="team")
    await deploy(api)
    response = await api.request("DELETE", f"/system/functions{query}", json=body)
    assert response.status_code == 202
    assert [str(each.id) for each in await provider.deployments()] == ["echo.openfaas-fn"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"functionName": ""}, 400),
        ({"functionName": "nothing"}, 404),
        ({"functionName": "../x"}, 404),
    ],
)
async def test_delete_bad_or_unknown_name_changes_nothing(
    api: httpx.AsyncClient, provider: RecordingProvider, body: dict[str, str], status: int
) -> None:
    await deploy(api)
    response = await api.request("DELETE", "/system/functions", json=body)
    assert (response.status_code, provider.changes) == (status, 1)


async def test_describe_tells_replicas_reason_and_usage(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    await deploy(api, annotations={"topic": "t"})
    address = UnixAddress("run/r.sock")
    running = (
        Replica("echo-1", address, ReplicaState.READY, 2),
        Replica("echo-2", address, ReplicaState.FAILED, 1, "exit code 3"),
    )
    status = await provider.status(FunctionId("echo"))
    provider.states[status.id] = replace(status, running=running, replicas=2)
    found = (await api.get("/system/function/echo.openfaas-fn?usage=1")).json()
    assert found["availableReplicas"] == 1
    assert found["reason"] == "exit code 3"
    assert found["annotations"] == {"topic": "t", "com.sluice.reason": "exit code 3"}
    assert found["replicaStates"] == [
        {"id": "echo-1", "state": "ready", "restarts": 2, "reason": ""},
        {"id": "echo-2", "state": "failed", "restarts": 1, "reason": "exit code 3"},
    ]
    assert found["usage"] == {"cpu": 10.0, "totalMemoryBytes": 1048576.0}
    (listed,) = (await api.get("/system/functions")).json()
    assert listed["annotations"] == {"topic": "t"}
    assert "reason" not in listed
    assert "usage" not in (await api.get("/system/function/echo?usage=0")).json()


@pytest.mark.parametrize("path", ["nothing", "Echo", "a.b.c", ".openfaas-fn", "x%00y"])
async def test_describe_unknown_name_is_not_found(api: httpx.AsyncClient, path: str) -> None:
    assert (await api.get(f"/system/function/{path}")).status_code == 404


BAD_DEPLOYMENTS = [
    (b"", "body: expected JSON"),
    (b"{", "body: expected JSON, got: EOF"),
    (b"[" * 5000, "body: expected at most 4096 bytes, got 5000"),
    (b"[" * 3000, "body: expected JSON, got: recursion limit"),
    (b"\xff\xfe", "body: expected JSON"),
    (b'{"service":"\\ud800","image":"i"}', "body: expected JSON, got: "),
    (b"[]", "body: expected an object, got an array"),
    ({"image": "i"}, "service: expected a value, got nothing"),
    ({"service": "echo"}, "image: expected a value, got nothing"),
    ({"service": 3, "image": "i"}, "service: expected a string, got 3"),
    ({"service": "../x", "image": "i"}, "service: expected lower-case letters"),
    ({"service": "a" * 64, "image": "i"}, "63 at most, got 'aaaa"),
    ({"service": "Echo", "image": "i"}, "got 'Echo'"),
    ({"service": "echo\n", "image": "i"}, "got 'echo\\n'"),
    ({"service": "echo", "image": " "}, "image: expected an image name without white space"),
    ({**ECHO, "namespace": "no.such"}, "namespace: expected lower-case letters"),
    ({**ECHO, "namespace": "elsewhere"}, "namespace: expected one that exists, got 'elsewhere'"),
    ({**ECHO, "envVars": {"A": 1}}, "envVars.A: expected a string, got a number"),
    ({**ECHO, "envVars": {"A=B": "1"}}, "a variable name"),
    ({**ECHO, "envVars": {"A": "\0"}}, "envVars.A: expected text without a NUL"),
    ({**ECHO, "envVars": []}, "envVars: expected an object of strings, got an array"),
    ({**ECHO, "labels": {"a": None}}, "labels.a: expected a string, got null"),
    ({**ECHO, "secrets": "s"}, "secrets: expected an array of strings, got 's'"),
    ({**ECHO, "secrets": ["../../etc/passwd"]}, "secrets.0: expected lower-case letters"),
    ({**ECHO, "secrets": ["missing"]}, "secret missing: not found"),
    ({**ECHO, "limits": {"memory": "lots"}}, "limits.memory: expected a size such as"),
    ({**ECHO, "limits": {"memory": "0"}}, "limits.memory: expected a size above 0"),
    ({**ECHO, "limits": {"cpu": "-1"}}, "limits.cpu: expected a number of cores"),
    ({**ECHO, "limits": {"nvidia.com/gpu": "1"}}, "limits.nvidia.com/gpu: expected no GPU"),
    ({**ECHO, "limits": 5}, "limits: expected an object, got 5"),
    ({**ECHO, "readOnlyRootFilesystem": "yes"}, "expected true or false, got 'yes'"),
    ({**ECHO, "labels": {"com.openfaas.scale.min": "x"}}, "com.openfaas.scale.min"),
    ({**ECHO, "labels": {"com.openfaas.scale.factor": "ten"}}, "com.openfaas.scale.factor"),
    (
        {**ECHO, "labels": {"com.openfaas.scale.min": "3", "com.openfaas.scale.max": "2"}},
        "com.openfaas.scale.m",
    ),
]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(("body", "text"), BAD_DEPLOYMENTS)
async def test_deploy_bad_input_names_field_and_changes_nothing(
    api: httpx.AsyncClient, provider: RecordingProvider, method: str, body: Any, text: str
) -> None:
    if method == "PUT":
        await deploy(api)
    before = provider.changes
    content = {"content": body} if isinstance(body, bytes) else {"json": body}
    response = await api.request(method, "/system/functions", **content)
    assert text in response.text
    assert response.status_code == (413 if "at most 4096" in text else 400)
    assert provider.changes == before


async def test_deploy_body_sent_in_chunks_is_limited_too(api: httpx.AsyncClient) -> None:
    async def pieces() -> Any:
        for _ in range(5):
            yield b" " * 1000

    response = await api.post("/system/functions", content=pieces())
    assert (response.status_code, response.text) == (
        413,
        "body: expected at most 4096 bytes, got more",
    )


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", {"replicas": 0}),
        ("?namespace=openfaas-fn", {"serviceName": "echo", "replicas": 0}),
        ("", {"serviceName": "echo", "replicas": 0, "namespace": "openfaas-fn"}),
    ],
)
async def test_scale_to_zero_is_done(
    api: httpx.AsyncClient, provider: RecordingProvider, query: str, body: dict[str, Any]
) -> None:
    await deploy(api)
    response = await api.post(f"/system/scale-function/echo{query}", json=body)
    assert (response.status_code, response.text) == (202, "")
    assert provider.scaled == [(FunctionId("echo"), 0)]
    assert "replicas" not in (await api.get("/system/function/echo")).json()


async def test_scale_is_clamped_to_the_maximum(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    await deploy(api, labels={"com.openfaas.scale.max": "3"})
    await api.post("/system/scale-function/echo", json={"replicas": 99})
    assert provider.scaled == [(FunctionId("echo"), 3)]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"nope", 400, "body: expected JSON"),
        (b"{}", 400, "replicas: expected a value, got nothing"),
        (b'{"replicas": -1}', 400, "replicas: expected a whole number, 0 or more, got -1"),
        (b'{"replicas": 1.5}', 400, "replicas: expected a whole number, got 1.5"),
        (b'{"replicas": "2"}', 400, "replicas: expected a whole number, got '2'"),
        (b'{"replicas": true}', 400, "replicas: expected a whole number, got true"),
        (b'{"replicas": 2, "serviceName": "other"}', 400, "serviceName: expected 'echo'"),
        (b'{"replicas": 2, "namespace": "other"}', 404, "function echo.other: not found"),
    ],
)
async def test_scale_bad_input_changes_nothing(
    api: httpx.AsyncClient, provider: RecordingProvider, body: bytes, status: int, text: str
) -> None:
    await deploy(api)
    response = await api.post("/system/scale-function/echo", content=body)
    assert (response.status_code, provider.changes) == (status, 1)
    assert text in response.text
