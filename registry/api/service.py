"""Shared by all routes: the service's parts, path and query types, JSON responses."""

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
    """Wakes long polls that wait for the next event. After `close` no wait blocks."""

    def __init__(self) -> None:
        self.closed = False
        self._next = asyncio.Event()

    def ring(self) -> None:
        """Wake the current waiters."""
        self._next.set()
        if not self.closed:
            self._next = asyncio.Event()

    def close(self) -> None:
        """Wake the current waiters; later waits return at once."""
        self.closed = True
        self._next.set()

    def listen(self) -> Callable[[float], Awaitable[None]]:
        """`wait(seconds)`, which returns at the first `ring` after this call or at timeout."""
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
        """The result of `work` in a read transaction."""
        return await self.database.read(work)

    async def change(self, claim: Claim | None, work: Callable[[Connection], Reply]) -> Response:
        """The response to a write after its commit; a claim is executed once. Wakes long polls."""
        reply = await self.database.write(lambda connection: idempotent(connection, claim, work))
        self.notifier.ring()
        return response(reply)


def response(reply: Reply) -> Response:
    """A reply as a JSON response."""
    return JSONResponse(reply.body, reply.status)


def service_of(request: Request) -> Service:
    """The registry that serves the request."""
    service: Service = request.app.state.service
    return service


def identity_of(request: Request) -> str:
    """The caller's identity, set by the guard."""
    identity: str = request.state.identity
    return identity


Registry = Annotated[Service, Depends(service_of)]
Identity = Annotated[str, Depends(identity_of)]


def body_of(record: Any, **more: Any) -> dict[str, Any]:
    """A record as a JSON-serializable object."""
    return {**asdict(record), **more}


def page(name: str, items: list[dict[str, Any]], limit: int, key: str) -> dict[str, Any]:
    """One page of a list; `next` is the `after` of the following page, null at the end."""
    return {name: items, "next": items[-1][key] if len(items) == limit else None}


def tagged(request: Request, tag: str, body: Mapping[str, Any]) -> Response:
    """The body with its ETag, or 304 when If-None-Match holds `tag`."""
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
