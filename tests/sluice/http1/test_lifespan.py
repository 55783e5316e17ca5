from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI

from sluice.http1.asgi import Receive, Scope, Send
from sluice.http1.lifespan import Lifespan, LifespanError


async def test_state_of_start_up_is_kept_and_shutdown_is_told() -> None:
    events: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        for event in ("startup", "shutdown"):
            assert await receive() == {"type": f"lifespan.{event}"}
            events.append(event)
            scope["state"][event] = True
            await send({"type": f"lifespan.{event}.complete"})

    lifespan = Lifespan(app)
    await lifespan.startup()
    assert (events, lifespan.state) == (["startup"], {"startup": True})
    await lifespan.shutdown()
    assert events == ["startup", "shutdown"]
    await lifespan.shutdown()


async def test_application_without_lifespan_is_no_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError(scope["type"])

    lifespan = Lifespan(app)
    await lifespan.startup()
    await lifespan.shutdown()


@pytest.mark.parametrize("event", ["startup", "shutdown"])
async def test_failure_that_is_told_is_an_error_with_its_text(event: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if event == "shutdown":
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": f"lifespan.{event}.failed", "message": "no database"})

    lifespan = Lifespan(app)
    if event == "shutdown":
        await lifespan.startup()
    with pytest.raises(LifespanError, match="no database"):
        await (lifespan.startup() if event == "startup" else lifespan.shutdown())
    await lifespan.shutdown()


async def test_application_that_raises_at_shutdown_is_an_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise LookupError("lost")

    lifespan = Lifespan(app)
    await lifespan.startup()
    with pytest.raises(LifespanError, match="lost"):
        await lifespan.shutdown()


async def test_framework_starts_and_reports_its_failure() -> None:
    @asynccontextmanager
    async def broken(app: FastAPI) -> AsyncIterator[None]:
        if app.title == "FastAPI":
            raise LookupError("no model")
        yield

    good = Lifespan(FastAPI())
    await good.startup()
    await good.shutdown()
    with pytest.raises(LifespanError, match="no model"):
        await Lifespan(FastAPI(lifespan=broken)).startup()
