import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest
from prometheus_client import CollectorRegistry

from gateway.api.application import application
from gateway.api.control import ControlPlane
from gateway.types.function import FunctionDeployment, LogLine, LogQuery
from gateway.types.ids import FunctionId
from tests.gateway.api.recording import RecordingProvider
from tests.gateway.api.wired import Wired

ECHO = FunctionId("echo")
MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
LINE = LogLine(ECHO, "echo-1", MOMENT, "hello")


@pytest.fixture(autouse=True)
async def echo(provider: RecordingProvider) -> None:
    await provider.deploy(FunctionDeployment(ECHO, "echo:1"))


async def test_logs_without_follow_end_by_themselves(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    provider.log_lines = [LINE, replace(LINE, text='line\n"two" \N{SNOWMAN}')]
    response = await api.get("/system/logs?name=echo&follow=false&tail=-1&namespace=")
    assert response.headers["content-type"] == "application/x-ndjson"
    first, second = response.text.splitlines()
    assert json.loads(first) == {
        "name": "echo",
        "namespace": "openfaas-fn",
        "instance": "echo-1",
        "timestamp": "2026-01-02T03:04:05.678000Z",
        "text": "hello",
    }
    assert json.loads(second)["text"] == 'line\n"two" \N{SNOWMAN}'
    assert provider.queries == [LogQuery(ECHO)]


async def test_logs_parameters_reach_the_provider(
    api: httpx.AsyncClient, provider: RecordingProvider
) -> None:
    since = "2026-01-02T05:04:05.678%2B02:00"
    await api.get(f"/system/logs?name=echo.openfaas-fn&instance=echo-1&tail=7&since={since}")
    assert provider.queries == [LogQuery(ECHO, "echo-1", 7, MOMENT)]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "name: expected a function, got ''"),
        ("name=echo&tail=x", "tail: expected a whole number, got 'x'"),
        ("name=echo&tail=1.5", "tail: expected"),
        ("name=echo&follow=yes", "follow: expected true or false, got 'yes'"),
        ("name=echo&since=yesterday", "since: expected an RFC 3339 time"),
        ("name=echo&since=2026-01-02T03:04:05", "since: expected an RFC 3339 time"),
        ("name=echo&since=2026-13-02T03:04:05Z", "since: expected an RFC 3339 time"),
        ("name=echo&instance=../../x", "instance: expected a replica's id"),
    ],
)
async def test_logs_bad_parameter_is_422_and_named(
    api: httpx.AsyncClient, provider: RecordingProvider, query: str, text: str
) -> None:
    response = await api.get(f"/system/logs?{query}")
    assert response.status_code == 422
    assert response.text.startswith("could not parse the log request: ")
    assert text in response.text
    assert provider.queries == []


async def test_logs_of_an_unknown_function_are_not_found(api: httpx.AsyncClient) -> None:
    assert (await api.get("/system/logs?name=gone&follow=true")).status_code == 404


async def test_logs_follow_sends_each_line_at_once_until_the_client_leaves(
    control: ControlPlane, provider: RecordingProvider
) -> None:
    provider.log_lines = [LINE]
    app = application(control, CollectorRegistry())
    async with Wired(app, "GET", "/system/logs?name=echo&follow=1") as wired:
        await wired.body()
        assert (await wired.next())["status"] == 200
        assert b"hello" in (await wired.next())["body"]
        provider.log(replace(LINE, text="later"))
        assert b"later" in (await wired.next())["body"]
        assert provider.followers == 1
        await wired.leave()
        await asyncio.wait_for(wired.task, 60)
    assert provider.followers == 0


async def test_logs_follow_ends_when_the_gateway_stops(
    control: ControlPlane, provider: RecordingProvider
) -> None:
    app = application(control, CollectorRegistry())
    async with Wired(app, "GET", "/system/logs?name=echo&follow=true") as wired:
        await wired.body()
        await wired.next()
        control.stopping.set()
        assert await wired.rest() == b""
        await asyncio.wait_for(wired.task, 60)
    assert provider.followers == 0


async def test_logs_follow_ends_after_its_time(
    control: ControlPlane, provider: RecordingProvider
) -> None:
    settings = replace(control.settings, log_stream_timeout=0.05)
    app = application(replace(control, settings=settings), CollectorRegistry())
    async with Wired(app, "GET", "/system/logs?name=echo&follow=true") as wired:
        await wired.body()
        await wired.next()
        assert await wired.rest() == b""
    assert provider.followers == 0


async def test_logs_streams_are_limited_and_freed(
    control: ControlPlane, provider: RecordingProvider
) -> None:
    app = application(control, CollectorRegistry())
    target = "/system/logs?name=echo&follow=true"
    async with Wired(app, "GET", target) as one, Wired(app, "GET", target) as two:
        for wired in (one, two):
            await wired.body()
            await wired.next()
        async with Wired(app, "GET", target) as three:
            await three.body()
            assert (await three.next())["status"] == 429
        await one.leave()
        await asyncio.wait_for(one.task, 60)
        async with Wired(app, "GET", target) as four:
            await four.body()
            assert (await four.next())["status"] == 200
