"""What every route works with: database, blobs, ingest, the bell of long polls."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import Connection

from registry.blobs import Blobs
from registry.datasets.ingest import Ingest
from registry.idempotency import Claim, Reply, idempotent
from registry.metrics import RegistryMetrics
from registry.names import ALIAS_PATTERN, NAME_PATTERN, SHA256_PATTERN
from registry.settings import RegistrySettings
from service.database import Database

T = TypeVar("T")
NamePath = Annotated[str, Path(pattern=NAME_PATTERN)]
AliasPath = Annotated[str, Path(pattern=ALIAS_PATTERN)]
DigestPath = Annotated[str, Path(pattern=SHA256_PATTERN)]
IdPath = Annotated[str, Path(pattern=r"^[0-9a-f]{1,64}$")]
VersionPath = Annotated[str, Path(pattern=r"^(latest|[0-9]{1,9})$")]
Limit = Annotated[int, Query(ge=1, le=1000)]
AfterNumber = Annotated[int, Query(ge=0, le=2**62)]
AfterName = Annotated[str, Query(max_length=128)]


class EventNotifier:
    """Wakes everybody who waits for the next event; closing wakes them for good."""

    def __init__(self) -> None:
        self.closed = False
        self._next = asyncio.Event()

    def ring(self) -> None:
        """Wake who listens now."""
        self._next.set()
        if not self.closed:
            self._next = asyncio.Event()

    def close(self) -> None:
        """Wake who listens, now and from now on."""
        self.closed = True
        self._next.set()

    def listen(self) -> Callable[[float], Awaitable[None]]:
        """A call that waits for the first ring from now on, at most so many seconds."""
        following = self._next

        async def wait(seconds: float) -> None:
            try:
                async with asyncio.timeout(seconds):
                    await following.wait()
            except TimeoutError:
                return

        return wait


@dataclass(slots=True)
class Service:
    """The parts of one running registry."""

    settings: RegistrySettings
    database: Database
    blobs: Blobs
    ingest: Ingest
    metrics: RegistryMetrics
    notifier: EventNotifier = field(default_factory=EventNotifier)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """The result of `work` on what is committed."""
        return await self.database.read(work)

    async def change(self, claim: Claim | None, work: Callable[[Connection], Reply]) -> Response:
        """The durable reply of a write, done once a claim; wakes who waits for events."""
        reply = await self.database.write(lambda connection: idempotent(connection, claim, work))
        self.notifier.ring()
        return response(reply)


def response(reply: Reply) -> Response:
    """A reply as JSON."""
    return JSONResponse(reply.body, reply.status)


def service_of(request: Request) -> Service:
    """The registry that serves the request."""
    service: Service = request.app.state.service
    return service


def identity_of(request: Request) -> str:
    """Who asks, as the guard noted."""
    identity: str = request.state.identity
    return identity


Registry = Annotated[Service, Depends(service_of)]
Identity = Annotated[str, Depends(identity_of)]


def body_of(record: Any, **more: Any) -> dict[str, Any]:
    """A record as JSON-able object."""
    return {**asdict(record), **more}


def page(name: str, items: list[dict[str, Any]], limit: int, key: str) -> dict[str, Any]:
    """A bounded list; `next` is the `after` of the following page, null at the end."""
    return {name: items, "next": items[-1][key] if len(items) == limit else None}


def tagged(request: Request, tag: str, body: Mapping[str, Any]) -> Response:
    """The body with its ETag, or 304 when the caller has it already."""
    headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
    if fresh(request, tag):
        return Response(status_code=304, headers=headers)
    content = json.dumps(body, allow_nan=False).encode()
    return Response(content, media_type="application/json", headers=headers)


def fresh(request: Request, tag: str) -> bool:
    """Whether If-None-Match holds `tag`."""
    sent = request.headers.get("if-none-match", "")
    offered = {part.strip().removeprefix("W/") for part in sent.split(",")}
    return f'"{tag}"' in offered or "*" in offered
