import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter

from gateway import exporter
from gateway.scrape_targets import ScrapeTargets
from gateway.types.function import (
    FunctionDeployment,
    FunctionRemoved,
    FunctionStatus,
    Replica,
    ReplicaState,
    TcpAddress,
    UnixAddress,
)
from gateway.types.ids import FunctionId
from sluice.http1.asgi import AsgiApplication
from sluice.http1.server import Server

ECHO = FunctionId("echo")
CollectedResponse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def says(response: bytes) -> CollectedResponse:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(response.replace(b"PATH", head.split()[1]))
        writer.close()

    return serve


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


def status(*replicas: Replica) -> FunctionStatus:
    created = datetime(2026, 1, 2, tzinfo=UTC)
    return FunctionStatus(FunctionDeployment(ECHO, "echo:1"), 1, replicas, created)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def targets(tmp_path: Path) -> ScrapeTargets:
    services = {"registry": UnixAddress(str(tmp_path / "registry.sock"))}
    return ScrapeTargets(services, seconds=30)


@pytest.fixture
async def client(
    registry: CollectorRegistry, targets: ScrapeTargets
) -> AsyncIterator[httpx.AsyncClient]:
    app = exporter.application(registry, targets, "127.0.0.1:8082")
    server = Server(AsgiApplication(app))
    port = await server.listen_tcp("127.0.0.1", 0)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client
    await server.close(1.0)


@asynccontextmanager
async def replica(
    targets: ScrapeTargets,
    path: Path,
    response: CollectedResponse,
    state: ReplicaState = ReplicaState.READY,
) -> AsyncIterator[None]:
    server = await asyncio.start_unix_server(response, path)
    targets.apply(status(Replica("echo-1", UnixAddress(str(path)), state)))
    yield
    server.close()
    await server.wait_closed()


async def test_metrics_show_the_registry(
    client: httpx.AsyncClient, registry: CollectorRegistry
) -> None:
    counter = Counter("seen", "What was seen.", ["what"], registry=registry)
    counter.labels("one").inc()
    response = await client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert 'seen_total{what="one"} 1.0' in response.text


async def test_metrics_of_many_series_are_all_there(
    client: httpx.AsyncClient, registry: CollectorRegistry
) -> None:
    counter = Counter("seen", "What was seen.", ["what"], registry=registry)
    for number in range(1500):
        counter.labels(str(number)).inc()
    response = await client.get("/metrics")
    assert response.text.count("seen_total{") == 1500


async def test_healthz_answers_get_only(client: httpx.AsyncClient) -> None:
    response = await client.get("/healthz")
    assert (response.status_code, response.text) == (200, "OK")
    assert (await client.post("/healthz")).status_code == 405
    assert (await client.get("/nothing")).text == "404 page not found\n"


async def test_discovery_lists_what_can_be_scraped(
    client: httpx.AsyncClient, targets: ScrapeTargets, tmp_path: Path
) -> None:
    assert (await client.get("/sd")).json() == []
    address = TcpAddress("127.0.0.1", 1)
    targets.apply(
        status(
            Replica("echo-1", address, ReplicaState.READY),
            Replica("echo-2", address, ReplicaState.STARTING),
            Replica("echo-3", address, ReplicaState.DRAINING),
            Replica("echo-4", address, ReplicaState.FAILED),
        )
    )
    registry_up = await asyncio.start_unix_server(hangs, tmp_path / "registry.sock")
    own = str(client.base_url).removeprefix("http://").rstrip("/")
    groups = (await client.get("/sd")).json()
    registry_up.close()
    assert groups[0] == {
        "targets": [own],
        "labels": {
            "function_name": "echo.openfaas-fn",
            "replica": "echo-1",
            "__metrics_path__": "/targets/echo-1/metrics",
            "instance": "echo-1",
        },
    }
    assert [group["labels"]["instance"] for group in groups] == ["echo-1", "echo-3", "registry"]
    assert groups[2]["labels"]["service"] == "registry"
    targets.apply(FunctionRemoved(ECHO))
    assert len((await client.get("/sd")).json()) == 1


async def test_discovery_does_not_repeat_a_strange_host(client: httpx.AsyncClient) -> None:
    response = await client.get("/sd", headers={"host": "a:80"})
    assert response.status_code == 200
    assert exporter.HOST.fullmatch('a"b') is None


@pytest.mark.parametrize("length", [b"", b"Content-Length: 12\r\n"])
async def test_target_passes_a_replicas_metrics_on(
    client: httpx.AsyncClient, targets: ScrapeTargets, tmp_path: Path, length: bytes
) -> None:
    metrics = b"HTTP/1.1 200 OK\r\nContent-Type: text/x\r\n" + length + b"\r\nPATH 1"
    async with replica(targets, tmp_path / "r.sock", says(metrics)):
        response = await client.get("/targets/echo-1/metrics")
    assert (response.status_code, response.text) == (200, "/_/metrics 1")
    assert response.headers["content-type"] == "text/x"


async def test_target_unknown_is_not_found(client: httpx.AsyncClient) -> None:
    response = await client.get("/targets/gone/metrics")
    assert (response.status_code, response.text) == (404, "no target gone")


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (b"HTTP/1.1 500 Oh\r\n\r\n", "expected status 200, got 'HTTP/1.1 500 Oh'"),
        (b"nonsense\r\n\r\n", "expected status 200, got 'nonsense'"),
        (b"", "cannot be reached"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "expected 9 bytes, got 4"),
    ],
)
async def test_target_that_answers_badly_is_502(
    client: httpx.AsyncClient, targets: ScrapeTargets, tmp_path: Path, response: bytes, text: str
) -> None:
    async with replica(targets, tmp_path / "r.sock", says(response)):
        got = await client.get("/targets/echo-1/metrics")
    assert got.status_code == 502
    assert text in got.text


async def test_target_that_is_gone_is_502(
    client: httpx.AsyncClient, targets: ScrapeTargets, tmp_path: Path
) -> None:
    gone = UnixAddress(str(tmp_path / "gone.sock"))
    targets.apply(status(Replica("echo-1", gone, ReplicaState.READY)))
    response = await client.get("/targets/echo-1/metrics")
    assert response.status_code == 502
    assert "echo-1: cannot be reached" in response.text


async def test_target_that_does_not_answer_is_504(
    client: httpx.AsyncClient, targets: ScrapeTargets, tmp_path: Path
) -> None:
    targets._seconds = 0.3
    async with replica(targets, tmp_path / "r.sock", hangs):
        response = await client.get("/targets/echo-1/metrics")
    assert (response.status_code, response.text) == (504, "echo-1: no metrics within 0.3 s")
