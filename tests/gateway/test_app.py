import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import Gateway, create
from gateway.auth.credentials import read
from gateway.providers import table
from gateway.settings import GatewaySettings
from gateway.types.errors import SluiceError
from tests.fakes import FakeProvider, deployment

OFF = GatewaySettings()


def settings_in(folder: Path, **knobs: Any) -> GatewaySettings:
    return GatewaySettings(
        data_dir=folder / "data", port=0, metrics_port=0, drain_timeout=30.0, **knobs
    )


@asynccontextmanager
async def client_of(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    found = read(gateway.settings.secrets_dir)
    auth = (found.user.decode(), found.password.decode())
    url = f"http://127.0.0.1:{gateway.port}"
    async with httpx.AsyncClient(base_url=url, auth=auth, timeout=60) as client:
        yield client


async def test_gateway_serves_functions_api_and_metrics(tmp_path: Path) -> None:
    provider = FakeProvider(tmp_path)
    async with (
        create(settings_in(tmp_path), provider) as gateway,
        client_of(gateway) as client,
    ):
        body = {"service": "echo", "image": "echo:1"}
        assert (await client.post("/system/functions", json=body)).status_code == 202
        called = await client.post("/function/echo", content=b"hello", auth=httpx.Auth())
        assert called.status_code == 200
        assert (await client.get("/system/functions", auth=("a", "b"))).status_code == 401
        (listed,) = (await client.get("/system/functions")).json()
        assert (listed["invocationCount"], listed["availableReplicas"]) == (1.0, 1)
        metrics = f"http://127.0.0.1:{gateway.metrics_port}"
        text = (await client.get(f"{metrics}/metrics")).text
        name = 'function_name="echo.openfaas-fn"'
        assert f'gateway_function_invocation_total{{code="200",{name}}} 1.0' in text
        assert f"gateway_service_count{{{name}}} 1.0" in text
        assert "process_resident_memory_bytes" in text
        assert 'provider_http_requests_total{code="202",method="post"' in text
        (target,) = (await client.get(f"{metrics}/sd")).json()
        assert target["labels"]["function_name"] == "echo.openfaas-fn"
        assert (await client.get("/metrics")).status_code == 404


async def test_gateway_runs_the_provider_that_the_settings_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = FakeProvider(tmp_path)
    monkeypatch.setitem(table.PROVIDERS, "fake", lambda _settings: provider)
    async with (
        create(settings_in(tmp_path, provider="fake")) as gateway,
        client_of(gateway) as client,
    ):
        info = (await client.get("/system/info")).json()
        assert (info["provider"]["provider"], info["isolation"]) == ("sluice-fake", "none: a test")
        body = {"service": "echo", "image": "echo:1"}
        assert (await client.post("/system/functions", json=body)).status_code == 202
        called = await client.post("/function/echo", content=b"hello")
        assert (called.status_code, [each.id.name for each in provider.deployed]) == (200, ["echo"])
        # It has no target, so there is nothing that builds.
        assert (await client.post("/build")).status_code == 404
    assert not (tmp_path / "data" / "bundles.sqlite").exists()


async def test_gateway_wakes_a_function_from_zero_for_a_call(tmp_path: Path) -> None:
    provider = FakeProvider(tmp_path)
    await provider.deploy(deployment("echo"))
    await provider.ready("echo")
    async with (
        create(settings_in(tmp_path), provider) as gateway,
        client_of(gateway) as client,
    ):
        zero = {"replicas": 0}
        assert (await client.post("/system/scale-function/echo", json=zero)).status_code == 202
        await provider.ready("echo", 0)
        assert (await client.post("/function/echo", content=b"x")).status_code == 200
        assert len(provider.replicas("echo")) == 1


async def test_gateway_gives_namespaces_the_registry_token(tmp_path: Path) -> None:
    provider = FakeProvider(tmp_path)
    async with (
        create(settings_in(tmp_path), provider) as gateway,
        client_of(gateway) as client,
    ):
        mark = {"openfaas": "1"}
        team = {"name": "team", "labels": mark}
        assert (await client.post("/system/namespace/", json=team)).status_code == 201
        token = read(gateway.settings.secrets_dir).registry_token
        for namespace in ("openfaas-fn", "team"):
            assert provider.known_secrets[namespace] == {"registry-token": token}
        gone = await client.request("DELETE", "/system/namespace/team", json=team)
        assert gone.status_code == 202


async def test_gateway_ends_followed_logs_when_it_stops(tmp_path: Path) -> None:
    provider = FakeProvider(tmp_path)
    await provider.deploy(deployment("echo"))
    settings = settings_in(tmp_path)
    async with create(settings, provider) as gateway:
        found = read(settings.secrets_dir)
        login = (found.user.decode(), found.password.decode())
        client = httpx.AsyncClient(auth=login, timeout=60)
        url = f"http://127.0.0.1:{gateway.port}/system/logs?name=echo&follow=true"
        request = client.build_request("GET", url)
        response = await client.send(request, stream=True)
        assert response.status_code == 200
    async with asyncio.timeout(60):
        assert await response.aread() == b""
    await client.aclose()


async def test_gateway_stops_reading_an_api_body_over_the_limit(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, basic_auth=False)
    async with create(settings, FakeProvider(tmp_path)) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(
            b"POST /system/functions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(20):
            writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        async with asyncio.timeout(60):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 413 ")
            assert b"connection: close" in head
            assert b"body: expected at most 1048576 bytes" in await reader.read()
        writer.close()


async def test_gateway_with_mounted_credentials_that_are_missing_says_which(
    tmp_path: Path,
) -> None:
    settings = settings_in(tmp_path, secret_mount_path=str(tmp_path / "mounted"))
    with pytest.raises(SluiceError, match="basic-auth-user: cannot read it"):
        async with create(settings, FakeProvider(tmp_path)):
            pytest.fail("it started")


@pytest.mark.parametrize("knob", ["port", "metrics_port"])
async def test_gateway_port_taken_names_port_owner_and_setting(tmp_path: Path, knob: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        settings = replace(settings_in(tmp_path), **{knob: port})
        with pytest.raises(SluiceError) as caught:
            async with create(settings, FakeProvider(tmp_path)):
                pytest.fail("it started")
    variable = {"port": "SLUICE_PORT", "metrics_port": "SLUICE_METRICS_PORT"}[knob]
    assert f"port {port} on 127.0.0.1 is taken by" in str(caught.value)
    assert f"(pid {os.getpid()})" in str(caught.value)
    assert variable in str(caught.value)
