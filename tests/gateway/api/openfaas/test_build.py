import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from gateway.api.application import application
from gateway.api.control import ControlPlane
from gateway.api.openfaas import build
from gateway.api.openfaas.build_events import BuildEvent, Status
from gateway.types.errors import InvalidRequestError
from tests.gateway.api.wired import Wired

CONTEXT = b"tar" * 1000


@dataclass(frozen=True)
class Event:
    log: tuple[str, ...] = ()
    image: str = ""
    status: Status = "in_progress"
    error: str = ""
    duration: float = 0.0


DONE = Event(("done",), "echo:1", "success", duration=1.23456)


@dataclass
class Builder:
    """Tells prepared events; `hold`, if given, is waited for before the last."""

    events: list[Event] = field(default_factory=lambda: [Event(("one", "two")), DONE])
    hold: asyncio.Event | None = None
    refusal: Exception | None = None
    contexts: list[bytes] = field(default_factory=list)
    ended: int = 0

    async def build(self, tar: Path) -> AsyncIterator[BuildEvent]:
        self.contexts.append(tar.read_bytes())
        if self.refusal:
            raise self.refusal
        try:
            for event in self.events[:-1]:
                yield event
            if self.hold:
                await self.hold.wait()
            for event in self.events[-1:]:
                yield event
        finally:
            self.ended += 1


def signature(body: bytes = CONTEXT, key: bytes = b"payload-key") -> str:
    return "sha256=" + hmac.new(key, body, "sha256").hexdigest()


@pytest.fixture
def builder() -> Builder:
    return Builder()


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    return tmp_path / "uploads"


@pytest.fixture
def app(control: ControlPlane, builder: Builder, uploads: Path) -> ASGIApp:
    settings = replace(control.settings, build_bytes=5000, builds=1)
    control = replace(control, settings=settings)
    return application(control, CollectorRegistry(), build.routes(control, builder, uploads))


@pytest.fixture
async def client(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


def headers(**more: str) -> dict[str, str]:
    return {"X-Build-Signature": signature(), "Accept": "application/x-ndjson", **more}


async def test_build_streams_progress_to_a_signed_request(
    client: httpx.AsyncClient, builder: Builder, uploads: Path
) -> None:
    response = await client.post("/build", content=CONTEXT, headers=headers())
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-ndjson")
    assert [json.loads(line) for line in response.text.splitlines()] == [
        {"log": ["one", "two"], "image": "", "status": "in_progress"},
        {"log": ["done"], "image": "", "status": "in_progress"},
        {"log": [], "image": "echo:1", "status": "success", "duration": 1.235},
    ]
    assert builder.contexts == [CONTEXT]
    assert list(uploads.iterdir()) == []


async def test_build_without_ndjson_answers_one_document(client: httpx.AsyncClient) -> None:
    sign = {"X-Build-Signature": signature()}
    response = await client.post("/build", content=CONTEXT, headers=sign)
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {
        "log": ["one", "two", "done"],
        "image": "echo:1",
        "status": "success",
        "duration": 1.235,
    }


async def test_build_that_fails_says_failed_and_why(
    client: httpx.AsyncClient, builder: Builder
) -> None:
    builder.events = [Event((), "echo:1", "failed", "no handler.py")]
    response = await client.post("/build", content=CONTEXT, headers=headers())
    (line,) = response.text.splitlines()
    assert json.loads(line)["status"] == "failed"
    assert json.loads(line)["error"] == "no handler.py"


async def test_build_that_ends_without_a_result_has_failed(
    client: httpx.AsyncClient, builder: Builder
) -> None:
    builder.events = []
    response = await client.post("/build", content=CONTEXT, headers=headers())
    assert json.loads(response.text)["status"] == "failed"


async def test_build_refused_at_once_is_400(client: httpx.AsyncClient, builder: Builder) -> None:
    builder.refusal = InvalidRequestError("context: expected a tar, got other bytes")
    response = await client.post("/build", content=CONTEXT, headers=headers())
    assert (response.status_code, response.text) == (
        400,
        "context: expected a tar, got other bytes",
    )


@pytest.mark.parametrize(
    "sign",
    [
        None,
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        signature(b"another body"),
        signature(key=b""),
        signature(key=b"p" * 43),
        signature()[7:],
    ],
)
async def test_build_bad_signature_is_401_before_anything_is_unpacked(
    client: httpx.AsyncClient, builder: Builder, uploads: Path, sign: str | None
) -> None:
    sent = {} if sign is None else {"X-Build-Signature": sign}
    response = await client.post("/build", content=CONTEXT, headers=sent)
    assert response.status_code == 401
    assert (builder.contexts, list(uploads.iterdir())) == ([], [])


async def test_build_context_over_the_limit_is_413(
    client: httpx.AsyncClient, builder: Builder, uploads: Path
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(6):
            yield b"x" * 1000

    body = b"x" * 6000
    told = await client.post("/build", content=body, headers=headers())
    chunked = await client.post("/build", content=pieces(), headers=headers())
    assert (told.status_code, chunked.status_code) == (413, 413)
    assert told.text == "body: expected at most 5000 bytes, got 6000"
    assert (builder.contexts, list(uploads.iterdir())) == ([], [])
    assert (await client.post("/build", content=CONTEXT, headers=headers())).status_code == 200


async def test_build_lines_stay_under_the_limit_of_gos_scanner(
    client: httpx.AsyncClient, builder: Builder
) -> None:
    long = "\x01" * 200_000
    builder.events = [
        Event((long, *("y" * 100,) * 2000)),
        Event((), "i", "failed", "\x01" * 100_000),
    ]
    response = await client.post("/build", content=CONTEXT, headers=headers())
    lines = response.content.splitlines()
    assert max(len(line) for line in lines) < 64 * 1024
    log = [text for line in lines for text in json.loads(line)["log"]]
    assert "".join(log) == long + "y" * 200_000


async def test_build_over_the_limit_of_builds_is_429(app: ASGIApp, builder: Builder) -> None:
    builder.hold = asyncio.Event()
    sign = signature()
    async with Wired(
        app, "POST", "/build", x_build_signature=sign, accept="application/x-ndjson"
    ) as one:
        await one.body(CONTEXT)
        assert (await one.next())["status"] == 200
        async with Wired(app, "POST", "/build", x_build_signature=sign) as two:
            await two.body(CONTEXT)
            assert (await two.next())["status"] == 429
            assert b"1 builds are running" in await two.rest()
        builder.hold.set()
        assert b'"success"' in await one.rest()
        await asyncio.wait_for(one.task, 60)
    async with Wired(app, "POST", "/build", x_build_signature=sign) as three:
        await three.body(CONTEXT)
        assert (await three.next())["status"] == 200


@pytest.mark.parametrize("accept", ["application/x-ndjson", "application/json"])
async def test_build_is_cancelled_when_the_client_leaves(
    app: ASGIApp, builder: Builder, uploads: Path, accept: str
) -> None:
    builder.hold = asyncio.Event()
    builder.events = [Event(("working",)), DONE]
    async with Wired(app, "POST", "/build", x_build_signature=signature(), accept=accept) as wired:
        await wired.body(CONTEXT)
        if accept == "application/x-ndjson":
            await wired.next()
            await wired.next()
        await wired.leave()
        await asyncio.wait_for(wired.task, 60)
    assert builder.ended == 1
    assert list(uploads.iterdir()) == []


async def test_build_out_of_time_has_failed(control: ControlPlane, uploads: Path) -> None:
    builder = Builder(hold=asyncio.Event())
    settings = replace(control.settings, build_timeout=0.1)
    control = replace(control, settings=settings)
    app = application(control, CollectorRegistry(), build.routes(control, builder, uploads))
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        stream = await client.post("/build", content=CONTEXT, headers=headers())
        single = await client.post(
            "/build", content=CONTEXT, headers={"X-Build-Signature": signature()}
        )
    last = json.loads(stream.text.splitlines()[-1])
    assert (last["status"], last["error"]) == ("failed", "the build took longer than 0.1 s")
    assert single.status_code == 504
    assert builder.ended == 2


async def test_build_context_that_does_not_arrive_gives_its_slot_back(
    control: ControlPlane, builder: Builder, uploads: Path
) -> None:
    settings = replace(control.settings, build_upload_timeout=0.05, builds=1)
    control = replace(control, settings=settings)
    app = application(control, CollectorRegistry(), build.routes(control, builder, uploads))
    for _ in range(2):
        async with Wired(app, "POST", "/build", x_build_signature=signature()) as wired:
            await wired.body(CONTEXT[:10], more=True)
            assert (await wired.next())["status"] == 504
            assert await wired.rest() == b"body: it did not arrive within 0.05 s"
    assert (builder.contexts, list(uploads.iterdir())) == ([], [])


async def test_build_cut_by_the_end_of_the_gateway_has_failed(
    app: ASGIApp, control: ControlPlane, builder: Builder
) -> None:
    builder.hold = asyncio.Event()
    async with Wired(
        app, "POST", "/build", x_build_signature=signature(), accept="application/x-ndjson"
    ) as wired:
        await wired.body(CONTEXT)
        await wired.next()
        await wired.next()
        control.stopping.set()
        last = json.loads(await wired.rest())
    assert (last["status"], last["error"]) == ("failed", "the gateway is stopping")
    assert builder.ended == 1


async def test_uploads_left_by_a_killed_gateway_are_removed(
    control: ControlPlane, builder: Builder, uploads: Path
) -> None:
    uploads.mkdir()
    (uploads / "old.upload.tar").write_bytes(b"half")
    build.routes(control, builder, uploads)
    assert list(uploads.iterdir()) == []


async def test_public_key_is_not_there(client: httpx.AsyncClient) -> None:
    response = await client.get("/publickey")
    assert response.status_code == 404
    assert "build secrets are not supported" in response.text
